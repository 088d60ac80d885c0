"""Everything that runs beside the data: Prefect, its two workers, MLflow's UI and the endpoint, on loopback.

`recloop platform` runs it until it is interrupted; the demo and the tests use `Platform` as a context. State
is in the project's `var/`, logs are in `var/log/`. `processes.py` says what becomes of a process that dies.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from recloop.exclusive import Lock, choose_port, origin
from recloop.processes import Program, Programs, Say, answers
from recloop.project import Project

HOST = "127.0.0.1"
POOL = "recloop"
WORKERS = {"retrainer": "retrain", "monitor": "monitor"}
"""Worker → the queue it takes runs from: a long training does not keep the monitor waiting."""
START_SECONDS = 180.0


@dataclass(frozen=True)
class Addresses:
    """Where to find what."""

    endpoint: str
    prefect: str
    prefect_api: str
    mlflow: str | None
    data_docs: Path
    drift_report: Path

    def __str__(self) -> str:
        places = {
            "endpoint": self.endpoint,
            "Prefect": self.prefect,
            "MLflow": self.mlflow or "not started",
            "Data Docs": _path(self.data_docs, "after the first training"),
            "drift report": _path(self.drift_report, "after the first verdict"),
        }
        lines = [f"  {name:<14}{place}" for name, place in places.items()]
        return "\n".join([*lines, f"  for `prefect`: export PREFECT_API_URL={self.prefect_api}"])


def run_platform(project: Project, say: Say = print) -> None:
    """Run the platform until SIGINT or SIGTERM.

    Raises:
        PlatformError: a port is in use, the platform runs already, or a process does not start.
    """
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, _interrupt)
    try:
        with Platform(project, say=say) as platform:
            say(f"\nthe platform runs; Ctrl-C stops it\n{platform.addresses}")
            threading.Event().wait()
    except KeyboardInterrupt:
        say("stopped")


class Platform:
    """The platform of a project. A context: it runs inside, and all of it has stopped at the end.

    Args:
        project: whose.
        mlflow: whether to start MLflow's UI, which nothing else needs; not where there is a server already.
        schedules: whether the schedules in `prefect.yaml` start runs.
        say: tells a person what happens.
    """

    def __init__(self, project: Project, *, mlflow: bool = True, schedules: bool = True, say: Say = print) -> None:
        self._project = project
        self._remote_mlflow = project.mlflow_url if project.mlflow_url.startswith("http") else None
        self._with_mlflow = mlflow and self._remote_mlflow is None
        self._schedules = schedules
        self._say = say
        self._exit = ExitStack()

    @staticmethod
    def lock(project: Project) -> Lock:
        """What a running platform of the project holds."""
        return Lock(project.var / "platform.lock", f"the platform of {project.root}")

    def __enter__(self) -> Platform:
        with ExitStack() as stack:
            lock = stack.enter_context(self.lock(self._project))
            self._choose_ports()
            programs = stack.enter_context(
                Programs(
                    self._project.root,
                    self._project.var / "log",
                    self._environment(),
                    say=self._say,
                    keep_open=(lock.descriptor,),
                )
            )
            self._start(programs)
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    @property
    def addresses(self) -> Addresses:
        """Where to find what."""
        prefect = f"http://{HOST}:{self._prefect_port}"
        return Addresses(
            endpoint=origin(self._serving_host, self._serving_port),
            prefect=prefect,
            prefect_api=f"{prefect}/api",
            mlflow=f"http://{HOST}:{self._mlflow_port}" if self._with_mlflow else self._remote_mlflow,
            data_docs=self._project.reports / "data-docs" / "index.html",
            drift_report=self._project.reports / "drift" / "latest.html",
        )

    def _choose_ports(self) -> None:
        params = self._project.params
        self._serving_host = params.serving.host
        self._serving_port = choose_port(
            self._serving_host, params.serving.port, "serving.port", "RECLOOP_SERVING_PORT"
        )
        self._prefect_port = choose_port(
            HOST, params.platform.prefect_port, "platform.prefect_port", "RECLOOP_PREFECT_PORT"
        )
        if self._with_mlflow:
            self._mlflow_port = choose_port(
                HOST, params.platform.mlflow_port, "platform.mlflow_port", "RECLOOP_MLFLOW_PORT"
            )

    def _environment(self) -> dict[str, str]:
        return {
            "RECLOOP_ROOT": str(self._project.root),
            "PREFECT_HOME": str(self._project.var / "prefect"),
            "PREFECT_API_URL": self.addresses.prefect_api,
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": str(self._schedules),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "5",
            # On disk: kept in memory, a server that was started again would never give a run's slot back.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        }

    def _start(self, programs: Programs) -> None:
        """All at once, but deployments after the server, and workers after the deployments."""
        begun = time.monotonic()
        servers = [self._prefect(), self._endpoint(), *([self._mlflow()] if self._with_mlflow else [])]
        for server in servers:
            programs.start(server)
        programs.wait("prefect", seconds=START_SECONDS)
        programs.start(Program("deploy", (sys.executable, "-m", "flows.deploy", "--idle"), answers=None))
        programs.wait("deploy", seconds=START_SECONDS)
        for line in programs.said("deploy"):
            if line.startswith("recloop: "):
                self._say(line.removeprefix("recloop: "))
        for worker, queue in WORKERS.items():
            programs.start(self._worker(worker, queue))
        programs.wait(*(server.name for server in servers), *WORKERS, seconds=START_SECONDS)
        programs.watch()
        self._say(f"all ready  after {time.monotonic() - begun:4.1f} s")

    def _prefect(self) -> Program:
        arguments = ("server", "start", "--host", HOST, "--port", str(self._prefect_port))
        url = f"{self.addresses.prefect_api}/ready"
        return Program("prefect", (sys.executable, "-m", "prefect", *arguments), lambda: answers(url))

    def _mlflow(self) -> Program:
        arguments = ("mlflow", "--port", str(self._mlflow_port))
        url = f"{self.addresses.mlflow}/health"
        return Program("mlflow", (sys.executable, "-m", "recloop.cli", *arguments), lambda: answers(url))

    def _endpoint(self) -> Program:
        arguments = ("serve", "--wait", "--port", str(self._serving_port))
        url = f"{self.addresses.endpoint}/livez"
        return Program("endpoint", (sys.executable, "-m", "recloop.cli", *arguments), lambda: answers(url))

    def _worker(self, name: str, queue: str) -> Program:
        arguments = ("worker", "start", "--pool", POOL, "--work-queue", queue, "--name", name)
        url, since = f"{self.addresses.prefect_api}/work_pools/{POOL}/workers/filter", datetime.now(UTC)
        return Program(name, (sys.executable, "-m", "prefect", *arguments), lambda: _heard_of(url, name, since))


def _path(path: Path, otherwise: str) -> str:
    return str(path) if path.exists() else f"{path} ({otherwise})"


def _interrupt(_sign: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _heard_of(url: str, worker: str, since: datetime) -> bool:
    """Whether the Prefect server has heard of a worker since then."""
    request = Request(url, data=b"{}", headers={"Content-Type": "application/json"})  # noqa: S310 (ours, and http)
    try:
        with urlopen(request, timeout=2) as answer:  # noqa: S310
            workers = json.load(answer)
    except (URLError, OSError):
        return False
    return any(
        found["name"] == worker and datetime.fromisoformat(found["last_heartbeat_time"]) >= since
        for found in workers
        if found["last_heartbeat_time"]
    )
