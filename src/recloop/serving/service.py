"""The BentoML service: one worker that carries an `Endpoint` and the app in front of it.

Run in a project's root (`recloop serve` does), it serves `var/live/` and writes to the project's database. In
a Bento it serves the champion that was packed in, and writes to `$RECLOOP_DATABASE_URL`, else to `recloop.db`
in the folder that `bentoml serve` was started in: a Bento is not written to.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import bentoml

from recloop import telemetry
from recloop.project import Project
from recloop.serving.app import build_app

telemetry.silence()

app = build_app()


@bentoml.service(
    name="recloop",
    workers=1,
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(app, path="/")
class Service:
    """Recommendations from the live champion."""

    def __init__(self) -> None:
        # Imported by the worker alone: the process above, which only starts it, needs neither torch nor SQL.
        import torch

        from recloop.serving.endpoint import Endpoint
        from recloop.serving.metrics import Metrics
        from recloop.serving.orphans import end_with_parent
        from recloop.serving.schemas import Limits
        from recloop.storage import connect

        end_with_parent()
        logging.getLogger("recloop").setLevel(logging.INFO)
        # One answer at a time, on one processor: threads for so small a product cost more than they save.
        torch.set_num_threads(1)
        project = Project.find(Path.cwd())
        serving = project.params.serving
        self._endpoint = Endpoint(project.live, connect(_database_url(project)), serving, Metrics())
        app.state.endpoint = self._endpoint
        app.state.limits = Limits.of(serving)
        self._endpoint.start()

    async def __is_ready__(self) -> bool:
        return self._endpoint.ready

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        """Write what waits."""
        self._endpoint.stop()


def _database_url(project: Project) -> str:
    """Where events and impressions go."""
    if not (project.root.parent / "bento.yaml").is_file():
        return project.database_url
    import psutil  # type: ignore[import-untyped] # comes with BentoML

    # This process works inside the Bento; the one that started it still stands where the user does.
    started_in = Project(Path(psutil.Process(os.getppid()).cwd()))
    return started_in.url("RECLOOP_DATABASE_URL", "sqlite:///recloop.db")
