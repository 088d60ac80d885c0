"""Refused events are counted: by what is wrong with them, never by what is in them, and none is lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, select

from recloop.config import Gate, Serving
from recloop.errors import DatabaseError
from recloop.serving import refusals as module
from recloop.serving.parsing import RefusedError, parse
from recloop.serving.refusals import Refusals, reasons, refusals
from recloop.serving.schemas import EventsRequest, Limits
from recloop.storage import connect

LIMITS = Limits.of(Serving(max_history=30), Gate())
GOOD = {"event_id": "1", "user_id": "ann", "item_id": "a", "event": "click"}
HOUR = 3_600_000_000


def refused(body: bytes) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        parse(EventsRequest, body, LIMITS)
    return caught.value


def of(*events: object, **further: object) -> RefusedError:
    return refused(json.dumps({"events": events} | further).encode())


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    engine = connect(database_url)
    yield engine
    engine.dispose()


def rows(database: Engine) -> list[tuple[object, ...]]:
    with database.connect() as connection:
        return [tuple(row) for row in connection.execute(select(refusals).order_by(refusals.c.hour, refusals.c.reason))]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"event": "rating"}, "value: missing"),
        ({"event": "rating", "value": None}, "value: missing"),
        ({"event": "purchase", "value": -5}, "value: out of range"),
        ({"value": "much"}, "value: malformed"),
        ({"value": float("nan")}, "value: malformed"),
        ({"event": "teleport"}, "event: not allowed"),
        ({"event": "Click me"}, "event: malformed"),
        ({"event": None}, "event: missing"),
        ({"item_id": ""}, "item_id: missing"),
        ({"item_id": 7}, "item_id: malformed"),
        ({"user_id": "u" * 257}, "user_id: malformed"),
        ({"timestamp": 1_700_000_000_000}, "timestamp: out of range"),
        ({"timestamp": "noon"}, "timestamp: malformed"),
        ({"context": {"country": 49}}, "context: malformed"),
        ({"secret name": None}, "another key: not allowed"),
        ({"events": 1}, "events: not allowed"),
    ],
)
def test_an_event_counts_by_its_field_and_the_kind_of_fault(fields: dict[str, object], reason: str) -> None:
    assert reasons(of(GOOD | fields)) == {reason: 1}


def test_of_a_batch_the_faulty_events_count_each_once() -> None:
    no_value = GOOD | {"event": "rating"}
    assert reasons(of(GOOD, no_value, {}, no_value, 7, GOOD)) == {
        "value: missing": 2,
        "event_id: missing": 1,
        "events: malformed": 1,
    }


def test_where_the_request_itself_is_at_fault_all_its_events_count_or_one() -> None:
    assert reasons(of(GOOD, GOOD | {"value": -1}, sent_by="me")) == {"another key: not allowed": 2}
    assert reasons(of(*[GOOD] * 31)) == {"events: too many": 31}
    assert reasons(of()) == {"events: missing": 1}
    assert reasons(refused(json.dumps(GOOD).encode())) == {"events: missing": 1}
    assert reasons(refused(b'{"events": "all"}')) == {"events: malformed": 1}
    for body in (b"{", b"", b"[]", b"null", b"7"):
        assert reasons(refused(body)) == {"body: malformed": 1}


def test_counts_of_an_hour_are_added_up_also_those_of_several_processes(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Refusals(database), Refusals(database)
    both = of(GOOD | {"value": -1}, GOOD | {"value": -1}, {})
    for now in (5 * HOUR + 1, 6 * HOUR - 1, 6 * HOUR):
        monkeypatch.setattr(module, "now_us", lambda now=now: now)
        for each in (one, other):
            each.count(both)
            each.write()
    one.write()
    assert rows(database) == [
        (5 * HOUR, "event_id: missing", 4, 4),
        (5 * HOUR, "value: out of range", 8, 4),
        (6 * HOUR, "event_id: missing", 2, 2),
        (6 * HOUR, "value: out of range", 4, 2),
    ]


def test_what_is_counted_while_others_write_is_not_lost(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "now_us", lambda: 0)
    counts = [Refusals(database) for _ in range(2)]
    errors = [of({}), of(GOOD | {"value": -1})]
    done = threading.Event()

    def write(each: Refusals) -> None:
        while not done.is_set():
            each.write()

    writers = [threading.Thread(target=write, args=(each,)) for each in counts]
    for writer in writers:
        writer.start()
    for number in range(2000):
        counts[number % 2].count(errors[number // 2 % 2])
    done.set()
    for writer in writers:
        writer.join()
    for each in counts:
        each.write()
    assert rows(database) == [(0, "event_id: missing", 1000, 1000), (0, "value: out of range", 1000, 1000)]


def test_while_the_database_is_away_counts_wait_and_no_more_of_them_than_there_is_room_for(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    counts = Refusals(database)
    with database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE refusals RENAME TO away")
    for hour in range(4):
        monkeypatch.setattr(module, "now_us", lambda hour=hour: hour * HOUR)
        counts.count(of({}))
        with pytest.raises(DatabaseError):
            counts.write()
    with database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO refusals")
    for _ in range(2):
        counts.write()
    assert rows(database) == [(hour * HOUR, "event_id: missing", 1, 1) for hour in range(2)]
