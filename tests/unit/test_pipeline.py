"""Running DVC's stages one by one: the graph, what came of each, what a kill leaves behind, and snapshots."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recloop.data.schema import INTERACTIONS
from recloop.errors import ConfigError, GateError, PlatformError, SourceError, StageError
from recloop.pipeline.graph import stage_graph
from recloop.pipeline.lock import arrange
from recloop.pipeline.repro import outdated, push, reproduce
from recloop.pipeline.snapshot import snapshot
from recloop.project import Project
from recloop.serving.events import Event, EventStore
from recloop.storage import connect
from tests.shop import change_params

ROOT = Path(__file__).resolve().parents[2]

DVC_YAML = """\
stages:
  feedback:
    cmd: mkdir -p data/feedback
    outs:
      - data/feedback/interactions.parquet: {persist: true}
  make:
    cmd: sh make.sh
    deps: [make.sh]
    outs: [made.txt]
  use:
    matrix:
      model: [a, b]
    cmd: cp made.txt ${item.model}.txt
    deps: [made.txt]
    outs: ["${item.model}.txt"]
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A DVC project without git; its stage `make` is the script make.sh."""
    from dvc.repo import Repo

    Repo.init(str(tmp_path), no_scm=True).close()
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    change_params(tmp_path, {"train.warm_start": False})  # for which there would be a stage
    script(tmp_path, "echo one > made.txt")
    return Project(tmp_path)


def script(root: Path, text: str) -> None:
    (root / "make.sh").write_text(f"{text}\n")


def silent(_: str) -> None:
    pass


# The graph.


def test_the_graph_is_the_one_of_dvc_yaml_each_stage_after_what_it_needs(tmp_path: Path) -> None:
    from dvc.repo import Repo

    Repo.init(str(tmp_path), no_scm=True).close()
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    params = tmp_path / "params.yaml"
    params.write_text(params.read_text().replace("zoo: [popularity, mf, sasrec]", "zoo: [mf, sasrec]"))

    nodes = stage_graph(Project(tmp_path))

    assert {node.name: node.depends_on for node in nodes} == {
        "ingest": (),
        "feedback": (),
        "gate": ("ingest", "feedback"),
        "prepare": ("gate",),
        "warm": (),
        "train@mf": ("prepare", "warm"),
        "train@sasrec": ("prepare", "warm"),
        "evaluate@mf": ("prepare", "train@mf"),
        "evaluate@sasrec": ("prepare", "train@sasrec"),
        "compare": ("train@mf", "train@sasrec", "evaluate@mf", "evaluate@sasrec"),
    }
    seen: set[str] = set()
    for node in nodes:
        assert seen.issuperset(node.depends_on)
        seen.add(node.name)


def test_a_dvc_yaml_that_is_wrong_is_an_error_that_names_it(project: Project) -> None:
    (project.root / "dvc.yaml").write_text("stages: {make: {comand: x}}")

    with pytest.raises(ConfigError, match=r"dvc\.yaml"):
        stage_graph(project)


def test_a_folder_that_is_not_dvcs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not inside of a DVC repository"):
        stage_graph(Project(tmp_path))


# One stage.


def test_a_stage_runs_then_is_unchanged_then_is_restored_when_old_inputs_come_back(project: Project) -> None:
    lines: list[str] = []
    assert reproduce(project, "make", lines.append) == "ran"
    assert "Running stage 'make':" in lines
    assert reproduce(project, "make", silent) == "unchanged"
    script(project.root, "echo two > made.txt")
    assert reproduce(project, "make", silent) == "ran"
    assert (project.root / "made.txt").read_text() == "two\n"
    script(project.root, "echo one > made.txt")
    assert reproduce(project, "make", silent) == "restored"
    assert (project.root / "made.txt").read_text() == "one\n"


def test_stage_by_stage_leaves_the_lock_that_dvc_repro_leaves(project: Project, tmp_path: Path) -> None:
    (project.root / "data/feedback").mkdir(parents=True)
    (project.root / "data/feedback/interactions.parquet").write_bytes(b"nothing")
    for node in stage_graph(project):
        reproduce(project, node.name, silent)
    lock = project.root / "dvc.lock"
    one_by_one = lock.read_bytes()
    lock.unlink()

    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], cwd=project.root, check=True)

    assert lock.read_bytes() == one_by_one


def test_a_lock_that_stages_were_written_to_in_another_order_can_be_arranged(project: Project) -> None:
    (project.root / "data/feedback").mkdir(parents=True)
    (project.root / "data/feedback/interactions.parquet").write_bytes(b"nothing")
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], cwd=project.root, check=True)
    lock, order = project.root / "dvc.lock", [node.name for node in stage_graph(project)]
    as_repro_leaves_it = lock.read_bytes()
    assert not arrange(project, order)

    assert arrange(project, order[::-1])
    assert lock.read_bytes() != as_repro_leaves_it
    assert arrange(project, order)
    assert lock.read_bytes() == as_repro_leaves_it


def test_the_gate_stopping_the_data_is_told_from_a_fault_and_in_its_own_words(project: Project) -> None:
    script(
        project.root,
        """echo 'judging'; echo 'recloop: the data is not fit: values 3 rows
                      and more
  → correct the source' >&2; exit 3""".replace("                      and more", "recloop.interactions: and more"),
    )

    with pytest.raises(GateError) as caught:
        reproduce(project, "make", silent)

    assert caught.value.message == "stage make: the data is not fit: values 3 rows\nrecloop.interactions: and more"
    assert caught.value.remedy == "correct the source"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo 'recloop: data/gated is missing' >&2; exit 2", "stage make: data/gated is missing"),
        ("echo 'ImportError: no torch' >&2; exit 1", "ended with exit code 1: ImportError: no torch"),
        ("kill -9 $$", "stage make was killed by signal 9"),
        ("true", r"made\.txt"),  # did not write its output
    ],
)
def test_a_stage_that_fails_is_an_error_with_its_cause(project: Project, text: str, said: str) -> None:
    script(project.root, text)

    with pytest.raises(StageError, match=said) as caught:
        reproduce(project, "make", silent)
    assert not isinstance(caught.value, GateError)


