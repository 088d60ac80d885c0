"""The endpoint without the web: forgetting, following and swapping, where they cross."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from recloop.config import Gate, Serving
from recloop.serving import endpoint as module
from recloop.serving import lineup
from recloop.serving.endpoint import Endpoint
from recloop.serving.engine import Engine
from recloop.serving.impressions import impressions
from recloop.serving.keys import KeyStore
from recloop.serving.metrics import Metrics
from recloop.serving.parsing import RefusedError, parse
from recloop.serving.refusals import refusals
from recloop.serving.schemas import EventsRequest, Limits, RecommendRequest
from recloop.serving.traffic import Split
from recloop.storage import connect, now_us
from tests.packages import point_at, write_package

LIMITS = Limits.of(Serving(), Gate())


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is let go after a while is let go at the next look."""
    monkeypatch.setattr(lineup, "LET_GO_SECONDS", 0.0)


class Worker:
    """One that looks only when it is told to."""

    def __init__(self, folder: Path, **serving: Any) -> None:
        database = connect(f"sqlite:///{folder / 'recloop.db'}")
        self.endpoint = Endpoint(folder / "live", database, Serving(poll_seconds=3600.0, **serving), Metrics())
        self.endpoint.start()

    async def items(self, **request: Any) -> list[str]:
        body = json.dumps(request).encode()
        kept = self.endpoint.recall(body)
        answer = kept or await self.endpoint.recommend(parse(RecommendRequest, body, LIMITS), body)
        return [item["item_id"] for item in json.loads(answer)["items"]]

    async def tell(self, event_id: str, user_id: str, item_id: str, event: str = "click") -> None:
        told = {"event_id": event_id, "user_id": user_id, "item_id": item_id, "event": event}
        await self.endpoint.record(parse(EventsRequest, json.dumps({"events": [told]}).encode(), LIMITS))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project whose version 1 is live; it recommends a, b, c, d, e in that order."""
    write_package(tmp_path / "live" / "v1")
    point_at(tmp_path / "live", 1)
    return tmp_path


def run(what: Coroutine[Any, Any, None]) -> None:
    asyncio.run(what)


def test_an_event_counts_after_the_session_it_belongs_to_was_let_go(folder: Path) -> None:
    write_package(folder / "live" / "v2", watermark=1, histories={"zoe": ["a"]})

    async def check() -> None:
        worker = Worker(folder)
        await worker.tell("1", "zoe", "a")
        point_at(folder / "live", 2)
        worker.endpoint.follow_versions()
        assert await worker.items(user_id="zoe", k=1) == ["b"]
        worker.endpoint.follow_versions()  # version 2 knows the event: the session goes
        await worker.tell("2", "zoe", "b")
        assert await worker.items(user_id="zoe", k=1) == ["c"]
        worker.endpoint.stop()

    run(check())


def test_what_a_forgotten_person_does_afterwards_is_known_to_all_and_stays(folder: Path) -> None:
    write_package(folder / "live" / "v2", watermark=99)

    async def check() -> None:
        one, other = Worker(folder), Worker(folder)
        await one.tell("1", "ann", "c")
        other.endpoint.follow_events()
        one.endpoint.forget("ann")
        await one.tell("2", "ann", "d")
        await one.tell("3", "ann", "a", "dismiss")
        other.endpoint.follow_events()
        for worker in (one, other):
            assert await worker.items(user_id="ann") == ["b", "c", "e"]
            assert [event.item_id for event in worker.endpoint.person("ann").history] == ["d"]
            worker.endpoint.stop()
        point_at(folder / "live", 2)
        again = Worker(folder)
        assert again.endpoint.person("ann").dismissed == ["a"], "also where a package knows all events"
        again.endpoint.stop()

    run(check())


def test_a_list_that_was_not_yet_written_when_its_user_was_forgotten_ends_without_a_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        worker = Worker(folder)
        await worker.items(user_id="zed")
        worker.endpoint.forget("zed")
        worker.endpoint.stop()  # writes what waits; as kill -9 would, it leaves the rest undone

    run(check())
    monkeypatch.setattr(module, "LATE_SECONDS", 0.0)
    again = Worker(folder)
    again.endpoint.follow_events()
    assert again.endpoint.person("zed").impressions == 0
    again.endpoint.stop()
    database = connect(f"sqlite:///{folder / 'recloop.db'}")
    with database.connect() as connection:
        assert connection.execute(select(impressions.c.user_id)).scalars().all() == [None]
        assert connection.exec_driver_sql("SELECT user_id FROM forgotten").scalars().all() == [None]
    database.dispose()


def test_forgetting_somebody_in_the_middle_of_a_rollback_loses_nobody_elses_events(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(folder / "live" / "v2", watermark=2, histories={"zoe": ["a"]})

    async def check() -> None:
        worker = Worker(folder)
        await worker.tell("1", "zoe", "a")
        await worker.tell("2", "bob", "a")
        point_at(folder / "live", 2)
        for _ in range(2):
            worker.endpoint.follow_versions()
        sessions = worker.endpoint._sessions
        rebuild = sessions.rebuild

        def meanwhile(*given: Any) -> None:
            rebuild(*given)
            worker.endpoint.forget("bob")
            worker.endpoint.follow_orders()

        monkeypatch.setattr(sessions, "rebuild", meanwhile)
        point_at(folder / "live", 1)
        worker.endpoint.follow_versions()
        assert worker.endpoint.describe().version == 1
        assert await worker.items(user_id="zoe", k=1) == ["b"], "her click on a is after version 1's watermark"
        assert worker.endpoint.person("bob").history == []
        worker.endpoint.stop()

    run(check())


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Set once a version is being loaded; and what it waits for."""
    begun, go_on = threading.Event(), threading.Event()
    load = Engine.load

    def slowly(path: Path) -> Engine:
        begun.set()
        go_on.wait(30)
        return load(path)

    monkeypatch.setattr(Engine, "load", slowly)
    yield begun, go_on
    go_on.set()


