"""The command line: quick help, no traceback, an exit code and a remedy."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from recloop import cli
from recloop.errors import ShortOfMemory
from recloop.platform import Platform
from recloop.project import Project
from tests.conftest import ROOT


def recloop(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "recloop.cli", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_does_not_pay_for_the_tools() -> None:
    code = (
        "import sys; from recloop.cli import app\n"
        "heavy = {'torch', 'mlflow', 'prefect', 'dvc', 'great_expectations', 'evidently', 'bentoml'}\n"
        "heavy |= {'ibis', 'pandas', 'pyarrow', 'sqlalchemy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_says_each_command_in_a_line() -> None:
    listed = recloop(ROOT, "--help").stdout.partition("Commands:")[2]
    assert "check" in listed
    assert "..." not in listed


def test_outside_a_project_one_is_told_so(tmp_path: Path) -> None:
    done = recloop(tmp_path, "check")
    assert done.returncode == 2
    assert done.stderr.startswith("recloop: no params.yaml in ")
    assert "→ change into a recloop checkout" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_names_a_misspelt_key(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("dropout:", "droput:", 1))
    done = recloop(tmp_path, "check")
    assert done.returncode == 2
    assert "droput: unknown key; did you mean `dropout`?" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_command_before_its_inputs_names_what_makes_them(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    for command in (
        ["gate"],
        ["prepare"],
        ["train", "sasrec"],
        ["evaluate", "sasrec"],
        ["compare"],
        ["promote"],
    ):
        done = recloop(tmp_path, *command)
        assert done.returncode != 0, command
        assert "missing" in done.stderr, command
        assert "→" in done.stderr, command
        assert "Traceback" not in done.stderr, command


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_model_that_is_not_there_is_named_with_the_nearest(tmp_path: Path, command: str) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    done = recloop(tmp_path, command, "sasrecc")
    assert done.returncode == 2
    assert "params.yaml has no section models.sasrecc; did you mean `sasrec`?" in done.stderr


def test_a_model_that_is_not_trained_is_to_be_trained(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    done = recloop(tmp_path, "evaluate", "sasrec")
    assert "→ `recloop train sasrec` trains it" in done.stderr
    assert "deploy" not in done.stderr


def test_of_torchruns_processes_the_first_says_what_went_wrong_and_the_others_wait_for_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    command = [sys.executable, "-m", "recloop.cli", "train", "sasrec"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stderr is not None
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(6)
        waiting.terminate()
        assert waiting.stderr.read() == ""
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert "no params.yaml" in recloop(tmp_path, "train", "sasrec").stderr


def test_a_want_of_memory_is_said_by_the_process_that_has_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits"))
    with pytest.raises(SystemExit):
        cli._fail(ShortOfMemory("out of memory"))
    assert capsys.readouterr().err == "recloop: out of memory\n"


def test_what_the_system_refuses_is_said_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "var").write_text("a file")
    done = recloop(tmp_path, "history")
    assert done.returncode == 2
    assert done.stderr.startswith("recloop: ")
    assert "var" in done.stderr
    assert "→ a file stands where a folder is to be: move it away" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [[], ["sasrec", "--reason", "it sold more"]])
def test_a_version_is_promoted_for_a_reason_and_without_a_model(tmp_path: Path, arguments: list[str]) -> None:
    done = recloop(tmp_path, "promote", "--version", "2", *arguments)
    assert done.returncode == 2
    assert "it goes with a --reason, and without a model" in done.stderr


def test_check_looks_at_the_folder_of_the_source(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    for folder, said in (
        ("nowhere", "source.folder: there is no folder"),
        (".", "holds the project itself, and its outputs with it"),
    ):
        (tmp_path / "params.yaml").write_text(text.replace("folder: src/recloop/data/sources", f"folder: {folder}"))
        done = recloop(tmp_path, "check")
        assert done.returncode == 2
        assert said in done.stderr


def test_clean_leaves_what_git_has_and_nothing_else_and_never_under_a_platform(checkout: Path) -> None:
    (checkout / "data" / "raw").mkdir(parents=True)
    (checkout / "dvc.lock").write_text("")
    (checkout / "var").mkdir()
    with Platform.lock(Project(checkout)):
        done = recloop(checkout, "clean")
        assert done.returncode == 2
        assert "runs already" in done.stderr
        assert (checkout / "data" / "raw").is_dir()
    done = recloop(checkout, "clean")
    assert done.stdout.startswith("removed: data, var")
    status = ["git", "status", "--porcelain", "--ignored"]
    assert subprocess.run(status, cwd=checkout, capture_output=True, text=True, check=True).stdout == ""
