"""`recloop mlflow`: the UI alone, on a database that is whole."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from recloop.errors import PlatformError, RegistryError
from recloop.processes import answers
from recloop.project import Project
from recloop.registry.server import serve_mlflow
from recloop.registry.tracking import open_tracking
from tests.trained import make_project


class Started(Exception):
    """The server's process would have been started."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    def start(arguments: list[str], **_: object) -> None:
        raise Started(arguments)

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    for name in ("MLFLOW_BACKEND_STORE_URI", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("RECLOOP_MLFLOW_PORT", "0")
    return make_project(tmp_path / "project")


def test_the_database_is_whole_before_the_server_has_it(project: Project) -> None:
    database = project.var / "mlflow.db"
    database.unlink()
    with pytest.raises(Started) as started:
        serve_mlflow(project, port=5123)
    assert started.value.args[0][-4:] == ["--host", "127.0.0.1", "--port", "5123"]
    assert os.environ["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{database}"
    with sqlite3.connect(database) as opened:
        assert opened.execute("select name from experiments where name = 'recloop'").fetchone() == ("recloop",)
    assert open_tracking(project).experiment_id != "0"


def test_a_port_in_use_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("RECLOOP_MLFLOW_PORT", str(port))
        with pytest.raises(PlatformError, match=f"port {port} on 127.0.0.1 is in use"):
            serve_mlflow(project)


def test_a_server_elsewhere_is_not_started_again(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECLOOP_MLFLOW_URL", "http://127.0.0.1:9/")
    with pytest.raises(RegistryError, match="runs elsewhere, at http://127"):
        serve_mlflow(project)


def test_it_says_where_it_is_when_it_is_there_and_ends_quietly(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    with (tmp_path / "said").open("w+") as said:
        command = [sys.executable, "-m", "recloop.cli", "mlflow", "--port", "0"]
        process = subprocess.Popen(command, cwd=project.root, stdout=subprocess.PIPE, stderr=said, text=True)
        assert process.stdout is not None
        form = re.compile(r"MLflow is at (http://127\.0\.0\.1:\d+) \(Ctrl-C stops it\)\n")
        told = next(filter(None, map(form.fullmatch, process.stdout)))  # MLflow has something to say before
        assert answers(told[1])
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert not answers(told[1])
        said.seek(0)
        assert "Traceback" not in said.read()


def test_a_server_that_ends_by_itself_is_an_error(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended:
        def poll(self) -> int:
            return 3

        wait = poll

    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: Ended())
    with pytest.raises(PlatformError, match="ended by itself, with code 3"):
        serve_mlflow(project)
