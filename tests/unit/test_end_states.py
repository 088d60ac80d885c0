"""What a fault leaves behind: who is champion, in MLflow and in `var/live`, what the history says, and what came of the
verdict. The training is the flow itself, without Prefect's server and without the stages: models are made by hand, the
registry is real. Faults of processes are in tests/e2e/test_platform.py, a poisoned window is in tests/e2e/test_loop.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.client.schemas.objects import State
from prefect.logging import disable_run_logger
from sqlalchemy import Engine

from flows import training
from monitoring.channels import Channel, Message
from monitoring.live import live_model
from monitoring.run import due, fail, mark_asked, take, take_waiting
from monitoring.verdicts import Verdict, latest, store
from monitoring.window import HOUR
from recloop.project import Project
from recloop.registry import history
from recloop.registry.deploy import current
from recloop.registry.history import show_history
from recloop.registry.promotion import promote
from recloop.registry.rollback import rollback
from recloop.storage import connect, now_us
from tests.trained import make_project, write_model
from tests.unit.test_verdicts import DRIFT

FIRST = [(1, None, "promote")]
BOTH = [*FIRST, (2, 1, "promote")]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Version 1 is live, and a better model is trained."""
    project = make_project(tmp_path / "project")
    write_model(project, "o")
    promote(project, reason="the beginning")
    write_model(project, "d")
    return project


@pytest.fixture
def database(project: Project) -> Iterator[Engine]:
    opened = connect(project.database_url)
    yield opened
    opened.dispose()


@pytest.fixture
def told() -> list[Message]:
    return []


Train = Callable[[Verdict], State[None]]


@pytest.fixture
def train(project: Project, told: list[Message], monkeypatch: pytest.MonkeyPatch) -> Iterator[Train]:
    """The training that a verdict asks for."""
    monkeypatch.setenv("RECLOOP_ROOT", str(project.root))
    monkeypatch.setattr(training, "channels", lambda _project: [Channel("list", told.append)])
    monkeypatch.setattr(training, "take_feedback", lambda _project: None)
    monkeypatch.setattr("recloop.pipeline.graph.stage_graph", lambda _project: ())
    monkeypatch.setattr("recloop.pipeline.lock.arrange", lambda _project, _names: None)
    monkeypatch.setattr(training, "promote", training.promote.fn)
    monkeypatch.setattr(training, "follow_up", lambda _project, _report: [])
    with disable_run_logger():
        yield lambda verdict: training.training.fn(f"drift, verdict {verdict.id}", str(verdict.id))


def asked(project: Project, database: Engine) -> Verdict:
    """A drift of the live version, for which a retraining was asked just now."""
    live, now = live_model(project.live), now_us()
    found = store(database, replace(DRIFT, at=now, window_from=live.since, window_to=now, version=live.version))
    return mark_asked(project, found, "event e1")


def standing(project: Project) -> tuple[int | None, int | None, list[tuple[int, int | None, str]]]:
    """Who is live, who is champion in MLflow, and the history, which adds a row for whatever it did not know of."""
    live, shown = current(project), show_history(project)
    rows = [(row.version, row.previous, row.action) for row in shown.rows]
    return None if live is None else live.version, shown.champion, rows


def test_while_mlflow_is_gone_the_champion_stays_and_the_verdict_is_asked_for_again(
    project: Project, database: Engine, train: Train, told: list[Message]
) -> None:
    drift, mlflow = asked(project, database), project.var / "mlflow.db"
    sound = mlflow.read_bytes()
    mlflow.write_bytes(b"this is no database" * 100)

    failed = train(drift)

    assert failed.is_failed()
    assert "file is not a database" in str(failed.message)
    assert [message.title for message in told] == ["training failed: RegistryError; the champion stays"]
    (left,) = latest(database)
    assert (left.taken, left.ended) == ("None", None)  # by a run without Prefect
    assert str(left.acted).startswith("the training failed: MLflow at ")
    mlflow.write_bytes(sound)
    assert standing(project) == (1, 1, FIRST)

    assert due(project, lambda: now_us() + 5 * HOUR, came_to=lambda _training: "nothing") is None, "it cools down"
    again = due(project, lambda: now_us() + 6 * HOUR, came_to=lambda _training: "nothing")
    assert again is not None
    assert again.id == drift.id
    assert train(again).is_completed()
    assert standing(project) == (2, 2, BOTH)
    assert "v2 (popularity) is champion" in str(latest(database)[0].ended)


def test_of_two_verdicts_at_once_the_second_finds_its_version_gone_and_does_nothing(
    project: Project, database: Engine, train: Train
) -> None:
    first, second = asked(project, database), asked(project, database)

    assert train(first).is_completed()
    late = train(second)

    assert (late.name, late.is_completed()) == ("Taken already", True)
    assert standing(project) == (2, 2, BOTH)
    for each in latest(database, 2):
        assert "v2 (popularity) is champion" in str(each.ended), "it learnt from the events of both"
    assert due(project, lambda: now_us() + 99 * HOUR) is None, "nor is it asked for any more"