def test_a_key_that_is_revoked_and_a_split_do_not_wait_for_a_version_that_loads(
    folder: Path, loading: tuple[threading.Event, threading.Event]
) -> None:
    begun, go_on = loading
    go_on.set()
    worker = Worker(folder)
    database = connect(f"sqlite:///{folder / 'recloop.db'}")
    keys = KeyStore(database)
    key = keys.create("shop", ["recommend"])
    worker.endpoint.follow_orders()
    assert worker.endpoint.keys.find(key, now_us()) is not None
    write_package(folder / "live" / "v2")
    begun.clear()
    go_on.clear()
    point_at(folder / "live", 2)
    looking = threading.Thread(target=worker.endpoint.follow_versions)
    looking.start()
    assert begun.wait(30)
    keys.revoke(keys.all()[0].id)
    worker.endpoint.follow_orders()
    assert worker.endpoint.keys.find(key, now_us()) is None
    go_on.set()
    looking.join()
    assert worker.endpoint.describe().version == 2
    worker.endpoint.stop()
    database.dispose()


def test_what_was_refused_is_counted_at_the_latest_when_it_stops(folder: Path) -> None:
    worker = Worker(folder)
    with pytest.raises(RefusedError) as caught:
        parse(EventsRequest, b'{"events": [{}, {}]}', LIMITS)
    worker.endpoint.count_refused(caught.value)
    worker.endpoint.stop()
    database = connect(f"sqlite:///{folder / 'recloop.db'}")
    with database.connect() as connection:
        rows = connection.execute(select(refusals.c.reason, refusals.c.events, refusals.c.requests)).all()
    database.dispose()
    assert rows == [("event_id: missing", 2, 1)]


def test_what_was_seen_is_left_out_also_where_there_were_more_events_than_are_kept(folder: Path) -> None:
    async def check() -> None:
        worker = Worker(folder, max_history=2)
        for number, item_id in enumerate(["a", "b", "c", "c", "c"]):
            await worker.tell(str(number), "zoe", item_id)
        assert await worker.items(user_id="zoe") == ["d", "e"]
        assert await worker.items(user_id="zoe", exclude_seen=False, k=2) == ["a", "b"]
        worker.endpoint.stop()

    run(check())


def test_a_split_is_followed_without_a_look_at_the_versions(folder: Path) -> None:
    write_package(folder / "live" / "v2")
    point_at(folder / "live", 2, pointer="challenger.json")
    one, other = Worker(folder), Worker(folder)
    one.endpoint.set_split(Split(0.5), "a test")
    other.endpoint.follow_orders()
    assert other.endpoint.describe().split.challenger == 0.5
    for worker in (one, other):
        worker.endpoint.stop()
