"""The store of events: nothing acknowledged is lost, nothing is counted twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import select

from recloop.errors import ServingError
from recloop.serving.events import Event, EventStore, events
from recloop.storage import connect


def event(event_id: str, user_id: str = "ann", item_id: str = "a", value: float = 1.0) -> Event:
    return Event(event_id, user_id, item_id, "click", value, timestamp=1_700_000_000_123_456)


@pytest.fixture
def store(database_url: str) -> Iterator[EventStore]:
    database = connect(database_url)
    yield EventStore(database)
    database.dispose()


def test_stored_events_have_a_place_in_the_order_of_arrival(store: EventStore) -> None:
    first = store.add([event("1", "ann", "a"), event("2", "bob", "b")])
    second = store.add([event("3", "ann", "c")])
    assert [(seen.seq, seen.user_id, seen.item_id) for seen in first.new] == [(1, "ann", "a"), (2, "bob", "b")]
    assert [(seen.seq, seen.user_id, seen.item_id) for seen in second.new] == [(3, "ann", "c")]
    assert list(store.after(0)) == [*first.new, *second.new]
    assert list(store.after(2)) == [*second.new]


def test_an_event_that_comes_again_is_named_and_not_counted_again(store: EventStore) -> None:
    store.add([event("1")])
    again = store.add([event("1"), event("2"), event("2"), event("3")])
    assert [seen.seq for seen in again.new] == sorted(seen.seq for seen in again.new)
    assert len(again.new) == 2
    assert again.duplicates == ("1", "2")
    assert len(list(store.after(0))) == 3


def test_what_came_first_under_an_id_stays(store: EventStore) -> None:
    store.add([event("1", item_id="a")])
    store.add([event("1", item_id="b")])
    assert [seen.item_id for seen in store.after(0)] == ["a"]


def test_a_stored_event_is_committed_for_other_processes_to_see(database_url: str, store: EventStore) -> None:
    store.add([event("1", value=4.5)])
    other = connect(database_url)
    with other.connect() as connection:
        rows = connection.exec_driver_sql("SELECT event_id, event, value, timestamp, request_id FROM events").all()
    other.dispose()
    assert rows == [("1", "click", 4.5, 1_700_000_000_123_456, None)]


def test_a_seq_is_never_used_twice(store: EventStore) -> None:
    database = store._database
    store.add([event("1"), event("2")])
    with database.begin() as connection:
        connection.execute(events.delete())
    assert [seen.seq for seen in store.add([event("3")]).new] == [3]


def test_an_event_keeps_its_context(store: EventStore) -> None:
    context = {"country": "Österreich", "device": "phone"}
    added = store.add([Event("1", "ann", "a", "dismiss", 1.0, context=context), event("2")])
    assert [(seen.event, seen.context) for seen in added.new] == [("dismiss", context), ("click", None)]
    assert list(store.after(0)) == [*added.new]
    with store._database.connect() as connection:
        without = connection.exec_driver_sql("SELECT event_id FROM events WHERE context IS NULL").scalars().all()
    assert without == ["2"]


def test_several_batches_in_one_transaction_are_told_apart(store: EventStore) -> None:
    store.add([event("known")])
    first, nothing, second = store.add_all([[event("1"), event("2")], [], [event("known"), event("2"), event("3")]])
    assert (len(first.new), first.duplicates) == (2, ())
    assert (nothing.new, nothing.duplicates) == ((), ())
    assert (len(second.new), second.duplicates) == (1, ("known", "2"))
    assert [seen.seq for seen in store.after(1)] == [seen.seq for seen in (*first.new, *second.new)]


def test_a_batch_of_thousands_is_one_order_and_all_or_nothing(store: EventStore) -> None:
    batch = [event(str(number), user_id=f"u{number % 7}") for number in range(3000)]
    assert [seen.user_id for seen in store.add(batch).new] == [each.user_id for each in batch]
    broken = [event("x"), Event("y", "ann", None, "click", 1.0, 0)]  # type: ignore[arg-type]
    with pytest.raises(ServingError, match=r"(?i)not.null constraint"):
        store.add(broken)
    assert len(list(store.after(0))) == 3000


def test_nothing_is_nothing(store: EventStore) -> None:
    assert store.add([]).new == ()


def test_writers_at_once_lose_nothing_and_see_each_others_duplicates(store: EventStore) -> None:
    stored: list[int] = []

    def write(lane: int) -> None:
        for number in range(20):
            stored.append(len(store.add([event(f"shared-{number}"), event(f"{lane}-{number}")]).new))

    threads = [threading.Thread(target=write, args=(lane,)) for lane in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(stored) == len(list(store.after(0))) == 20 + 4 * 20


def test_a_database_that_does_not_answer_is_said_so_and_the_events_can_be_sent_again(store: EventStore) -> None:
    database = store._database
    with database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE events RENAME TO away")
    with pytest.raises(ServingError, match=r"the database of events does not answer: .*events") as caught:
        store.add([event("1")])
    assert "send them again" in (caught.value.remedy or "")
    with pytest.raises(ServingError, match="does not answer"):
        list(store.after(0))
    with database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO events")
    assert len(store.add([event("1")]).new) == 1


def test_a_database_that_cannot_pass_over_duplicates_is_refused() -> None:
    class Mysql:
        dialect = type("Dialect", (), {"name": "mysql"})

    with pytest.raises(ServingError, match="events cannot be kept in mysql"):
        EventStore(Mysql())  # type: ignore[arg-type]


def test_every_event_has_the_time_it_came_in(store: EventStore) -> None:
    store.add([event("1")])
    with store._database.connect() as connection:
        received = connection.execute(select(events.c.received_at)).scalar_one()
    assert received > 1_760_000_000_000_000


def test_an_event_is_stored_with_all_that_was_said_of_it(store: EventStore) -> None:
    one = Event("1", "ann", "a", "rating", 4.5, 1_700_000_000_000_000, "r1", {"country": "AT"})
    store.add([one, event("2", "ann", "c")])
    with store._database.connect() as connection:
        first, second = connection.execute(select(events).order_by(events.c.seq)).mappings().all()
    assert {name: first[name] for name in vars(one)} == vars(one)
    assert (second["item_id"], second["context"]) == ("c", None)
