"""From a version back to the run, the commit, the data and the commands that make it again."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from recloop.errors import RegistryError, StageError
from recloop.files import sha256
from recloop.pipeline.lock import Locked
from recloop.project import Project
from recloop.registry.lineage import lineage
from recloop.registry.promotion import promote
from recloop.registry.rollback import rollback
from recloop.registry.tracking import open_tracking
from tests.trained import make_project, write_model

LOCK = """\
schema: '2.0'
stages:
  ingest:
    cmd: recloop ingest
    outs:
    - path: data/raw
      md5: aaaa.dir
      size: 1
  train@popularity:
    cmd: recloop train popularity
    outs:
    - {path: models/popularity, md5: bbbb.dir, size: 1}
  train@mf:
    cmd: recloop train mf
    outs:
    - {path: models/mf, md5: cccc.dir, size: 1}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A git repository with one model promoted from it."""
    project = make_project(tmp_path / "project")
    write_model(project, "d")
    (project.root / ".gitignore").write_text("/data/\n/models/\n/reports/\n/var/\n")
    (project.root / "dvc.lock").write_text(LOCK)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "one"]):
        subprocess.run(["git", *command], cwd=project.root, check=True)
    return project


def commit_of(project: Project) -> str:
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=True).stdout.strip()


def test_a_version_tells_run_commit_data_and_reason(project: Project) -> None:
    promote(project, reason="drift: item_popularity 0.31 > 0.15")

    found = lineage(project, 1)

    assert found.commit == commit_of(project)
    assert found.changed == ""
    assert found.data_sha256 == sha256(project.prepared)
    assert found.model_sha256 == sha256(project.model("popularity") / "model.safetensors")
    assert found.reason == "drift: item_popularity 0.31 > 0.15"
    assert found.hashes == {"data/raw": "aaaa.dir", "models/popularity": "bbbb.dir"}
    assert found.params["train.lr"] == "0.002"
    assert found.metrics["ndcg_at_10"] == pytest.approx(1)
    run = open_tracking(project).client.get_run(found.run_id)
    assert run.data.tags["recloop.model_sha256"] == found.model_sha256
    told = str(found)
    for part in (
        found.commit,
        found.run_id,
        found.data_sha256,
        "bbbb.dir",
        "ndcg_at_10 1.0000",
        found.reason,
    ):
        assert part in told


def test_uncommitted_changes_are_told_but_not_those_of_the_lock(project: Project) -> None:
    (project.root / "dvc.lock").write_text(LOCK + "# a stage ran\n")
    (project.root / "params.yaml").write_text((project.root / "params.yaml").read_text() + "\n")
    (project.root / "new.py").write_text("")
    promote(Project(project.root), reason="a test")

    found = lineage(project, 1)

    assert found.changed == "params.yaml, new.py"
    assert "with changes to params.yaml, new.py" in str(found)


def test_the_commands_bring_the_lock_and_the_params_of_the_version_back(project: Project, tmp_path: Path) -> None:
    promote(project, reason="a test")
    found = lineage(project, 1)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(project.root), str(clone)], check=True)
    (clone / "dvc.lock").unlink()
    (clone / "params.yaml").unlink()

    checkout, download, pull, repro = found.commands

    assert checkout == f"git checkout {found.commit}"
    assert (pull, repro) == ("dvc pull", "dvc repro")
    assert "in a clone (after `dvc push` here" in str(found)
    for command in (checkout, download):
        done = subprocess.run(["sh", "-c", command], cwd=clone, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert (clone / "dvc.lock").read_text() == LOCK
    assert (clone / "params.yaml").read_bytes() == (project.root / "params.yaml").read_bytes()


def test_a_later_rollback_is_part_of_the_story(project: Project) -> None:
    write_model(project, "o")
    promote(project, reason="the first")
    write_model(project, "d")
    promote(project, reason="better")
    rollback(project, "too slow")

    assert "promoted: NDCG@10 1.0000 against 0.6309" in lineage(project, 2).verdict
    assert lineage(project, 2).verdict.endswith("; rolled back later: too slow")


def test_a_project_without_git_or_dvc_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path / "bare")
    write_model(project, "d")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setenv("PATH", os.environ["PATH"])
    promote(project, reason="a test")

    found = lineage(project, 1)

    assert found.commit == "unknown"
    assert found.hashes == {}
    assert "none: the project was not under DVC" in str(found)
    assert not any(command.startswith(("git", "dvc pull")) for command in found.commands)
    assert "dvc push" not in str(found)


@pytest.mark.parametrize("version", [0, 2, -1])
def test_an_unknown_version_is_an_error_that_lists_the_known_ones(project: Project, version: int) -> None:
    promote(project, reason="a test")

    with pytest.raises(RegistryError, match=f"has no version {version}") as caught:
        lineage(project, version)
    assert "versions: v1" in (caught.value.remedy or "")


def test_no_versions_at_all(project: Project) -> None:
    with pytest.raises(RegistryError, match="has no version 1") as caught:
        lineage(project, 1)
    assert "none yet" in (caught.value.remedy or "")


def test_a_version_that_recloop_did_not_register_is_an_error(project: Project) -> None:
    promote(project, reason="a test")
    tracking = open_tracking(project)
    known = tracking.client.get_model_version(tracking.name, "1")
    tracking.client.create_model_version(tracking.name, known.source, run_id=known.run_id)

    with pytest.raises(RegistryError, match="v2 has no tag"):
        lineage(project, 2)


@pytest.mark.parametrize(
    "text", ["- a list", "stages: [1]", "stages: {train: {outs: [{path: x}]}}", "<<<< ours\nstages:\n=======\n"]
)
def test_a_damaged_lock_is_an_error(text: str) -> None:
    with pytest.raises(StageError, match=r"dvc\.lock is damaged"):
        Locked.parse(text)


def test_an_empty_lock_knows_nothing() -> None:
    assert Locked.parse("").md5_of("data/raw") is None
