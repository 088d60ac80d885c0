"""Ports, the lock and the addresses. What runs is in tests/e2e/test_platform.py."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from recloop.errors import ConfigError, PlatformError
from recloop.exclusive import choose_port
from recloop.platform import Addresses, Platform
from recloop.project import Project
from tests.conftest import ROOT


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    return Project(tmp_path)


def choose(port: int) -> int:
    return choose_port("127.0.0.1", port, "platform.prefect_port", "RECLOOP_PREFECT_PORT")


def test_a_port_in_use_is_named_with_both_settings_that_change_it() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PlatformError, match=f"port {port} on 127.0.0.1 is in use") as caught:
            choose(port)
    assert caught.value.remedy is not None
    assert "platform.prefect_port in params.yaml, or RECLOOP_PREFECT_PORT" in caught.value.remedy


def test_port_zero_is_any_free_one() -> None:
    assert choose(0) > 0


def test_the_environment_wins_over_params(monkeypatch: pytest.MonkeyPatch) -> None:
    free = choose(0)
    monkeypatch.setenv("RECLOOP_PREFECT_PORT", str(free))
    assert choose(1) == free


@pytest.mark.parametrize("value", ["many", "65536", "-1", ""])
def test_an_environment_that_holds_no_port_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("RECLOOP_PREFECT_PORT", value)
    with pytest.raises(ConfigError, match=f"RECLOOP_PREFECT_PORT='{value}' is not a port"):
        choose(4200)


@pytest.mark.parametrize("setting", ["SERVING", "PREFECT", "MLFLOW"])
def test_nothing_is_started_while_a_port_is_in_use(
    project: Project, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    for name in ("SERVING", "PREFECT", "MLFLOW"):
        monkeypatch.setenv(f"RECLOOP_{name}_PORT", "0")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setenv(f"RECLOOP_{setting}_PORT", str(other.getsockname()[1]))
        with pytest.raises(PlatformError, match="is in use"), Platform(project):
            pass
    assert not (project.var / "log").exists()


def test_a_second_platform_of_a_project_is_refused_and_told_of_the_first(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from recloop.exclusive import Lock\n"
        "with Lock(Path(sys.argv[1]), 'it'):\n"
        "    print(os.getpid(), flush=True)\n"
        "    time.sleep(600)\n"
    )
    lock = project.var / "platform.lock"
    with subprocess.Popen([sys.executable, "-c", hold, str(lock)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        pid = first.stdout.readline().strip()
        try:
            with pytest.raises(PlatformError, match=rf"runs already, or is stopping \(process {pid}\)"):
                Platform(project).__enter__()
        finally:
            first.kill()
    with socket.socket() as other:  # the lock went with its holder: the next obstacle is the port
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setenv("RECLOOP_SERVING_PORT", str(other.getsockname()[1]))
        with pytest.raises(PlatformError, match="is in use"):
            Platform(project).__enter__()


def test_the_addresses_say_what_is_not_there_yet(tmp_path: Path) -> None:
    docs = tmp_path / "index.html"
    docs.touch()
    addresses = Addresses(
        endpoint="http://127.0.0.1:3000",
        prefect="http://127.0.0.1:4200",
        prefect_api="http://127.0.0.1:4200/api",
        mlflow=None,
        data_docs=docs,
        drift_report=tmp_path / "latest.html",
    )
    assert str(addresses).splitlines() == [
        "  endpoint      http://127.0.0.1:3000",
        "  Prefect       http://127.0.0.1:4200",
        "  MLflow        not started",
        f"  Data Docs     {docs}",
        f"  drift report  {tmp_path / 'latest.html'} (after the first verdict)",
        "  for `prefect`: export PREFECT_API_URL=http://127.0.0.1:4200/api",
    ]