def test_a_stage_that_does_not_exist_is_an_error(project: Project) -> None:
    with pytest.raises(StageError, match="nonsense"):
        reproduce(project, "nonsense", silent)


def test_a_stage_whose_input_is_missing_is_an_error(project: Project) -> None:
    with pytest.raises(StageError, match=r"made\.txt"):
        reproduce(project, "use@a", silent)


def test_after_kill_9_of_dvc_in_the_middle_of_a_stage_the_same_command_mends_it(project: Project) -> None:
    script(project.root, "test -e again || { touch begun; sleep 30; }; echo one > made.txt")
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", "make"]
    killed = subprocess.Popen(
        command,
        cwd=project.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(project.root / "begun")
    finally:
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
    (project.root / "again").touch()

    assert reproduce(project, "make", silent) == "ran"
    assert reproduce(project, "use@a", silent) == "ran"
    assert (project.root / "a.txt").read_text() == "one\n"


def test_two_that_want_the_same_stage_wait_for_each_other(project: Project) -> None:
    script(project.root, "touch begun; sleep 4; echo one > made.txt")
    outcomes: list[str] = []
    first = threading.Thread(target=lambda: outcomes.append(reproduce(project, "make", silent)))
    first.start()
    wait_for(project.root / "begun")

    outcomes.append(reproduce(project, "make", silent))
    first.join()

    assert sorted(outcomes) == ["ran", "unchanged"]


def test_waiting_for_another_process_has_an_end(project: Project) -> None:
    script(project.root, "touch begun; sleep 15; echo one > made.txt")
    first = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "-s", "make"],
        cwd=project.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(project.root / "begun")
        waits: list[float] = []
        with pytest.raises(StageError, match="is busy"):
            reproduce(project, "make", silent, busy_seconds=2, sleep=waits.append)
        assert waits == [2.0]
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()


def test_breaking_off_ends_the_stage_too(project: Project) -> None:
    script(project.root, "echo $$ > begun; echo working; sleep 60; echo one > made.txt")

    def cancel(line: str) -> None:
        if line == "working":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reproduce(project, "make", cancel)

    stage, deadline = int((project.root / "begun").read_text()), time.monotonic() + 10
    while is_running(stage):  # a signal takes effect when its process is next given the processor
        assert time.monotonic() < deadline, "the stage goes on"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Dead but not yet fetched by its parent counts as dead."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_outdated_stages_are_those_whose_inputs_or_outputs_changed(project: Project) -> None:
    assert outdated(project, ["make", "use@a"]) == ("make", "use@a")  # never ran
    for stage in ("make", "use@a", "use@b"):
        reproduce(project, stage, silent)
    assert outdated(project, ["make", "use@a", "use@b"]) == ()
    (project.root / "b.txt").write_text("by hand")
    assert outdated(project, ["make", "use@a", "use@b"]) == ("use@b",)


def test_what_dvc_cannot_tell_is_an_error(project: Project) -> None:
    with pytest.raises(PlatformError, match="dvc status"):
        outdated(project, ["nonsense"])


