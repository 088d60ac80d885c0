"""What is kept of one person, and what is left of them once they are forgotten."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, insert, select, text

from recloop.serving import people as module
from recloop.serving.events import Event, EventStore
from recloop.serving.impressions import impressions
from recloop.serving.people import Forgotten, People, Record
from recloop.serving.tables import user_hash
from recloop.storage import connect, now_us


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    database = connect(database_url)
    yield database
    database.dispose()


def event(event_id: str, user_id: str = "ann") -> Event:
    return Event(event_id, user_id, "a", "click", 1.0)


def show(database: Engine, *user_ids: str | None, at: int = 0) -> None:
    shown = {
        "request_id": "r", "served_at": at, "version": 1, "variant": "champion", "strategy": "model", "items": ["a"],
        "scores": [1.0], "history_length": 0,
    }  # fmt: skip
    with database.begin() as connection:
        connection.execute(insert(impressions), [shown | {"user_id": user_id} for user_id in user_ids])


def names(database: Engine) -> list[str | None]:
    with database.connect() as connection:
        return list(connection.execute(select(impressions.c.user_id).order_by(impressions.c.seq)).scalars())


def test_a_user_who_is_forgotten_leaves_no_events_and_no_name(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STRETCH", 2)
    people, store = People(database), EventStore(database)
    store.add([event("1"), event("2", "bob"), event("3")])
    show(database, "ann", "bob", None, "ann", "ann")
    assert people.record("ann") == Record(events=2, impressions=3)
    assert people.forget("ann") == Record(events=2, impressions=3)
    assert [seen.user_id for seen in store.after(0)] == ["bob"]
    assert names(database) == [None, "bob", None, None, None]
    assert people.forget("ann") == Record(0, 0)


def test_others_are_told_up_to_which_event_and_once_finished_no_name_is_left(database: Engine) -> None:
    people, store = People(database), EventStore(database)
    store.add([event("1"), event("2"), event("3", "bob")])
    before = now_us()
    people.forget("ann")
    people.forget("eli")
    ann, eli = people.forgotten(0)
    assert before <= ann.at <= now_us()
    assert ann == Forgotten(1, user_hash("ann"), ann.at, last_event=2, user_id="ann")
    assert (eli.last_event, eli.user_id) == (0, "eli")
    assert people.forgotten(1) == [eli]
    people.finish(1)
    people.finish(1)  # as a second process would
    assert [person.user_id for person in people.forgotten(0)] == [None, "eli"]
    with database.connect() as connection:
        left = connection.execute(text("SELECT * FROM forgotten WHERE seq = 1")).one()
    assert "ann" not in map(str, left)


def test_lists_that_were_on_their_way_lose_the_name_and_later_ones_keep_it(database: Engine) -> None:
    people = People(database)
    show(database, "ann")
    people.forget("ann")
    asked = people.forgotten(0)[0].at
    show(database, "ann", "bob", at=asked)  # written after, shown before
    show(database, "ann", at=asked + 1)
    people.finish(1)
    assert names(database) == [None, None, "bob", "ann"]


def test_an_event_of_a_forgotten_user_may_come_again_with_a_seq_of_its_own(database: Engine) -> None:
    store = EventStore(database)
    store.add([event("1"), event("2")])
    People(database).forget("ann")
    assert [seen.seq for seen in store.add([event("2")]).new] == [3]
