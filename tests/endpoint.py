"""A real endpoint to test against: `bentoml serve` in a project of its own, and a client of it."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil

from recloop.exclusive import free_port
from recloop.serving.orphans import kill_family
from recloop.serving.process import command
from tests.conftest import ROOT
from tests.packages import COUNTS, point_at, write_package
from tests.shop import change_params


class Client:
    """One connection, kept open."""

    def __init__(self, port: int, key: str | None = None, *, patience: float = 20) -> None:
        self.port = port
        self._connection = HTTPConnection("127.0.0.1", port, timeout=patience)
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    def connect(self) -> None:
        """Connect now, and not with the first request."""
        self._connection.connect()

    def send(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        status, _, answer = self.exchange(method, path, body)
        return status, answer

    def exchange(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers (by names in lower case) and body of the answer."""
        self._connection.request(method, path, body, self._headers | headers)
        answer = self._connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def post(self, path: str, content: object) -> tuple[int, Any]:
        status, body = self.send("POST", path, json.dumps(content).encode())
        return status, json.loads(body)

    def recommend(self, **request: object) -> Any:
        status, answer = self.post("/recommend", request)
        assert status == 200, answer
        return answer

    def items(self, **request: object) -> list[str]:
        return [item["item_id"] for item in self.recommend(**request)["items"]]

    def record(self, *events: dict[str, object]) -> Any:
        status, answer = self.post("/events", {"events": events})
        assert status == 200, answer
        return answer

    def metrics(self) -> dict[str, float]:
        _, body = self.send("GET", "/metrics")
        found = re.findall(r"^(recloop_\S+) (\S+)$", body.decode(), re.MULTILINE)
        return {name: float(value) for name, value in found}


class Endpoint:
    """`bentoml serve` in a project of its own."""

    def __init__(self, project: Path, environment: Mapping[str, str] | None = None) -> None:
        self.project, self.port = project, free_port("127.0.0.1", 0)
        self._environment = os.environ | (environment or {})
        self.live = project / "var" / "live"
        self.database = project / "var" / "recloop.db"
        self.log = project / "serve.log"
        self._process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Started, and ended as an orchestrator would."""
        self.start()
        try:
            yield
        finally:
            self.end(signal.SIGTERM)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command("127.0.0.1", self.port),
                cwd=self.project,
                env=self._environment,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        until(lambda: answers(self.port, "/readyz") == 200, 90, self.log)

    def end(self, how: signal.Signals) -> None:
        assert self._process is not None
        if how is signal.SIGKILL:
            kill_family(self._process)
        else:
            self._process.send_signal(how)
            self._process.wait(60)

    def client(self, key: str | None = None, *, patience: float = 20) -> Client:
        return Client(self.port, key, patience=patience)

    def workers(self) -> list[psutil.Process]:
        """The processes that answer."""
        assert self._process is not None
        family = psutil.Process(self._process.pid).children(recursive=True)
        return [each for each in family if "_bentoml_impl.worker.service" in " ".join(each.cmdline())]

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.database, timeout=10) as connection:
            return connection.execute(query, values).fetchall()

    def swap(self, version: int, client: Client) -> None:
        point_at(self.live, version)
        until(lambda: client.recommend(k=1)["model_version"] == version, 30)


def until(holds: Callable[[], bool], seconds: float, log: Path | None = None) -> None:
    end = time.monotonic() + seconds
    while not holds():
        told = log.read_text() if log is not None and log.exists() else ""
        assert time.monotonic() < end, f"it did not come about in {seconds} s\n{told}"
        time.sleep(0.05)


def answers(port: int, path: str) -> int | None:
    """The status of a GET; None where nothing answers."""
    try:
        return Client(port).send("GET", path)[0]
    except OSError:
        return None


def make_project(root: Path, params: Mapping[str, object] | None = None) -> Path:
    root.mkdir()
    (root / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    change_params(
        root,
        {
            "serving.port": free_port("127.0.0.1", 0),
            "serving.poll_seconds": 0.05,
            "serving.max_k": 20,
            "serving.max_history": 30,
            "serving.max_batch": 3,
            **(params or {}),
        },
    )
    write_package(root / "var/live/v1")
    write_package(root / "var/live/v2", counts={item: 6 - count for item, count in COUNTS.items()})
    return root
