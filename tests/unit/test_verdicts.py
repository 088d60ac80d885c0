"""Verdicts in the database, and the cool-down that they start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import Engine

from monitoring.policy import Signal
from monitoring.verdicts import Verdict, cooling, end, judged, last_asked, latest, mark_asked, open_verdict, store, take
from recloop.storage import connect

HOUR = 3_600_000_000
AT = 1_790_000_000_000_000  # 2026-09-21 14:13:20 UTC
DRIFT = Verdict(
    id=0,
    at=AT,
    window_from=AT - HOUR,
    window_to=AT,
    version=3,
    events=4321,
    verdict="drift",
    signals=(Signal("value", "Jensen-Shannon distance", 0.5, 0.25, True, "1.0: 4.0% → 70.0%"),),
    reasons=("value: Jensen-Shannon distance 0.500 ≥ 0.25 (1.0: 4.0% → 70.0%)",),
    report="reports/drift/20260921T141320.000000Z/report.html",
)


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    engine = connect(database_url)
    yield engine
    engine.dispose()


def test_a_verdict_is_read_back_as_it_was_stored(database: Engine) -> None:
    stored = store(database, DRIFT)

    assert stored == replace(DRIFT, id=1)
    assert latest(database) == (stored,)


def test_the_newest_verdict_comes_first(database: Engine) -> None:
    for events in (1, 2, 3):
        store(database, replace(DRIFT, events=events))

    assert [verdict.events for verdict in latest(database, 2)] == [3, 2]


@pytest.mark.parametrize(
    ("verdict", "acted", "should"),
    [
        ("drift", None, True),
        ("drift", "cooling down since yesterday", False),
        ("drift", "asked for retraining: event e1", False),
        ("ok", None, False),
        ("insufficient", None, False),
    ],
)
def test_only_a_drift_that_nobody_acted_on_asks_for_a_retraining(verdict: str, acted: str | None, should: bool) -> None:
    assert replace(DRIFT, verdict=verdict, acted=acted).should_retrain is should  # type: ignore[arg-type]


def test_only_a_verdict_that_was_asked_for_starts_the_cool_down(database: Engine) -> None:
    drift = store(database, DRIFT)
    store(database, replace(DRIFT, acted="cooling down since yesterday"))
    assert last_asked(database, AT + 9, HOUR) is None

    asked = mark_asked(database, drift, "event e1", AT + 5)

    assert (asked.acted, asked.asked_at) == ("asked for retraining: event e1", AT + 5)
    assert last_asked(database, AT + 5, HOUR) == asked
    assert last_asked(database, AT + 4, HOUR) is None, "a clock went ahead"
    assert last_asked(database, AT + 5 + HOUR, HOUR) is None, "the event was lost"
    take(database, drift.id, "run 1")
    assert last_asked(database, AT + 5 + HOUR, HOUR) == replace(asked, taken="run 1")
    assert not asked.should_retrain


def test_the_cool_down_ends_after_its_hours() -> None:
    asked = replace(DRIFT, id=7, asked_at=AT)

    assert cooling(None, AT, 6) is None
    assert cooling(DRIFT, AT, 6) is None
    assert cooling(asked, AT + 6 * HOUR - 1, 6) == (
        "cooling down since 2026-09-21 14:13:20 UTC, when verdict 7 asked for retraining"
    )
    assert cooling(asked, AT + 6 * HOUR, 6) is None
    assert cooling(asked, AT + 1, 0) is None
    assert cooling(asked, AT - 1, 6) is None, "a clock went ahead"


def test_windows_with_too_little_in_them_are_not_judged(database: Engine) -> None:
    ok = store(database, replace(DRIFT, verdict="ok"))
    store(database, replace(DRIFT, verdict="insufficient"))
    store(database, replace(DRIFT, version=2))

    assert judged(database, 3, 0, AT, 10) == (ok,)


def test_only_the_newest_reason_to_retrain_is_open_and_of_the_version_asked_for(database: Engine) -> None:
    store(database, DRIFT)
    newest = store(database, replace(DRIFT, verdict="new data"))
    store(database, replace(DRIFT, verdict="ok"))
    store(database, replace(DRIFT, version=4))

    assert open_verdict(database, 3, 0) == newest
    assert open_verdict(database, 9, 0) is None


def test_one_training_takes_up_a_verdict_and_says_what_came_of_it(database: Engine) -> None:
    drift = store(database, DRIFT)

    assert take(database, drift.id, "run 1")
    assert take(database, drift.id, "run 1"), "as one does that was interrupted"
    assert not take(database, drift.id, "run 2")
    assert take(database, 99, "run 2"), "of a verdict that is not there"
    end(database, "run 2", "not its own")
    assert open_verdict(database, 3, 0) == replace(drift, taken="run 1")
    end(database, "run 1", "version 4 is champion")
    assert latest(database) == (replace(drift, taken="run 1", ended="version 4 is champion"),)
    assert open_verdict(database, 3, 0) is None


def test_a_verdict_reads_like_a_short_note() -> None:
    first, *rest = str(replace(DRIFT, id=7, acted="asked for retraining: event e1")).splitlines()

    assert first.startswith("verdict 7: drift: 4,321 events received 2026-09-21 13:13:20 UTC to 2026-09-21 14:13:20")
    assert first.endswith("under model version 3")
    assert rest == [
        "  value: Jensen-Shannon distance 0.500 ≥ 0.25 (1.0: 4.0% → 70.0%)",
        "  asked for retraining: event e1",
        "  report: reports/drift/20260921T141320.000000Z/report.html",
    ]
