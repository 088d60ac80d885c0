"""MLflow runs: what is in them, how they are found again, and that no training hangs on MLflow."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recloop.data.warm import ensure_warm
from recloop.errors import ConfigError, RegistryError, StageError
from recloop.files import sha256
from recloop.project import Project
from recloop.registry import runs, stages
from recloop.registry.journal import Journal
from recloop.registry.provenance import Provenance
from recloop.registry.tracking import open_tracking
from tests.trained import make_project, write_model

META = {"users": 40, "items": 15, "interactions": 160}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = make_project(tmp_path / "project")
    write_model(project, "d")
    return project


def train(project: Project, warnings: list[str] | None = None) -> None:
    """Write a training to MLflow as the stage does, the outputs being there already."""
    with Journal(project, "popularity", META, warn=(warnings if warnings is not None else []).append) as journal:
        journal.epoch(0, {"loss": 0.7, "ndcg_at_10": 0.2})
        journal.epoch(1, {"loss": 0.5, "ndcg_at_10": 0.3})
        journal.finish()


def test_a_training_is_a_run_with_settings_epochs_data_load_and_files(project: Project) -> None:
    (project.root / "dvc.lock").write_text("stages: {prepare: {outs: [{path: data/prepared, md5: abcd.dir}]}}\n")
    train(project)

    tracking = open_tracking(project)
    found = runs.run_of(tracking, project, "popularity")
    assert found is not None
    run = tracking.client.get_run(found.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.lr"] == "0.002"
    assert run.data.params["model.half_life_days"] == "None"
    assert run.data.params["source.kind"] == "movielens-100k"
    losses = tracking.client.get_metric_history(found.run_id, "loss")
    assert [(metric.step, metric.value) for metric in losses] == [(0, 0.7), (1, 0.5)]
    assert run.data.metrics["valid.ndcg_at_10"] == 0.5
    assert run.data.metrics["system/cpu_utilization_percentage"] >= 0
    assert run.data.tags["recloop.stage"] == "train"
    assert run.data.tags["recloop.model"] == "popularity"
    (data,) = [given.dataset for given in run.inputs.dataset_inputs]
    assert (data.name, data.digest) == ("movielens-100k", sha256(project.prepared)[:32])
    assert json.loads(data.source) == {"path": "data/prepared", "md5": "abcd.dir"}
    assert json.loads(data.profile) == META
    files = artifacts(project, found)
    assert files == {
        "models/popularity/model.json",
        "models/popularity/model.safetensors",
        "training/popularity.json",
        "curves/popularity.csv",
    }


def artifacts(project: Project, run: runs.Run) -> set[str]:
    root = project.var / "mlartifacts" / run.run_id / "artifacts"
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_the_test_metrics_go_onto_the_same_run_with_their_intervals(project: Project) -> None:
    train(project)
    tracking = open_tracking(project)
    run = runs.run_of(tracking, project, "popularity")
    assert run is not None

    runs.log_evaluation(run, project, "popularity")

    metrics = tracking.client.get_run(run.run_id).data.metrics
    assert metrics["test.ndcg_at_10"] == metrics["test.ndcg_at_10.low"] == pytest.approx(1)
    assert metrics["test.users"] == 40
    assert runs.ensure_run(tracking, project, "popularity") == run  # nothing was missing


def test_a_run_is_found_by_weights_and_data_together(project: Project) -> None:
    train(project)
    tracking = open_tracking(project)
    weights = sha256(project.model("popularity") / "model.safetensors")

    assert runs.find_run(tracking, weights, sha256(project.prepared)) is not None
    assert runs.find_run(tracking, weights, "other data") is None
    assert runs.find_run(tracking, "other weights", sha256(project.prepared)) is None


def test_a_training_that_failed_is_a_failed_run_that_nobody_finds(project: Project) -> None:
    with pytest.raises(ValueError, match="boom"), Journal(project, "popularity", META) as journal:
        journal.epoch(0, {"loss": 0.7})
        raise ValueError("boom")

    tracking = open_tracking(project)
    (run,) = tracking.client.search_runs([tracking.experiment_id])
    assert run.info.status == "FAILED"
    assert runs.run_of(tracking, project, "popularity") is None


def test_a_run_whose_process_was_killed_is_marked_so_by_the_next_one(project: Project) -> None:
    tracking = open_tracking(project)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    killed, elsewhere, ours = (runs.start_run(tracking, project, "popularity") for _ in range(3))
    killed.tag({"recloop.process": f"{dead.pid} on {platform.node()}"})
    elsewhere.tag({"recloop.process": f"{dead.pid} on another machine"})

    runs.start_run(tracking, project, "popularity")

    status = [tracking.client.get_run(run.run_id).info.status for run in (killed, elsewhere, ours)]
    assert status == ["KILLED", "RUNNING", "RUNNING"]


def test_a_model_without_a_run_gets_one_from_its_files_and_only_one(project: Project) -> None:
    tracking = open_tracking(project)

    made = runs.ensure_run(tracking, project, "popularity")
    again = runs.ensure_run(tracking, project, "popularity")

    assert made == again
    run = tracking.client.get_run(made.run_id)
    assert run.data.tags["recloop.logged"].startswith("afterwards")
    assert run.data.metrics["ndcg_at_10"] == 0.5  # the curve's
    assert run.data.metrics["test.ndcg_at_10"] == pytest.approx(1)
    assert len(run.inputs.dataset_inputs) == 1


def test_with_mlflow_down_the_training_goes_on_warns_once_and_is_logged_later(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        patch.setenv("RECLOOP_MLFLOW_URL", "http://user:secret@127.0.0.1:9")
        train(project, warnings)

    (warning,) = warnings
    assert "nothing is lost" in warning
    assert "Connection refused" in warning
    assert "secret" not in warning
    assert runs.ensure_run(open_tracking(project), project, "popularity").run_id


def test_mlflow_going_down_half_way_leaves_a_run_that_nobody_takes_for_whole(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    log = runs.Run.log

    def down(run: runs.Run, metrics: dict[str, float], step: int = 0) -> None:
        if step == 1:
            raise RegistryError("MLflow is down")
        log(run, metrics, step)

    monkeypatch.setattr(runs.Run, "log", down)
    train(project, warnings)
    monkeypatch.undo()

    assert len(warnings) == 1
    tracking = open_tracking(project)
    assert runs.run_of(tracking, project, "popularity") is None
    (half,) = tracking.client.search_runs([tracking.experiment_id])
    assert half.info.status == "FAILED"
    assert runs.ensure_run(tracking, project, "popularity").run_id != half.info.run_id


def test_a_model_that_was_never_trained_has_no_run(project: Project) -> None:
    with pytest.raises(StageError, match=r"models/mf/model\.safetensors is missing") as caught:
        runs.ensure_run(open_tracking(project), project, "mf")
    assert "dvc repro train@mf" in (caught.value.remedy or "")


def test_two_processes_that_both_come_first_share_one_database(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((make_project(tmp_path / "other").root / "params.yaml").read_text())
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from recloop.project import Project\n"
        "from recloop.registry.tracking import open_tracking\n"
        "import mlflow\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print(open_tracking(Project(Path(sys.argv[1]))).experiment_id)\n"
    )
    first = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for process in first:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        outputs = [process.communicate("go\n", timeout=120) for process in first]
    finally:
        for process in first:
            process.kill()
            process.wait()

    assert [errors for _, errors in outputs] == ["", ""]
    assert outputs[0][0] == outputs[1][0] != ""
    assert not (tmp_path / "var" / ".mlflow.db.part").exists()


def test_what_a_killed_first_use_left_behind_is_made_anew(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    (project.var / "mlflow.db").unlink()
    (project.var / ".mlflow.db.part").write_bytes(b"half a schema")

    assert open_tracking(project).experiment_id


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("sqlite:////proc/no/such/place.db", "No such file or directory"),
        ("nonsense://somewhere", "nonsense://somewhere"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_clear_message(
    project: Project, monkeypatch: pytest.MonkeyPatch, url: str, cause: str
) -> None:
    monkeypatch.setenv("RECLOOP_MLFLOW_URL", url)

    with pytest.raises(RegistryError, match=cause) as caught:
        open_tracking(project)
    assert "storage.mlflow_url" in (caught.value.remedy or "")


def test_a_file_that_is_no_database_is_said_to_be_none(project: Project) -> None:
    (project.var / "mlflow.db").write_text("not a database at all, and long enough to be looked at")

    with pytest.raises(RegistryError, match="file is not a database"):
        open_tracking(project)


def test_the_stages_train_and_judge_a_model_and_log_both_to_one_run(project: Project) -> None:
    shutil.rmtree(project.reports)
    shutil.rmtree(project.model("popularity"))

    assert "validation NDCG@10" in str(stages.train(project, "popularity"))
    assert "test" not in {path.parent.name for path in project.reports.rglob("*.json")}
    assert "40 cases of 40 users" in str(stages.evaluate(project, "popularity"))

    tracking = open_tracking(project)
    (run,) = tracking.client.search_runs([tracking.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["recloop.data_sha256"] == sha256(project.prepared)
    told = json.loads((project.reports / "evaluation" / "popularity.json").read_text())
    assert run.data.metrics["test.ndcg_at_10"] == told["ndcg_at_10"]["mean"]
    assert run.data.metrics["valid.recall_at_10"] == run.data.metrics["recall_at_10"]


def test_the_stages_write_the_same_bytes_with_and_without_mlflow(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def outputs() -> tuple[str, str]:
        stages.train(project, "mf")
        stages.evaluate(project, "mf")
        return sha256(project.model("mf")), sha256(project.reports)

    ensure_warm(project.warm)
    with_mlflow = outputs()
    assert "warning" not in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("RECLOOP_MLFLOW_URL", "http://127.0.0.1:9")

    assert outputs() == with_mlflow
    assert capsys.readouterr().err.count("recloop: warning: this is not logged") == 2


def test_a_model_that_params_yaml_does_not_have_is_a_config_error(project: Project) -> None:
    with pytest.raises(ConfigError, match=r"no section models\.sasrek") as caught:
        stages.train(project, "sasrek")
    assert "there are: mf, popularity" in (caught.value.remedy or "")


def test_the_state_of_the_code_is_the_commit_and_what_changed_since(tmp_path: Path) -> None:
    def git(*command: str) -> None:
        subprocess.run(["git", *command], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    (tmp_path / "old name.py").write_text("a = 1\n" * 20)
    (tmp_path / "dvc.lock").write_text("a")
    git("add", "-A")
    git("commit", "-qm", "one")
    clean = Provenance.of(tmp_path)
    assert (len(clean.commit), clean.changed, clean.dirty) == (40, (), False)
    assert clean.tags() == {"recloop.commit": clean.commit, "recloop.dirty": "false"}

    (tmp_path / "dvc.lock").write_text("b")
    assert Provenance.of(tmp_path).dirty is False  # every stage writes it

    git("mv", "old name.py", "new.py")
    assert Provenance.of(tmp_path).changed == ("new.py",)
    for number in range(25):
        (tmp_path / f"{number:02}.py").write_text("")
    assert Provenance.of(tmp_path).tags()["recloop.changed"].endswith(", and 6 more")


def test_without_a_repository_or_without_git_the_commit_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert Provenance.of(tmp_path) == Provenance("unknown", ())
    monkeypatch.setenv("PATH", "/nowhere")
    assert Provenance.of(tmp_path) == Provenance("unknown", ())
