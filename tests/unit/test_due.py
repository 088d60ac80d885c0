"""When a retraining is asked for, and asked for again; and who is alerted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from monitoring.alerts import Alerts
from monitoring.channels import Channel, Message
from monitoring.run import CameTo, due, end, mark_asked, mark_rolled_back, take, take_waiting, worse
from monitoring.telling import tell_of, training_failed, training_succeeded
from monitoring.verdicts import Verdict, latest, store
from monitoring.window import HOUR
from recloop.config import Severity
from recloop.project import Project
from recloop.storage import connect
from tests.conftest import ROOT
from tests.shop import change_params
from tests.unit.test_verdicts import AT, DRIFT

SECOND = 1_000_000


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    go_live(tmp_path, 3)
    return Project(tmp_path)


@pytest.fixture
def database(project: Project) -> Iterator[Engine]:
    opened = connect(project.database_url)
    yield opened
    opened.dispose()


def go_live(root: Path, version: int) -> None:
    package = root / "var" / "live" / f"v{version}"
    package.mkdir(parents=True)
    (package / "package.json").write_text(json.dumps({"newest": None, "feedback_watermark": 0}))
    pointer = {"version": version, "folder": package.name, "since": datetime.fromtimestamp(0, UTC).isoformat()}
    (root / "var" / "live" / "champion.json").write_text(json.dumps(pointer))


def test_a_reason_to_retrain_is_due_until_it_was_asked_for(project: Project, database: Engine) -> None:
    assert due(project, lambda: AT) is None
    store(database, replace(DRIFT, verdict="warn"))
    assert due(project, lambda: AT) is None
    drift = store(database, DRIFT)

    assert due(project, lambda: AT) == drift
    mark_asked(project, drift, "event e1", lambda: AT)
    assert due(project, lambda: AT + SECOND) is None


def test_an_event_that_was_lost_is_sent_again_after_an_hour_cool_down_or_not(
    project: Project, database: Engine
) -> None:
    asked = mark_asked(project, store(database, DRIFT), "event e1", lambda: AT)

    assert due(project, lambda: AT + HOUR - 1) is None
    assert due(project, lambda: AT + HOUR) == asked


def test_what_a_training_has_taken_up_is_due_again_only_if_that_was_cut_off_and_not_at_once(
    project: Project, database: Engine
) -> None:
    drift = mark_asked(project, store(database, DRIFT), "event e1", lambda: AT)
    assert take(project, drift.id, "run 1")
    cut_off: dict[str, CameTo] = {"run 1": "nothing"}

    assert due(project, lambda: AT + 2 * HOUR) is None, "it is under way"
    for hours in (2, 3, 5):  # at each run of the monitor
        assert due(project, lambda now=AT + hours * HOUR: now, came_to=cut_off.get) is None, "it cools down"
    again = due(project, lambda: AT + 6 * HOUR, came_to=cut_off.get)
    assert again is not None
    assert again.id == drift.id
    assert take(project, drift.id, "run 3")
    end(project, "run 3", "version 4 is champion")
    assert due(project, lambda: AT + 99 * HOUR, came_to=lambda _run: "nothing") is None


def test_what_a_person_has_cancelled_is_not_asked_for_again(project: Project, database: Engine) -> None:
    drift = mark_asked(project, store(database, DRIFT), "event e1", lambda: AT)
    take(project, drift.id, "run 1")

    assert due(project, lambda: AT + 6 * HOUR, came_to=lambda _run: "cancelled") is None
    assert latest(database)[0].ended == "a person cancelled the training"
    assert due(project, lambda: AT + 99 * HOUR, came_to=lambda _run: "nothing") is None


def test_a_training_for_another_reason_that_is_cancelled_leaves_the_verdict_that_it_took_up(
    project: Project, database: Engine
) -> None:
    drift = store(database, DRIFT)
    take_waiting(project, "run 1", lambda: AT)

    found = due(project, lambda: AT + HOUR, came_to=lambda _run: "cancelled")
    assert found is not None
    assert (found.id, found.taken, found.ended) == (drift.id, None, None)


def test_what_a_person_has_cancelled_was_not_in_vain(project: Project, database: Engine) -> None:
    take(project, mark_asked(project, store(database, DRIFT), "event e1", lambda: AT).id, "run 1")
    assert due(project, lambda: AT + HOUR, came_to=lambda _run: "cancelled") is None
    store(database, DRIFT)

    assert due(project, lambda: AT + 6 * HOUR - 1) is None
    assert due(project, lambda: AT + 6 * HOUR) is not None, "the rest is no longer than ever"


def test_what_was_lost_keeps_nothing_newer_waiting(project: Project, database: Engine) -> None:
    mark_asked(project, store(database, DRIFT), "event e1", lambda: AT)
    newer = store(database, DRIFT)

    assert due(project, lambda: AT + HOUR - 1) is None
    found = due(project, lambda: AT + HOUR)
    assert found is not None
    assert found.id == newer.id


def test_a_clock_that_went_ahead_does_not_end_the_cool_down(project: Project, database: Engine) -> None:
    for run, at in (("run 1", AT + 99 * HOUR), ("run 2", AT)):
        take(project, mark_asked(project, store(database, DRIFT), "event", lambda at=at: at).id, run)
    store(database, DRIFT)

    assert due(project, lambda: AT + 6 * HOUR - 1) is None
    assert due(project, lambda: AT + 6 * HOUR) is not None


def test_a_training_answers_every_verdict_that_it_took_up_and_was_in_vain_once(
    project: Project, database: Engine
) -> None:
    first, _second = store(database, DRIFT), store(database, DRIFT)
    assert take(project, mark_asked(project, first, "event e1", lambda: AT).id, "run 1")
    take_waiting(project, "run 1", lambda: AT)
    end(project, "run 1", "no better")

    assert [verdict.ended for verdict in latest(database, 2)] == ["no better"] * 2
    store(database, DRIFT)
    assert due(project, lambda: AT + 12 * HOUR - 1) is None
    assert due(project, lambda: AT + 12 * HOUR) is not None


def test_a_second_reason_waits_until_the_first_has_cooled_down_and_says_so(project: Project, database: Engine) -> None:
    first = mark_asked(project, store(database, DRIFT), "event e1", lambda: AT)
    take(project, first.id, "run 1")
    end(project, "run 1", "no better")
    second = store(database, DRIFT)

    assert due(project, lambda: AT + 11 * HOUR) is None, "after a training in vain the rest is twice as long"
    acted = latest(database)[0].acted
    assert acted == "cooling down since 2026-09-21 14:13:20 UTC, when verdict 1 asked for retraining"
    found = due(project, lambda: AT + 12 * HOUR)
    assert found is not None
    assert found.id == second.id


def test_in_quiet_hours_it_waits_until_they_are_over(project: Project, database: Engine) -> None:
    change_params(project.root, {"monitoring.quiet_hours": {"begin": "14:00", "end": "15:00"}})
    store(database, DRIFT)
    project = Project(project.root)  # which reads them

    assert due(project, lambda: AT) is None  # 14:13
    assert latest(database)[0].acted == "quiet hours until 15:00 UTC"
    assert due(project, lambda: AT + HOUR) is not None


def test_what_accuses_a_version_that_is_live_no_more_is_not_due(project: Project, database: Engine) -> None:
    store(database, DRIFT)
    go_live(project.root, 4)

    assert due(project, lambda: AT) is None
    assert not take(project, 1, "run 1"), "nor is it taken up any more"


def test_what_does_worse_is_to_be_rolled_back_until_it_was(project: Project, database: Engine) -> None:
    found = store(database, replace(DRIFT, verdict="worse"))
    store(database, replace(DRIFT, verdict="insufficient"))

    assert worse(project) == found
    mark_rolled_back(project, found, "rolled back")
    assert worse(project) is None


class TestAlerts:
    @pytest.fixture
    def told(self) -> list[Message]:
        return []

    @pytest.fixture
    def alerts(self, project: Project, database: Engine, told: list[Message]) -> Alerts:
        return Alerts(database, project.params.alerts, [Channel("list", told.append)])

    def test_a_drift_is_told_once_and_resolved_by_the_next_good_window(
        self, alerts: Alerts, told: list[Message]
    ) -> None:
        for number in (1, 2):
            tell_of(replace(DRIFT, id=number), alerts)
        assert [message.title for message in told] == ["value has drifted under model version 3"]
        assert "0.500 ≥ 0.25" in told[0].body

        tell_of(replace(DRIFT, verdict="insufficient", signals=()), alerts)
        assert [alert.cause for alert in alerts.open()] == ["drift of version 3: value"]
        tell_of(quiet(replace(DRIFT, verdict="ok"), {"drifted": False}), alerts)
        assert alerts.open() == ()

    def test_signals_that_begin_to_drift_together_are_one_alert_until_none_of_them_does(
        self, alerts: Alerts, told: list[Message]
    ) -> None:
        tell_of(drifted("value", "event"), alerts)
        tell_of(drifted("event", "fields", severity="warn"), alerts)
        assert [(message.severity, message.title) for message in told] == [
            ("retrain", "value and event have drifted under model version 3"),
            ("warn", "fields has drifted under model version 3"),
        ]
        tell_of(drifted("fields"), alerts)
        assert [alert.cause for alert in alerts.open()] == ["drift of version 3: fields"]

    def test_of_a_signal_that_was_not_compared_it_is_not_known_that_it_drifts_no_more(
        self, alerts: Alerts, told: list[Message]
    ) -> None:
        strategy = replace(DRIFT, signals=(*DRIFT.signals, replace(DRIFT.signals[0], name="strategy")))
        for verdict in (strategy, quiet(replace(DRIFT, verdict="ok"), {"drifted": False}), strategy):
            tell_of(verdict, alerts)
        assert [message.title for message in told] == ["value and strategy have drifted under model version 3"]

    def test_silence_is_told_until_something_comes_in(self, alerts: Alerts, told: list[Message]) -> None:
        silent = replace(DRIFT, verdict="silent", signals=(), reasons=("no event has come in for 30 h",))
        tell_of(DRIFT, alerts)
        for _ in range(2):
            tell_of(silent, alerts)
        assert [message.title for message in told][1:] == ["no events come in, or hardly any"]
        assert len(alerts.open()) == 2, "what had drifted has not gone"

        tell_of(replace(DRIFT, verdict="insufficient", signals=()), alerts)
        assert [alert.cause for alert in alerts.open()] == ["drift of version 3: value"]

    def test_what_a_version_was_accused_of_ends_with_it(self, alerts: Alerts) -> None:
        tell_of(DRIFT, alerts)
        tell_of(replace(DRIFT, version=4), alerts)

        assert [alert.cause for alert in alerts.open()] == ["drift of version 4: value"]
        tell_of(replace(DRIFT, version=5, verdict="insufficient", signals=()), alerts)
        assert alerts.open() == ()

    @pytest.mark.parametrize("change", [{"severity": "note"}, {"awaited": 1}])
    def test_what_does_not_count_is_not_told(
        self, alerts: Alerts, told: list[Message], change: dict[str, object]
    ) -> None:
        tell_of(quiet(DRIFT, change), alerts)
        assert told == []

    def test_a_training_that_came_to_nothing_is_told_until_one_succeeds(
        self, alerts: Alerts, told: list[Message]
    ) -> None:
        training_failed("the gate", "9% of the rows are broken", alerts)
        training_failed("the gate", "8% of the rows are broken", alerts)
        assert [(message.severity, message.title) for message in told] == [
            ("error", "training failed: the gate; the champion stays")
        ]
        training_succeeded(alerts)
        assert alerts.open() == ()


def drifted(*names: str, severity: Severity = "retrain") -> Verdict:
    """All of `value`, `event` and `fields` were compared, and those named have drifted."""
    signals = [replace(DRIFT.signals[0], name=name, drifted=False) for name in ("value", "event", "fields")]
    return replace(
        DRIFT,
        signals=tuple(
            replace(signal, drifted=signal.name in names, severity=severity if signal.name == "fields" else "retrain")
            for signal in signals
        ),
    )


def quiet(verdict: Verdict, change: dict[str, object]) -> Verdict:
    return replace(verdict, signals=(replace(verdict.signals[0], **change),))  # type: ignore[arg-type]
