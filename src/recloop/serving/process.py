"""`recloop serve`: the endpoint as a child process, and the thread that follows the `champion` alias.

The endpoint itself watches a file and knows no MLflow. This process asks MLflow from time to time which
version is champion and puts it where the endpoint looks; when MLflow is down, what is live stays live.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from types import FrameType

from recloop import telemetry
from recloop.errors import RecloopError, ServingError
from recloop.exclusive import choose_port, free_port, origin
from recloop.project import Project
from recloop.serving.orphans import end_with_parent, kill_family
from recloop.serving.parcel import check_package
from recloop.serving.pointer import CHAMPION, read_pointer

logger = logging.getLogger("recloop.serving")

SERVICE = "recloop.serving.service:Service"
FINISH_SECONDS = 12
"""How long the endpoint waits at its end for requests that it has begun. Their own deadline is before that: it is for
who does not read the answer"""
STOP_SECONDS = 45.0
"""How long the endpoint may take to answer what it has begun and write what waits."""


def serve(project: Project, *, wait: bool = False, port: int | None = None) -> None:
    """Run the endpoint on `serving.host`:`serving.port` until SIGTERM or SIGINT.

    Args:
        wait: start without a champion, too; requests get 503 until there is one.
        port: in place of `serving.port`; any free one for 0.

    Raises:
        ServingError: there is no champion, its package is damaged and cannot be had again, or the endpoint
            ended by itself.
        PlatformError: the port is in use.
    """
    serving = project.params.serving
    follower = Follower(project)
    if not wait and _unservable(project):
        follower.look()
        if fault := _unservable(project):
            why = f"; {follower.trouble}" if follower.trouble else ""
            raise ServingError(f"{fault.message}{why}", remedy=fault.remedy)
    _open_database(project)
    if port is None:
        port = choose_port(serving.host, serving.port, "serving.port", "RECLOOP_SERVING_PORT")
    else:
        port = free_port(serving.host, port)
    with _stopped_by_signals() as stop, _endpoint(project, serving.host, port) as child:
        follower.start(serving.poll_seconds)
        announced = False
        while not stop.wait(0.2):
            if child.poll() is not None:
                raise ServingError(
                    f"the endpoint ended by itself, with code {child.returncode}",
                    remedy="its messages above say why",
                )
            if not announced and _lives(serving.host, port):
                print(f"serving on {origin(serving.host, port)} (Ctrl-C stops it)", flush=True)
                announced = True


def _unservable(project: Project) -> ServingError | None:
    """What keeps the champion that was deployed from being served; None: nothing."""
    try:
        pointer = read_pointer(project.live)
        if pointer is None:
            demo = Project(project.var / "demo").live / CHAMPION
            return ServingError(
                f"there is no champion to serve in {project.live}",
                remedy="`make train` trains and promotes one; `recloop promote` promotes what is trained"
                + ("; `make serve IN=var/demo` serves the demo's" if demo.is_file() else ""),
            )
        check_package(project.live / pointer.folder, pointer.package_sha256)
    except ServingError as error:
        return error
    return None


class Follower:
    """Asks MLflow who is champion, and has that deployed. What goes wrong is told once, and tried again.

    The first look makes sure that what lies here is whole; the later ones are for another champion.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._verified = False
        self.trouble: str | None = None
        """What went wrong the last time; None: nothing."""

    def start(self, poll_seconds: float) -> None:
        """Look every `poll_seconds`, in a thread that ends with the process: a slow MLflow delays no stop."""

        def run() -> None:
            pause = threading.Event()
            while not pause.wait(poll_seconds):
                self.look()

        threading.Thread(target=run, name="follower", daemon=True).start()

    def look(self) -> None:
        """Look once."""
        from recloop.registry.deploy import deploy, deploy_if_changed

        try:
            if self._verified:
                deploy_if_changed(self._project)
            else:
                deploy(self._project)
                self._verified = True
        except Exception as error:  # whatever happens to MLflow, what is live stays live
            trouble = error.message if isinstance(error, RecloopError) else f"{type(error).__name__}: {error}"
            if trouble != self.trouble:
                logger.warning("the champion cannot be followed for now: %s", trouble)
            self.trouble = trouble
        else:
            self.trouble = None


def _open_database(project: Project) -> None:
    """Make the tables, or say why not, before a child process would with a traceback."""
    from recloop.storage import connect

    connect(project.database_url).dispose()


def command(host: str, port: int) -> list[str]:
    """What starts the endpoint, in the root of its project."""
    address = ["--host", host, "--port", str(port)]
    return [
        *(sys.executable, "-m", "bentoml", "serve", SERVICE),
        *(*address, "--timeout-graceful-shutdown", str(FINISH_SECONDS)),
    ]


@contextmanager
def _endpoint(project: Project, host: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """`bentoml serve` as a child; stopped, and waited for, at the end."""
    home = project.var / "bentoml"
    environment = telemetry.QUIET | {"BENTOML_HOME": str(home)} | os.environ
    child = subprocess.Popen(
        command(host, port),
        cwd=project.root,
        env=environment,
        process_group=0,  # Ctrl-C reaches this process alone, which then stops the child in good order
        preexec_fn=end_with_parent,
    )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            kill_family(child)


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before: list[tuple[signal.Signals, Callable[..., object] | int | None]] = [
        (number, signal.signal(number, on_signal)) for number in (signal.SIGTERM, signal.SIGINT)
    ]
    try:
        yield stop
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _lives(host: str, port: int) -> bool:
    connection = HTTPConnection(host, port, timeout=1)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
