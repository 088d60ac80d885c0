"""Impressions: written beside the answers, never in their way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from sqlalchemy import Engine, select

from recloop.serving import impressions as module
from recloop.serving.impressions import Impression, ImpressionLog, Shown, impressions
from recloop.storage import connect


class Tally:
    def __init__(self) -> None:
        self.stored = self.dropped = 0

    def store(self, count: int) -> None:
        self.stored += count

    def drop(self, count: int) -> None:
        self.dropped += count


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    engine = connect(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def tally() -> Tally:
    return Tally()


def log(database: Engine, tally: Tally, limit: int = 100) -> ImpressionLog:
    return ImpressionLog(database, limit, on_stored=tally.store, on_dropped=tally.drop)


def impression(number: int, user_id: str | None = "ann") -> Impression:
    shown = Shown(user_id, 3, "champion", "model", items='["a", "b"]', scores="[0.5, 0.25]", history_length=7)
    return Impression(f"r{number}", 1_700_000_000_000_000 + number, shown)


def rows(database: Engine) -> list[tuple[object, ...]]:
    with database.connect() as connection:
        return [tuple(row) for row in connection.execute(select(impressions).order_by(impressions.c.seq))]


def eventually(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it did not come about in time"
        time.sleep(0.01)


def table_is(database: Engine, name: str, then: str) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {name} RENAME TO {then}")


def test_closing_writes_what_waits(database: Engine, tally: Tally) -> None:
    writer = log(database, tally, limit=2000)
    for number in range(1234):
        writer.put(impression(number))
    writer.close()
    stored = rows(database)
    assert [row[1] for row in stored] == [f"r{number}" for number in range(1234)]
    assert stored[5][2:] == (
        "ann", 1_700_000_000_000_005, 3, "champion", "model", ["a", "b"], [0.5, 0.25], 7, None,
    )  # fmt: skip
    assert (tally.stored, tally.dropped) == (1234, 0)


def test_the_chances_that_exploration_gave_are_kept(database: Engine, tally: Tally) -> None:
    writer = log(database, tally)
    shown = replace(impression(1).shown, chances="[0.9, null]")
    writer.put(Impression("r1", 1, shown))
    writer.close()
    assert rows(database)[0][10] == [0.9, None]


def test_a_name_may_have_any_characters(database: Engine, tally: Tally) -> None:
    names = ['"', "\\", "a\nb\tc", "ž 漢字 🙂", "'; DROP TABLE impressions; --", ":rows", "null", ""]
    writer = log(database, tally)
    for number, name in enumerate(names):
        writer.put(impression(number, user_id=name))
    writer.close()
    assert [row[2] for row in rows(database)] == names


def test_a_list_shown_to_nobody_in_particular_is_kept_too(database: Engine, tally: Tally) -> None:
    writer = log(database, tally)
    writer.put(impression(1, user_id=None))
    eventually(lambda: len(rows(database)) == 1)
    assert rows(database)[0][2] is None
    writer.close()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # PostgreSQL calls a missing table a mistake
def test_a_stalled_database_drops_what_does_not_fit_and_holds_nobody_up(
    database: Engine, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)
    table_is(database, "impressions", "away")
    writer = log(database, tally, limit=10)
    writer.put(impression(0))
    eventually(lambda: writer._failing)
    started = time.monotonic()
    for number in range(1, 2001):
        writer.put(impression(number))
    assert time.monotonic() - started < 1.0
    assert tally.dropped > 1000
    assert tally.stored == 0
    table_is(database, "away", "impressions")
    eventually(lambda: tally.stored + tally.dropped == 2001)
    writer.close()
    assert len(rows(database)) == tally.stored > 0


def test_what_a_dead_database_does_not_take_at_the_end_is_counted(database: Engine, tally: Tally) -> None:
    table_is(database, "impressions", "away")
    writer = log(database, tally)
    for number in range(7):
        writer.put(impression(number))
    writer.close()
    assert (tally.stored, tally.dropped) == (0, 7)


@pytest.mark.parametrize(
    "refused",
    [
        impression(1, user_id=b"\xff".decode("utf-8", "surrogateescape")),
        Impression("r1", 1, replace(impression(1).shown, scores="[NaN]")),
    ],
    ids=["no text", "no JSON"],
)
def test_a_row_that_the_database_refuses_does_not_take_others_with_it(
    database: Engine, tally: Tally, refused: Impression, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GATHER_SECONDS", 0.5)  # they come together
    writer = log(database, tally)
    time.sleep(0.05)
    for each in (impression(0), refused, *map(impression, range(2, 7))):
        writer.put(each)
    eventually(lambda: (tally.stored, tally.dropped) == (6, 1))
    writer.close()
    assert [row[1] for row in rows(database)] == ["r0", *(f"r{number}" for number in range(2, 7))]
