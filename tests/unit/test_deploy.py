"""What is live on this machine: whole, verified, and pointed at only when it is there."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from recloop.errors import RegistryError
from recloop.files import sha256
from recloop.project import Project
from recloop.registry import history, versions
from recloop.registry.deploy import current, deploy, deploy_if_changed
from recloop.registry.promotion import promote
from recloop.registry.tracking import open_tracking
from recloop.serving.engine import Engine
from recloop.serving.parcel import PACKAGE_FILES
from recloop.serving.pointer import CHALLENGER, read_pointer
from tests.asking import ask, ids
from tests.trained import make_project, write_model


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """One champion, v1, which is live."""
    project = make_project(tmp_path / "project")
    write_model(project, "o")
    promote(project, reason="the first")
    return project


def test_what_is_live_is_the_package_alone_and_can_be_served(project: Project) -> None:
    assert sorted(path.name for path in (project.live / "v1").iterdir()) == sorted(PACKAGE_FILES)
    engine = Engine.load(project.live / "v1")
    assert ids(engine, ask(engine, "u00", k=2)) == ["o", "e"]  # a, b, c and d were seen


def test_who_did_not_win_is_put_beside_the_champion_until_it_does(project: Project) -> None:
    assert current(project, CHALLENGER) is None
    write_model(project, "n")
    promote(project, reason="no better")
    assert current(project, CHALLENGER) is None, "a promotion that changes nothing deploys nothing"
    assert deploy_if_changed(project) is False, "the champion is the same"
    challenger = current(project, CHALLENGER)
    assert challenger is not None
    assert (challenger.version, challenger.reason) == (2, "no better")
    assert sorted(path.name for path in (project.live / "v2").iterdir()) == sorted(PACKAGE_FILES)

    versions.point(open_tracking(project), "champion", 2)
    assert deploy_if_changed(project) is True
    assert current(project, CHALLENGER) is None
    assert deploy_if_changed(project) is False


def test_a_challenger_that_was_damaged_here_is_fetched_again(project: Project) -> None:
    write_model(project, "n")
    promote(project, reason="no better")
    deploy(project)
    (project.live / "v2" / "items.parquet").write_bytes(b"PAR1")
    deploy(project)
    assert Engine.load(project.live / "v2").info.model == "popularity"


def test_the_endpoint_reads_the_pointer_as_it_is_written(project: Project) -> None:
    pointer = read_pointer(project.live)

    assert pointer is not None
    assert (pointer.version, pointer.folder, pointer.previous) == (1, "v1", None)
    row = history.ledger(project).last()
    assert row is not None
    assert pointer.since.startswith("20")
    assert pointer.since.endswith("+00:00")


def test_deploying_again_changes_nothing(project: Project) -> None:
    before = {path: path.stat().st_mtime_ns for path in project.live.rglob("*") if path.name != ".lock"}

    assert str(deploy(project)).startswith("v1 is live already, champion since 20")
    assert deploy_if_changed(project) is False

    assert before == {path: path.stat().st_mtime_ns for path in project.live.rglob("*") if path.name != ".lock"}


def test_the_follower_deploys_an_alias_moved_by_hand_and_the_history_tells(project: Project) -> None:
    write_model(project, "n")
    promote(project, reason="no better")
    tracking = open_tracking(project)
    versions.point(tracking, "champion", 2)

    assert deploy_if_changed(project) is True
    assert deploy_if_changed(project) is False

    live = current(project)
    assert live is not None
    assert (live.version, live.previous) == (2, 1)
    assert [row.action for row in history.ledger(project).rows()] == ["promote", "outside"]


def test_the_version_before_is_kept_and_older_ones_go(project: Project) -> None:
    tracking = open_tracking(project)
    for best in "nml":
        write_model(project, best)
        versions.point(tracking, "champion", promote(project, reason="by hand").version)
        deploy(project)

    assert sorted(path.name for path in project.live.glob("v*")) == ["v3", "v4"]
    assert "!/v4/" in (project.live / ".bentoignore").read_text()  # a Bento takes this one alone
    live = current(project)
    assert live is not None
    assert (live.version, live.previous) == (4, 3)


@pytest.mark.parametrize("file", PACKAGE_FILES)
def test_what_was_damaged_on_this_machine_is_mended_by_deploying(project: Project, file: str) -> None:
    whole = sha256(project.live / "v1")
    (project.live / "v1" / file).write_bytes(b"half")

    assert deploy(project).changed

    assert sha256(project.live / "v1") == whole
    assert not deploy(project).changed


@pytest.mark.parametrize("damage", ["folder", "pointer", "half a pointer"])
def test_what_was_lost_on_this_machine_is_fetched_again(project: Project, damage: str) -> None:
    pointer = project.live / "champion.json"
    if damage == "folder":
        for file in (project.live / "v1").iterdir():
            file.unlink()
        (project.live / "v1").rmdir()
    elif damage == "pointer":
        pointer.write_text("{")
    else:
        pointer.write_text('{"version": 1}')

    assert deploy_if_changed(project) is True
    assert json.loads(pointer.read_text())["version"] == 1
    assert Engine.load(project.live / "v1").info.model == "popularity"


def test_no_champion_is_said_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="model 'recloop' has no champion") as caught:
        deploy(make_project(tmp_path / "empty"))
    assert "recloop promote" in (caught.value.remedy or "")


@pytest.mark.parametrize("file", ["model.safetensors", "items.parquet"])
def test_damaged_artifacts_never_go_live(project: Project, file: str) -> None:
    write_model(project, "n")
    promote(project, reason="no better")
    tracking = open_tracking(project)
    source = Path(versions.get(tracking, 2).source.removeprefix("file://"))
    (source / file).write_bytes(b"half")
    versions.point(tracking, "champion", 2)
    live = sha256(project.live / "v1")

    with pytest.raises(RegistryError, match=r"the artifacts of v2 at .* are damaged: its files are not") as caught:
        deploy(project)

    assert "recloop rollback" in (caught.value.remedy or "")
    still = current(project)
    assert still is not None
    assert still.version == 1
    assert sha256(project.live / "v1") == live
    assert not (project.live / "v2").exists()


def test_missing_artifacts_are_named(project: Project) -> None:
    write_model(project, "n")
    promote(project, reason="no better")
    tracking = open_tracking(project)
    (Path(versions.get(tracking, 2).source.removeprefix("file://")) / "items.parquet").unlink()
    versions.point(tracking, "champion", 2)

    with pytest.raises(RegistryError, match=r"items\.parquet is missing"):
        deploy(project)


def test_mlflow_down_leaves_what_is_live(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("RECLOOP_MLFLOW_URL", "http://127.0.0.1:9")

    with pytest.raises(RegistryError, match=r"MLflow at http://127\.0\.0\.1:9: .*Connection refused"):
        deploy_if_changed(project)
    live = current(project)
    assert live is not None
    assert live.version == 1


def test_two_deployments_at_once_leave_one_whole_version(project: Project) -> None:
    write_model(project, "n")
    promote(project, reason="no better")
    versions.point(open_tracking(project), "champion", 2)
    faults: list[BaseException] = []

    def run() -> None:
        try:
            deploy(Project(project.root))
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert faults == []
    live = current(project)
    assert live is not None
    assert (live.version, live.previous) == (2, 1)
    assert Engine.load(project.live / live.folder).info.model == "popularity"
