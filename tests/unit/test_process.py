"""`recloop serve`: when it starts, when it does not and why, and that nothing of it is left behind."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
import types
from pathlib import Path

import pytest

from recloop.errors import PlatformError, RegistryError, ServingError
from recloop.exclusive import free_port
from recloop.project import Project
from recloop.serving.process import Follower, serve
from tests.endpoint import Client, answers, make_project, until
from tests.packages import point_at, write_package


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(make_project(tmp_path / "project"))


def follow_with(monkeypatch: pytest.MonkeyPatch, deploy: object) -> None:
    """Let the follower call this instead of asking MLflow."""
    stand_in = types.ModuleType("recloop.registry.deploy")
    stand_in.deploy = stand_in.deploy_if_changed = deploy  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "recloop.registry.deploy", stand_in)


def test_without_a_champion_it_says_how_to_get_one(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(project: Project) -> bool:
        raise RegistryError("model 'recloop' has no champion")

    follow_with(monkeypatch, nobody)
    with pytest.raises(ServingError, match=r"there is no champion to serve in .*; model 'recloop' has no") as caught:
        serve(project)
    assert caught.value.remedy
    assert "make train" in caught.value.remedy
    assert "demo" not in caught.value.remedy

    demo = Project(project.var / "demo")
    write_package(demo.live / "v1")
    point_at(demo.live, 1)
    with pytest.raises(ServingError) as caught:
        serve(project)
    assert "`make serve IN=var/demo` serves the demo's" in (caught.value.remedy or "")


def test_a_damaged_package_that_cannot_be_had_again_is_said(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(project: Project) -> bool:
        raise RegistryError("MLflow is down")

    follow_with(monkeypatch, down)
    write_package(project.live / "v1")
    point_at(project.live, 1)
    (project.live / "v1" / "items.parquet").write_bytes(b"half")
    with pytest.raises(ServingError, match=r"v1 is not the package that was deployed.*; MLflow is down") as caught:
        serve(project)
    assert "recloop deploy" in (caught.value.remedy or "")


def test_a_port_in_use_is_named_with_the_setting_to_change(project: Project) -> None:
    write_package(project.live / "v1")
    point_at(project.live, 1)
    with socket.socket() as other:
        other.bind(("127.0.0.1", project.params.serving.port))
        other.listen()
        ended = subprocess.run(
            [sys.executable, "-m", "recloop.cli", "serve"],
            cwd=project.root,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert ended.returncode == 2
    assert ended.stderr == (
        f"recloop: port {project.params.serving.port} on 127.0.0.1 is in use\n"
        "  → stop what listens there, or set serving.port in params.yaml, or RECLOOP_SERVING_PORT\n"
    )


def test_a_database_that_cannot_be_had_is_said_before_anything_starts(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(project.live / "v1")
    point_at(project.live, 1)
    monkeypatch.setenv("RECLOOP_DATABASE_URL", "oracel://nowhere")
    with pytest.raises(Exception, match="cannot be used"):
        serve(project)


def test_a_free_port_is_found_for_zero() -> None:
    port = free_port("127.0.0.1", 0)
    assert free_port("127.0.0.1", port) == port


def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    with pytest.raises(PlatformError, match=r"port 0 on 192\.0\.2\.1 cannot be had"):
        free_port("192.0.2.1", 0)


def test_the_follower_tells_of_a_trouble_once_and_goes_on(
    project: Project, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    happens = iter(
        [
            RegistryError("MLflow is down"),
            RegistryError("MLflow is down"),
            OSError("disk"),
            None,
            OSError("disk"),
        ]
    )
    asked: list[Project] = []

    def deploy_if_changed(project: Project) -> bool:
        asked.append(project)
        trouble = next(happens)
        if trouble is not None:
            raise trouble
        return False

    follow_with(monkeypatch, deploy_if_changed)
    follower = Follower(project)
    troubles = []
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            follower.look()
            troubles.append(follower.trouble)
    assert asked == [project] * 5
    assert troubles == ["MLflow is down", "MLflow is down", "OSError: disk", None, "OSError: disk"]
    assert [record.getMessage() for record in caplog.records] == [
        "the champion cannot be followed for now: MLflow is down",
        "the champion cannot be followed for now: OSError: disk",
        "the champion cannot be followed for now: OSError: disk",
    ]


@pytest.fixture
def waiting(project: Project, tmp_path: Path) -> subprocess.Popen[bytes]:
    """`recloop serve --wait` without a champion, up and asking for patience."""
    log = tmp_path / "serve.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "recloop.cli", "serve", "--wait"],
            cwd=project.root,
            stdout=file,
            stderr=file,
        )
    until(lambda: answers(project.params.serving.port, "/livez") == 200, 90, log)
    return process


def test_it_waits_for_a_champion_serves_it_and_stops_in_good_order(
    project: Project, waiting: subprocess.Popen[bytes]
) -> None:
    port = project.params.serving.port
    client = Client(port)
    status, told = client.post("/recommend", {"user_id": "ann"})
    assert status == 503
    assert told["error"] == "no champion is live yet"
    assert "make train" in told["remedy"]
    assert client.post("/model", {})[0] == 503
    status, body = client.send("GET", "/readyz")
    assert (status, json.loads(body)) == (503, told)
    assert client.record({"event_id": "1", "user_id": "ann", "item_id": "b", "event": "click"})["stored"] == 1
    point_at(project.live, 1)
    until(lambda: answers(port, "/readyz") == 200, 30)
    assert client.items(user_id="ann", k=1) == ["c"]  # a is in the package, b came before there was one
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait(60) == 0
    assert answers(port, "/livez") is None
    with (project.root / "var/recloop.db").open("rb") as file:
        assert file.read(15) == b"SQLite format 3"
    log = (project.root.parent / "serve.log").read_text()
    assert f"serving on http://127.0.0.1:{port}" in log
    assert log.count("keys are off (serving.auth): this machine alone is answered") == 1
    assert "Traceback" not in log


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_a_kill_9_leaves_nothing_on_the_port(project: Project, waiting: subprocess.Popen[bytes]) -> None:
    waiting.kill()
    waiting.wait()
    until(lambda: answers(project.params.serving.port, "/livez") is None, 30)
