"""`recloop mlflow`: the UI alone, on a database that is whole."""

from __future__ import annotations

import os
import socket
import sqlite3
from pathlib import Path

import pytest

from recloop.errors import PlatformError, RegistryError
from recloop.project import Project
from recloop.registry.server import serve_mlflow
from recloop.registry.tracking import open_tracking
from tests.trained import make_project


class Became(Exception):
    """The process was replaced by another program."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    def become(_program: str, arguments: list[str]) -> None:
        raise Became(arguments)

    monkeypatch.setattr(os, "execv", become)
    for name in ("MLFLOW_BACKEND_STORE_URI", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("RECLOOP_MLFLOW_PORT", "0")
    return make_project(tmp_path / "project")


def test_the_database_is_whole_before_the_server_has_it(project: Project) -> None:
    database = project.var / "mlflow.db"
    database.unlink()
    with pytest.raises(Became) as became:
        serve_mlflow(project, port=5123)
    assert became.value.args[0][-4:] == ["--host", "127.0.0.1", "--port", "5123"]
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
