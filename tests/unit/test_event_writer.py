"""Group commit: many requests, one flush to disk, and each is told of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy import event as listening

from recloop.errors import OverloadError, ServingError
from recloop.serving import events as module
from recloop.serving.event_writer import EventWriter
from recloop.serving.events import Event, EventStore, Stored
from recloop.storage import connect

PATIENCE = 0.3
"""Seconds that a statement waits for a lock."""


def event(event_id: str, item_id: str = "a") -> Event:
    return Event(event_id, "ann", item_id, "click", 1.0)


REFUSED = Event("refused", "ann", None, "click", 1.0)  # type: ignore[arg-type]


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    engine = connect(database_url, lock_seconds=PATIENCE)
    yield engine
    engine.dispose()


@pytest.fixture
def store(database: Engine) -> EventStore:
    return EventStore(database)


@pytest.fixture
def writer(store: EventStore) -> Iterator[EventWriter]:
    writer = EventWriter(store, limit=20)
    yield writer
    writer.close()


@pytest.fixture
def commits(database: Engine) -> list[object]:
    """One entry for each transaction that is committed from now on."""
    seen: list[object] = []
    listening.listen(database, "commit", seen.append)
    return seen


@contextmanager
def under_way(writer: EventWriter, store: EventStore) -> Iterator[Future[Stored]]:
    """Have one request on its way to the disk, so that those which follow gather."""
    with store._writing:
        first = writer.submit([event("first")])
        while writer._waiting:
            time.sleep(0.001)
        yield first


def new(future: Future[Stored]) -> list[int]:
    return [seen.seq for seen in future.result(10).new]


def test_what_gathers_while_a_commit_is_under_way_is_one_transaction(
    writer: EventWriter, store: EventStore, commits: list[object]
) -> None:
    with under_way(writer, store) as first:
        requests = [writer.submit([event(f"{number}-a"), event(f"{number}-b")]) for number in range(4)]
    assert new(first) == [1]
    assert [new(request) for request in requests] == [[2, 3], [4, 5], [6, 7], [8, 9]]
    assert len(commits) == 2
    assert [seen.seq for seen in store.after(0)] == list(range(1, 10))


def test_nobody_waits_for_others_to_come(writer: EventWriter, commits: list[object]) -> None:
    assert new(writer.submit([event("1")])) == [1]
    assert new(writer.submit([event("2")])) == [2]
    assert len(commits) == 2


def test_of_two_requests_with_one_event_the_first_has_stored_it(writer: EventWriter, store: EventStore) -> None:
    store.add([event("known")])
    with under_way(writer, store):
        one = writer.submit([event("shared", "a"), event("known")])
        two = writer.submit([event("own"), event("shared", "b"), event("own")])
    assert [seen.item_id for seen in one.result(10).new] == ["a"]
    assert one.result().duplicates == ("known",)
    assert len(two.result(10).new) == 1
    assert two.result().duplicates == ("shared", "own")
    assert len(list(store.after(0))) == 4


def test_a_request_that_is_refused_fails_nobody_else(writer: EventWriter, store: EventStore) -> None:
    with under_way(writer, store):
        good = [writer.submit([event(f"before-{number}")]) for number in range(3)]
        refused = writer.submit([event("beside"), REFUSED])
        good += [writer.submit([event(f"after-{number}")]) for number in range(3)]
    with pytest.raises(ServingError, match=r"(?i)not.null constraint"):
        refused.result(10)
    assert sum(len(request.result(10).new) for request in good) == 6
    stored = [seen.seq for seen in store.after(0)]
    assert len(stored) == 7
    assert [seq for request in good for seq in new(request)] == stored[1:]


def test_a_database_that_somebody_has_locked_fails_all_of_a_group_soon(
    database: Engine, writer: EventWriter, store: EventStore
) -> None:
    with database.connect() as other:
        if database.dialect.name == "sqlite":
            other.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            other.execute(select(func.pg_advisory_xact_lock(module.ORDER_KEY)))
        started = time.monotonic()
        requests = [writer.submit([event(str(number))]) for number in range(3)]
        for request in requests:
            with pytest.raises(ServingError, match=r"the database of events does not answer: .*(locked|lock timeout)"):
                request.result(10)
        assert PATIENCE <= time.monotonic() - started < 5
    assert list(store.after(0)) == []
    assert len(new(writer.submit([event("0")]))) == 1


def test_more_than_may_wait_is_refused_at_once(writer: EventWriter, store: EventStore) -> None:
    with under_way(writer, store):
        waiting = [writer.submit([event(f"{number}-{each}") for each in range(5)]) for number in range(4)]
        with pytest.raises(OverloadError, match="20 events wait for the database already") as caught:
            writer.submit([event("one more")])
    assert "send them again later" in (caught.value.remedy or "")
    assert [len(request.result(10).new) for request in waiting] == [5] * 4
    assert len(new(writer.submit([event("one more")]))) == 1


def test_a_request_of_more_than_may_wait_is_taken_when_nothing_waits(writer: EventWriter) -> None:
    assert len(new(writer.submit([event(str(number)) for number in range(50)]))) == 50


def test_close_stores_what_waits_and_takes_no_more(writer: EventWriter, store: EventStore) -> None:
    requests = [writer.submit([event(str(number))]) for number in range(10)]
    writer.close()
    assert all(request.done() for request in requests)
    assert len(list(store.after(0))) == 10
    with pytest.raises(ServingError, match="is stopping"):
        writer.submit([event("late")])
    writer.close()


def test_a_request_that_is_given_up_while_it_waits_is_not_stored(writer: EventWriter, store: EventStore) -> None:
    with under_way(writer, store) as first:
        given_up, other = writer.submit([event("given up")]), writer.submit([event("other")])
        assert given_up.cancel()
        assert not first.cancel()
    assert (new(first), new(other)) == ([1], [2])
    assert len(list(store.after(0))) == 2


def test_a_request_may_be_awaited(writer: EventWriter) -> None:
    async def store(number: int) -> int:
        return len((await asyncio.wrap_future(writer.submit([event(str(number % 5))]))).new)

    async def store_all() -> int:
        return sum(await asyncio.gather(*(store(number) for number in range(15))))

    assert asyncio.run(store_all()) == 5


def test_nothing_is_nothing(writer: EventWriter, commits: list[object]) -> None:
    assert writer.submit([]).result(10) == Stored((), ())
    assert commits == []


def test_whoever_reads_on_from_the_last_event_misses_none_of_several_processes(
    database_url: str, store: EventStore
) -> None:
    """A `seq` that becomes visible after a higher one would be passed over for ever."""
    script = (
        "import sys\n"
        "from recloop.serving.event_writer import EventWriter\n"
        "from recloop.serving.events import Event, EventStore\n"
        "from recloop.storage import connect\n"
        "url, lane = sys.argv[1:]\n"
        "writer = EventWriter(EventStore(connect(url, lock_seconds=5)), limit=10_000)\n"
        "for number in range(150):\n"
        "    batches = [[Event(f'{lane}-{number}-{each}', 'ann', 'a', 'click', 1.0)] for each in 'abc']\n"
        "    futures = [writer.submit(batch) for batch in batches]\n"
        "    assert [len(future.result().new) for future in futures] == [1, 1, 1]\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", script, database_url, lane], stderr=subprocess.PIPE, text=True)
        for lane in ("one", "two", "three")
    ]
    seqs = [0]
    while any(each.poll() is None for each in writers):
        seqs += [seen.seq for seen in store.after(seqs[-1])]
    seqs += [seen.seq for seen in store.after(seqs[-1])]
    assert [(each.communicate()[1], each.returncode) for each in writers] == [("", 0)] * 3
    assert seqs == [0] + [seen.seq for seen in store.after(0)]
    assert len(seqs) == 1 + 3 * 450
