"""The BentoML service: workers that carry an `Endpoint` each, and the app in front of it.

Run in a project's root (`recloop serve` does), it serves `var/live/` and writes to the project's database. In
a Bento it serves the champion that was packed in, and writes to `$RECLOOP_DATABASE_URL`, else to `recloop.db`
in the folder that `bentoml serve` was started in: a Bento is not written to.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import bentoml
from _bentoml_sdk import Service as BentoService  # type: ignore[import-untyped]

from recloop import telemetry
from recloop.errors import ConfigError
from recloop.project import Project
from recloop.serving.app import App

telemetry.silence()

logger = logging.getLogger("recloop.serving")

app = App()


class Front(BentoService[Any]):  # type: ignore[misc]
    """A service whose own paths are answered before BentoML's middlewares: `bentoml.service` takes its class."""

    def to_asgi(self, is_main: bool = True) -> Any:
        """BentoML's app, with ours before it."""
        return app.before(super().to_asgi(is_main=is_main))


def _workers() -> int:
    """As params.yaml says; where there is none (BentoML also imports this elsewhere), one."""
    try:
        return Project.find(Path.cwd()).params.serving.workers
    except ConfigError:
        return 1


@bentoml.service(
    name="recloop",
    service_class=Front,
    workers=_workers(),
    logging={"access": {"enabled": False}},
)
class Service:
    """Recommendations from the live champion."""

    def __init__(self) -> None:
        # Imported by the worker alone: the process above, which only starts it, needs neither torch nor SQL.
        import torch

        from recloop.serving.access import Access
        from recloop.serving.admin import Admin
        from recloop.serving.endpoint import Endpoint
        from recloop.serving.metrics import Metrics
        from recloop.serving.orphans import end_with_parent
        from recloop.storage import connect

        end_with_parent()
        logging.getLogger("recloop").setLevel(logging.INFO)
        # One answer at a time, on one processor: threads for so small a product cost more than they save.
        torch.set_num_threads(1)
        # A thread that writes to the database gives way to an answer that soon, not only after 5 ms.
        sys.setswitchinterval(0.0005)
        project = Project.find(Path.cwd())
        packed = (project.root.parent / "bento.yaml").is_file()
        serving, metrics = project.params.serving, Metrics()
        database = connect(_beside_bento() if packed else project.database_url, lock_seconds=LOCK_SECONDS)
        self._endpoint = Endpoint(project.live, database, serving, metrics)
        self._endpoint.start()
        if serving.auth == "off" and bentoml.server_context.worker_index in (None, 1):
            logger.warning("keys are off (serving.auth): this machine alone is answered, and may do what an admin may")
        app.use(
            self._endpoint,
            Admin(self._endpoint, database, None if packed else project.root),
            Access(serving, lambda: self._endpoint.keys),
            serving,
            project.params.gate,
            metrics,
        )

    async def __is_ready__(self) -> bool:
        return self._endpoint.unready is None

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        """Write what waits."""
        self._endpoint.stop()


LOCK_SECONDS = 5.0
"""How long an event waits for a database that another process has locked, before its sender is told to try again"""


def _beside_bento() -> str:
    """Where events and impressions go that a Bento takes."""
    import psutil  # type: ignore[import-untyped] # comes with BentoML

    # This process works inside the Bento; the one that started it still stands where the user does.
    started_in = Project(Path(psutil.Process(os.getppid()).cwd()))
    return started_in.url("RECLOOP_DATABASE_URL", "sqlite:///recloop.db")
