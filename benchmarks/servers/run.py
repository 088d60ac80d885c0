"""One server at a time: started, waited for, measured, and ended with all that it has started.

    with server("litserve_sasrec", port=3100, package=folder) as process:
        before, _ = usage(process)
        ...
        after, megabytes = usage(process)

Should we be killed ourselves, `family.py` ends it all the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO, Any, NamedTuple

import psutil  # type: ignore[import-untyped]
import pyarrow.parquet as pq

from benchmarks.report import ROOT
from benchmarks.servers import environment
from benchmarks.servers.family import end_family, family
from recloop.telemetry import QUIET
from recloop.watchdog import MARK

READY_SECONDS = 90.0
POLL_SECONDS = 0.2
STOP_SECONDS = 10.0
ENVIRONMENT = QUIET | {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # its daemons listen on 127.0.0.1 alone, as they do there
    "RAY_AUTH_MODE": "disabled",  # else it keeps a token in the home folder
    "RAY_worker_niceness": "0",  # else its proxy and replica run after everything else, the load included
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # on busy cores its own 5 are not enough to import Ray
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
}


@dataclass(frozen=True)
class Peer:
    """A server that is measured."""

    title: str
    module: str
    path: str
    """What is posted to."""
    serves_model: bool
    """Whether it serves a package; else it says hello."""
    in_project: bool = True
    """Whether it runs in the project's environment; else in the peers' own."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """`{port}` stands for the port, `{next}` for the one after."""

    def body(self, user_id: str | None = None) -> dict[str, Any]:
        """A request's."""
        return {"user_id": user_id, "k": 10} if self.serves_model else {"name": "Ann"}


DIRECT = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
    "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": "{port}",
    "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": "{next}",
}
"""Ray Serve's own settings for throughput, with its replica on our port and no proxy."""
PEERS = {
    "recloop": Peer("recloop", "recloop_endpoint", "/recommend", serves_model=True),
    "bentoml_hello": Peer("BentoML, hello", "bentoml_hello", "/hello", serves_model=False),
    "starlette_hello": Peer("Starlette, hello", "starlette_hello", "/hello", serves_model=False),
    "litserve_sasrec": Peer("LitServe, SASRec", "litserve_sasrec", "/predict", serves_model=True, in_project=False),
    "ray_sasrec": Peer("Ray Serve, SASRec", "ray_sasrec", "/predict", serves_model=True, in_project=False),
    "ray_direct_sasrec": Peer(
        "Ray Serve without its proxy, SASRec",
        "ray_sasrec",
        "/predict",
        serves_model=True,
        in_project=False,
        environment=DIRECT,
    ),
}
"""Name → what it is."""


class Usage(NamedTuple):
    """What a family of processes took."""

    cpu_seconds: float
    """Since each of them was started; of those that have ended, what their parents know."""
    rss_mb: float
    """What is resident now; memory that several share counts once each."""


class ServerError(RuntimeError):
    """A server ended, or did not answer in time."""


@contextmanager
def server(name: str, *, port: int, package: Path | None = None, flags: Sequence[str] = ()) -> Iterator[psutil.Process]:
    """The server `name` of `PEERS` on 127.0.0.1:`port`, once it has answered. At the end nothing of it is left running.

    Args:
        name: which.
        port: free.
        package: what it serves, where it serves a model.
        flags: further ones for its command line, such as `--wait-ms 5`.

    Raises:
        ServerError: it ended, or did not answer within 90 s; with the end of what it said.
        ValueError: it needs a package, or the peers' environment is not there.
    """
    peer = PEERS[name]
    mark = uuid.uuid4().hex
    own = {name: value.format(port=port, next=port + 1) for name, value in peer.environment.items()}
    with tempfile.TemporaryDirectory(prefix="recloop-", ignore_cleanup_errors=True) as scratch, _watchdog(mark):
        log = Path(scratch) / "log"
        with log.open("wb") as output:
            child = subprocess.Popen(
                [*_command(peer, port, package), *flags],
                cwd=ROOT,
                env=os.environ | ENVIRONMENT | own | {MARK: mark, "BENTOML_HOME": scratch, "RAY_TMPDIR": scratch},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            _wait(child, peer, port, package, log)
            yield psutil.Process(child.pid)
        finally:
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(STOP_SECONDS)
            end_family(mark, STOP_SECONDS)
            child.wait()


def usage(process: psutil.Process) -> Usage:
    """Of a server's whole family."""
    seconds, resident = 0.0, 0
    for each in family(process.environ()[MARK]):
        with suppress(psutil.Error):
            times, memory = each.cpu_times(), each.memory_info()
            seconds += times.user + times.system + times.children_user + times.children_system
            resident += memory.rss
    return Usage(seconds, resident / 1e6)


def users_of(package: Path) -> list[str]:
    """Ids of the users a package knows."""
    ids: list[str] = pq.read_table(package / "histories.parquet", columns=["user_id"])["user_id"].to_pylist()
    return ids


def _command(peer: Peer, port: int, package: Path | None) -> list[str]:
    command = [
        sys.executable if peer.in_project else str(environment.PYTHON),
        "-m",
        f"benchmarks.servers.{peer.module}",
    ]
    command += ["--port", str(port)]
    if not peer.in_project and not environment.is_there():
        raise ValueError("the peers are not installed: `python -m benchmarks.servers.environment` installs them")
    if not peer.serves_model:
        return command
    if package is None:
        raise ValueError(f"{peer.title} serves a model: give it a package (benchmarks/servers/package.py makes one)")
    return [*command, "--package", str(package.resolve())]


@contextmanager
def _watchdog(mark: str) -> Iterator[None]:
    """Ends what is marked when we have ended, in whatever way."""
    command = [sys.executable, "-m", "benchmarks.servers.family", mark]
    watchdog = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        stdin: IO[bytes] | None = watchdog.stdin
        assert stdin is not None  # noqa: S101 (for the type checker)
        stdin.close()
        watchdog.wait()


def _wait(child: subprocess.Popen[bytes], peer: Peer, port: int, package: Path | None, log: Path) -> None:
    """Until it answers a request."""
    body = json.dumps(peer.body(users_of(package)[0] if package is not None else None))
    begun = time.monotonic()
    while not _answers(port, peer.path, body):
        ended, late = child.poll() is not None, time.monotonic() - begun > READY_SECONDS
        if ended or late:
            what = f"ended with {child.returncode}" if ended else f"did not answer within {READY_SECONDS:.0f} s"
            raise ServerError(f"{peer.title} {what}; it said:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(POLL_SECONDS)


def _answers(port: int, path: str, body: str) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