def test_a_training_by_schedule_answers_the_verdict_that_waits(
    project: Project, database: Engine, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was asked for or not; what was asked for then comes late and does nothing."""
    live, now = live_model(project.live), now_us()
    drift = store(database, replace(DRIFT, at=now, window_from=live.since, window_to=now, version=live.version))
    monkeypatch.setattr(training, "promote", lambda *_: "no better")

    assert training.training.fn("the weekly schedule").is_completed()

    (answered,) = latest(database)
    assert (answered.taken, "no better" in str(answered.ended)) == ("None", True)  # by a run without Prefect
    assert str(answered.acted).startswith("asked for retraining in another's place: run ")
    assert due(project, lambda: now_us() + 99 * HOUR, came_to=lambda _training: "nothing") is None
    second = store(database, replace(drift, id=0))
    assert due(project, lambda: now_us() + 11 * HOUR) is None, "it cools down, for longer as that one was in vain"
    assert str(latest(database)[0].acted).startswith("cooling down since ")
    found = due(project, lambda: now_us() + 12 * HOUR)
    assert found is not None and found.id == second.id


def test_a_training_by_a_person_answers_what_failed_before_and_leaves_what_another_works_at(
    project: Project, database: Engine, train: Train
) -> None:
    drift = asked(project, database)
    assert take(project, drift.id, "run 1")
    take_waiting(project, "run 2")
    assert latest(database)[0].taken == "run 1", "which works at it"
    fail(project, "run 1", "the disk was full")

    assert training.training.fn("I mended it").is_completed()

    assert standing(project) == (2, 2, BOTH)
    answered = latest(database)[0]
    assert "v2 (popularity) is champion" in str(answered.ended)
    assert answered.asked_at is not None and drift.asked_at is not None
    assert answered.asked_at > drift.asked_at, "the cool-down has begun anew"


def test_what_a_killed_training_had_taken_up_the_next_one_does(project: Project, database: Engine) -> None:
    take(project, asked(project, database).id, "run 1")
    take_waiting(project, "run 2", came_to=lambda _training: "nothing")
    assert latest(database)[0].taken == "run 2"


@pytest.mark.parametrize("damage", ["", "{"])
def test_where_no_version_is_live_a_training_has_nothing_to_answer(
    project: Project, database: Engine, train: Train, damage: str
) -> None:
    asked(project, database)
    (project.live / "champion.json").unlink()
    if damage:
        (project.live / "champion.json").write_text(damage)
    take_waiting(project, "run 1")
    assert latest(database)[0].taken is None


def test_what_the_gate_stops_is_said_in_the_verdict_and_not_asked_for_again(
    project: Project, database: Engine, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(*_: object) -> None:
        raise training.GateError("9% of the rows are broken")

    monkeypatch.setattr(training, "run_stages", stops)

    assert train(asked(project, database)).name == "Stopped by the gate"
    assert latest(database)[0].ended == "9% of the rows are broken"
    assert due(project, lambda: now_us() + 99 * HOUR, came_to=lambda _training: "nothing") is None
    assert standing(project) == (1, 1, FIRST)


def test_moments_are_utc_wherever_the_machine_is(
    project: Project, database: Engine, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        before = datetime.now(UTC)
        assert train(asked(project, database)).is_completed()
        said = str(show_history(project)).splitlines()[-1]
    finally:
        monkeypatch.undo()
        time.tzset()

    live = current(project)
    assert live is not None
    since = datetime.fromisoformat(live.since)
    assert timedelta(0) <= since - before < timedelta(minutes=5)
    assert live_model(project.live).since == round(since.timestamp() * 1e6)
    assert f"{since:%Y-%m-%d %H:%M:%S}" in said


def test_a_clock_that_is_set_back_changes_neither_who_is_live_nor_whom_a_rollback_returns_to(
    project: Project, database: Engine, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    drift = asked(project, database)
    monkeypatch.setattr(history, "now_us", lambda: now_us() - 24 * HOUR)

    assert train(drift).is_completed()

    first, second = show_history(project).rows
    assert second.at < first.at
    assert standing(project) == (2, 2, BOTH)
    assert rollback(project, "a test").version == 1
    assert standing(project) == (1, 1, [*BOTH, (1, 2, "rollback")])


def test_what_was_asked_for_by_a_clock_that_went_ahead_is_asked_for_again_by_the_right_one(
    project: Project, database: Engine
) -> None:
    ahead = mark_asked(project, asked(project, database), "event e1", lambda: now_us() + 365 * 24 * HOUR)

    found = due(project)

    assert found is not None
    assert found.id == ahead.id