def wait_for(path: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.05)


# Snapshots.


def take(project: Project, *ids: str) -> None:
    """Take events at the endpoint, as it does."""
    store = EventStore(connect(project.database_url))
    store.add([Event(name, f"u{name}", "i1", "click", 1.5, 1_700_000_000_000_000) for name in ids])


def test_a_snapshot_exports_all_events_in_order_and_dvc_versions_it(project: Project) -> None:
    take(project, "a", "b")
    report = snapshot(project)

    assert (report.events, report.new, report.watermark) == (2, 2, 2)
    assert str(report) == "2 new events taken into data/feedback (2 in all, up to sequence 2)"
    table = pq.read_table(project.feedback)
    assert table.schema.names == [*INTERACTIONS.names, "feedback_seq"]
    assert table.schema.field("timestamp").type == INTERACTIONS.field("timestamp").type
    assert table["user_id"].to_pylist() == ["ua", "ub"]
    assert table["value"].to_pylist() == [1.5, 1.5]
    assert table["timestamp"].cast(pa.int64()).to_pylist() == [1_700_000_000_000_000] * 2
    assert table["feedback_seq"].to_pylist() == [1, 2]
    assert "data/feedback/interactions.parquet" in (project.root / "dvc.lock").read_text()
    assert outdated(project, ["feedback"]) == ()


def test_a_second_snapshot_has_the_new_ones_too_and_one_without_news_the_same_bytes(project: Project) -> None:
    take(project, "a")
    snapshot(project)
    take(project, "b", "c")
    assert (snapshot(project).new, pq.read_metadata(project.feedback).num_rows) == (2, 3)
    before = project.feedback.read_bytes(), (project.root / "dvc.lock").read_bytes()

    report = snapshot(project)

    assert str(report) == "no new events at the endpoint since the last snapshot (3 in all)"
    assert before == (project.feedback.read_bytes(), (project.root / "dvc.lock").read_bytes())


def test_without_any_event_the_snapshot_is_an_empty_table(project: Project) -> None:
    report = snapshot(project)

    assert (report.events, report.watermark) == (0, 0)
    assert pq.read_table(project.feedback).num_rows == 0
    assert pq.read_schema(project.feedback).names == [*INTERACTIONS.names, "feedback_seq"]


def test_a_database_with_fewer_events_than_the_last_snapshot_loses_none(project: Project) -> None:
    take(project, "a", "b")
    snapshot(project)
    before = project.feedback.read_bytes()
    os.environ["RECLOOP_DATABASE_URL"] = "sqlite:///var/another.db"
    try:
        with pytest.raises(SourceError, match="holds 2 events, the database only 0") as caught:
            snapshot(project)
    finally:
        del os.environ["RECLOOP_DATABASE_URL"]
    assert "RECLOOP_DATABASE_URL" in (caught.value.remedy or "")
    assert project.feedback.read_bytes() == before


def test_a_damaged_snapshot_is_an_error_that_names_the_file(project: Project) -> None:
    project.feedback.parent.mkdir(parents=True)
    project.feedback.write_bytes(b"half")

    with pytest.raises(SourceError, match=r"interactions\.parquet is damaged"):
        snapshot(project)


def test_dvc_failing_to_record_a_snapshot_is_an_error(project: Project) -> None:
    (project.root / "dvc.yaml").write_text("stages: {}")

    with pytest.raises(PlatformError, match="dvc commit feedback"):
        snapshot(project)


# The remote.


def test_a_push_sends_what_was_made_to_the_remote(project: Project, tmp_path: Path) -> None:
    configure(project, "remote", "add", "--default", "storage", str(tmp_path / "remote"))
    reproduce(project, "make", silent)

    assert push(project, silent) == "1 file pushed"
    assert push(project, silent) == "Everything is up to date."
    assert any((tmp_path / "remote").rglob("*"))


def test_a_push_without_a_remote_says_which_command_shows_it(project: Project) -> None:
    reproduce(project, "make", silent)

    with pytest.raises(PlatformError, match=r"dvc push.* failed: .*no remote") as caught:
        push(project, silent)
    assert "dvc remote list" in (caught.value.remedy or "")


def test_a_remote_that_cannot_be_reached_is_an_error(project: Project) -> None:
    configure(project, "remote", "add", "--default", "storage", "/proc/no/such/place")
    reproduce(project, "make", silent)

    with pytest.raises(PlatformError, match=r"dvc push.* failed"):
        push(project, silent)


def configure(project: Project, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=project.root, check=True, capture_output=True)
