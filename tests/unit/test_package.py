"""The Bento: it holds the champion and nothing else, and serves where there is no checkout and no network."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from recloop.errors import ModelError, ServingError
from recloop.exclusive import free_port
from recloop.project import Project
from recloop.serving.orphans import kill_family
from recloop.serving.package import build_bento
from recloop.serving.pointer import pack_only
from tests.conftest import ROOT
from tests.endpoint import Client, answers, make_project, until
from tests.packages import point_at

NO_NETWORK = """
import socket
connect = socket.socket.connect
def on_loopback_only(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise OSError(f"no network: {address}")
    return connect(self, address)
socket.socket.connect = on_loopback_only
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A checkout with two versions, the second live."""
    root = make_project(tmp_path / "project")
    shutil.copytree(ROOT / "src" / "recloop", root / "src" / "recloop", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("bentofile.yaml", "requirements-serving.lock"):
        shutil.copy(ROOT / name, root / name)
    pack_only(root / "var/live", "v1")  # as when version 1 went live
    point_at(root / "var/live", 2, previous=1)
    return Project(root)


def bare_python(folder: Path) -> Path:
    """A Python with all that is installed here but recloop, and without a network."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "here.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    (packages / "no_network.py").write_text(NO_NETWORK)
    (packages / "no_network.pth").write_text("import no_network\n")
    return folder / "bin" / "python"


def test_a_bento_serves_the_champion_where_there_is_no_checkout_and_no_network(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BENTOML_HOME")
    built = build_bento(project)
    assert built.version == 2
    assert re.fullmatch(
        r"built recloop:\w+ with version 2 inside\nserve it from any folder, where its events then go: "
        r"RECLOOP_DATABASE_URL=sqlite:///recloop\.db bentoml serve --host 127\.0\.0\.1 /.*",
        str(built),
    )
    assert project.var / "bentoml" in built.folder.parents
    inside = {file.relative_to(built.folder / "src").as_posix() for file in (built.folder / "src").rglob("*.*")}
    assert {name for name in inside if not name.startswith("recloop/")} == {
        "bentofile.yaml",
        "params.yaml",
        "var/live/champion.json",
        *(f"var/live/v2/{name}" for name in ("histories.parquet", "items.parquet", "model.json")),
        *(f"var/live/v2/{name}" for name in ("model.safetensors", "package.json")),
    }

    elsewhere = tmp_path / "elsewhere"
    shutil.move(built.folder, elsewhere / "bento")
    shutil.rmtree(project.root)
    python, port, log = bare_python(tmp_path / "bare"), free_port("127.0.0.1", 0), tmp_path / "log"
    missing = subprocess.run([python, "-c", "import bentoml, recloop"], capture_output=True, text=True)
    assert "No module named 'recloop'" in missing.stderr
    command = [
        python,
        "-m",
        "bentoml",
        "serve",
        elsewhere / "bento",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=elsewhere, stdout=file, stderr=file)
    try:
        until(lambda: answers(port, "/readyz") == 200, 90, log)
        client = Client(port)
        assert client.items(user_id="ann", k=2) == ["e", "d"]
        client.record({"event_id": "1", "user_id": "ann", "item_id": "e", "event": "click"})
        assert client.items(user_id="ann", k=2) == ["d", "c"]
    finally:
        kill_family(process)
    with sqlite3.connect(elsewhere / "recloop.db") as database:
        assert database.execute("SELECT event_id FROM events").fetchall() == [("1",)]
    assert not list((elsewhere / "bento").rglob("*.db"))


def test_without_a_champion_there_is_nothing_to_package(project: Project) -> None:
    (project.live / "champion.json").unlink()
    with pytest.raises(ServingError, match="there is no champion to package in ") as caught:
        build_bento(project)
    assert "recloop deploy" in (caught.value.remedy or "")


def test_a_damaged_champion_is_not_packaged(project: Project) -> None:
    (project.live / "v2" / "model.safetensors").write_bytes(b"half a mod")
    with pytest.raises(ModelError, match="truncated or damaged"):
        build_bento(project)


def test_a_bentofile_that_leaves_the_champion_out_is_found_out(project: Project) -> None:
    path = project.root / "bentofile.yaml"
    path.write_text(path.read_text().replace("  - /var/live/v*/*\n", ""))
    with pytest.raises(ServingError, match="does not hold version 2"):
        build_bento(project)


def test_a_build_that_fails_tells_bentomls_own_words(project: Project) -> None:
    (project.root / "bentofile.yaml").write_text("service: recloop.serving.service:Nothing\n")
    with pytest.raises(ServingError, match=r"`bentoml build` failed:(.|\n)*Nothing"):
        build_bento(project)
