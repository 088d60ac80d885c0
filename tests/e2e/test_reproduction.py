"""`dvc repro` on clones: nothing to do twice, and a mend after every kind of break. That two clones give the same bytes
is in test_loop.py."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from recloop.files import sha256
from tests.conftest import clone_checkout
from tests.shop import change_params

pytestmark = pytest.mark.xdist_group("shop")


def run(folder: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def test_an_unchanged_tree_has_nothing_to_do(trained: Path) -> None:
    before = (trained / "dvc.lock").read_bytes()
    done = run(trained, "dvc", "repro")
    assert "Data and pipelines are up to date" in done.stdout + done.stderr
    assert (trained / "dvc.lock").read_bytes() == before


def test_new_rows_in_the_users_file_are_taken_in(trained: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(trained, clone, symlinks=True)
    with (clone / "shop" / "log.csv").open("a") as log:
        log.write("late customer,p1,1710000000\n")
    done = run(clone, "dvc", "repro", "gate")
    assert "gate: 961 of 961 interactions passed" in done.stdout


def test_metrics_and_plots_say_something(trained: Path) -> None:
    metrics = json.loads(run(trained, "dvc", "metrics", "show", "--json").stdout)
    names = metrics[""]["data"] if "" in metrics else metrics["workspace"]["data"]
    assert sorted(names) == [f"reports/metrics/{name}.json" for name in ("popularity", "sasrec")]
    figures = names["reports/metrics/sasrec.json"]["data"]
    assert sorted(figures) == ["coverage_at_10", "ndcg_at_10", "recall_at_10", "valid_ndcg_at_10"]
    assert all(0 <= figure <= 1 for figure in figures.values())
    run(trained, "dvc", "plots", "show", "-o", "plots")
    page = (trained / "plots" / "index.html").read_text()
    assert "validation NDCG@10" in page
    assert "test NDCG@10" in page


def test_pushed_data_is_pulled_into_a_fresh_clone(trained: Path, tmp_path: Path) -> None:
    run(trained, "dvc", "remote", "modify", "--local", "storage", "url", str(tmp_path / "remote"))
    run(trained, "dvc", "push")
    fresh = clone_checkout(tmp_path / "fresh")
    for name in ("params.yaml", "dvc.lock"):
        shutil.copy2(trained / name, fresh / name)
    shutil.copytree(trained / "shop", fresh / "shop")
    run(fresh, "dvc", "remote", "modify", "--local", "storage", "url", str(tmp_path / "remote"))
    run(fresh, "dvc", "pull")
    assert sha256(fresh / "models") == sha256(trained / "models")
    assert "up to date" in run(fresh, "dvc", "repro").stdout


def test_a_killed_stage_leaves_nothing_broken(trained: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(trained, clone, symlinks=True)
    change_params(clone, {"train.epochs": 200, "train.patience": 200})
    process = subprocess.Popen(
        ["dvc", "repro", "train@sasrec"],
        cwd=clone,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not _is_training(process.pid):
            assert time.monotonic() < deadline, "the stage never ran"
            time.sleep(0.1)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    # What it may have left where it was writing.
    (clone / "reports" / "users" / ".sasrec.parquet.x.part").write_bytes(b"half")
    change_params(clone, {"train.epochs": 2, "train.patience": 4})
    run(clone, "dvc", "repro")
    assert sha256(clone / "models") == sha256(trained / "models")
    assert (clone / "dvc.lock").read_bytes() == (trained / "dvc.lock").read_bytes()


def test_a_smaller_zoo_leaves_what_it_would_leave_in_a_fresh_clone(trained: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(trained, clone, symlinks=True)
    change_params(clone, {"zoo": ["popularity"]})
    run(clone, "dvc", "repro")
    lock = YAML(typ="safe").load(clone / "dvc.lock")
    inputs = {dep["path"]: dep.get("nfiles") for dep in lock["stages"]["compare"]["deps"]}
    assert inputs["reports/training"] == inputs["reports/evaluation"] == inputs["reports/users"] == 1


STAGES = (["ingest"], ["gate"], ["prepare"], ["train", "sasrec"], ["evaluate", "sasrec"], ["compare"], ["promote"])


def test_on_a_full_disk_every_command_says_so_and_loses_nothing(
    trained: Path, small_disk: Callable[[int], Path]
) -> None:
    clone = small_disk(400 << 20) / "clone"
    shutil.copytree(trained, clone, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    shutil.rmtree(clone / ".dvc")  # nothing to ask whether it is up to date
    with (clone.parent / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(b"\0" * 4096)
    before = {folder: sha256(clone / folder) for folder in ("data", "models", "reports")}
    for command in STAGES:
        done = run(clone, "recloop", *command, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 2, (command, said)
        assert "full" in done.stderr, (command, said)
        assert "→ free some space" in done.stderr, (command, said)
        assert "Traceback" not in said, (command, said)
    assert {folder: sha256(clone / folder) for folder in before} == before


def test_an_experiment_changes_one_knob(trained: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(trained, clone, symlinks=True)
    run(clone, "git", "add", "-A")
    run(clone, "git", "commit", "-qm", "trained")
    run(clone, "dvc", "exp", "run", "-S", "train.lr=0.01", "--name", "faster")
    shown = json.loads(run(clone, "dvc", "exp", "show", "--json").stdout)
    assert "faster" in json.dumps(shown)
    assert sha256(clone / "models" / "sasrec") != sha256(trained / "models" / "sasrec")
    assert sha256(clone / "models" / "popularity") == sha256(trained / "models" / "popularity")


def _is_training(group: int) -> bool:
    """Whether `recloop train` runs in the process group."""
    for process in psutil.process_iter(["cmdline"]):
        try:
            if os.getpgid(process.pid) == group and "train" in (process.info["cmdline"] or []):
                return True
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
    return False
