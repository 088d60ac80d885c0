"""Sessions: the recent end of everybody's history, in step with the database."""

from __future__ import annotations

from collections.abc import Iterator

from recloop.serving.events import Seen
from recloop.serving.sessions import Sessions


def test_events_after_the_watermark_come_in_order() -> None:
    sessions = Sessions(limit=10)
    sessions.add([Seen(1, "ann", "a"), Seen(2, "bob", "b"), Seen(3, "ann", "c"), Seen(4, "ann", "a")])
    assert sessions.after("ann", 0) == ["a", "c", "a"]
    assert sessions.after("ann", 1) == ["c", "a"]
    assert sessions.after("ann", 4) == []
    assert sessions.after("nobody", 0) == []


def test_only_a_users_last_events_are_kept() -> None:
    sessions = Sessions(limit=2)
    sessions.add(Seen(seq, "ann", f"i{seq}") for seq in range(1, 6))
    assert sessions.after("ann", 0) == ["i4", "i5"]


def test_writers_that_crossed_are_put_in_order_and_repeats_counted_once() -> None:
    sessions = Sessions(limit=10)
    sessions.add([Seen(2, "ann", "b")])
    sessions.add([Seen(1, "ann", "a"), Seen(2, "ann", "b")])
    assert sessions.after("ann", 0) == ["a", "b"]


def test_a_rebuild_takes_the_databases_events_and_keeps_those_that_came_meanwhile() -> None:
    sessions = Sessions(limit=10)
    sessions.add([Seen(1, "ann", "stale: the database knows better")])

    def stored() -> Iterator[Seen]:
        yield Seen(1, "ann", "a")
        yield Seen(2, "bob", "b")
        sessions.add([Seen(3, "ann", "c")])  # arrives while the database is read

    sessions.rebuild(stored(), floor=0)
    assert sessions.after("ann", 0) == ["a", "c"]
    assert sessions.after("bob", 0) == ["b"]
    assert sessions.floor == 0


def test_what_every_model_knows_is_forgotten() -> None:
    sessions = Sessions(limit=10)
    sessions.add([Seen(1, "ann", "a"), Seen(2, "bob", "b"), Seen(3, "ann", "c")])
    sessions.forget_until(2)
    assert sessions.after("ann", 0) == ["c"]
    assert sessions.after("bob", 0) == []
    assert sessions.floor == 2
