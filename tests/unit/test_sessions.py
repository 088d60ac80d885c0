"""Sessions: the recent end of everybody's history, in step with the database."""

from __future__ import annotations

from collections.abc import Iterator

from recloop.serving.events import Seen
from recloop.serving.sessions import Sessions


def seen(seq: int, user_id: str, item_id: str) -> Seen:
    return Seen(seq, user_id, item_id, timestamp=1000 + seq)


def items(sessions: Sessions, user_id: str, watermark: int) -> list[str]:
    return [event.item_id for event in sessions.after(user_id, watermark)]


def test_events_after_the_watermark_come_in_order() -> None:
    sessions = Sessions(limit=10)
    sessions.add([seen(1, "ann", "a"), seen(2, "bob", "b"), seen(3, "ann", "c"), seen(4, "ann", "a")])
    assert items(sessions, "ann", 0) == ["a", "c", "a"]
    assert items(sessions, "ann", 1) == ["c", "a"]
    assert items(sessions, "ann", 4) == []
    assert items(sessions, "nobody", 0) == []


def test_only_a_users_last_events_are_kept() -> None:
    sessions = Sessions(limit=2)
    sessions.add(seen(seq, "ann", f"i{seq}") for seq in range(1, 6))
    assert items(sessions, "ann", 0) == ["i4", "i5"]


def test_writers_that_crossed_are_put_in_order_and_repeats_counted_once() -> None:
    sessions = Sessions(limit=10)
    sessions.add([seen(2, "ann", "b")])
    sessions.add([seen(1, "ann", "a"), seen(2, "ann", "b")])
    assert items(sessions, "ann", 0) == ["a", "b"]


def test_a_rebuild_takes_the_databases_events_and_keeps_those_that_came_meanwhile() -> None:
    sessions = Sessions(limit=10)
    sessions.add([seen(1, "ann", "stale: the database knows better")])

    def stored() -> Iterator[Seen]:
        yield seen(1, "ann", "a")
        yield seen(2, "bob", "b")
        sessions.add([seen(3, "ann", "c")])  # arrives while the database is read

    sessions.rebuild(stored(), floor=0)
    assert items(sessions, "ann", 0) == ["a", "c"]
    assert items(sessions, "bob", 0) == ["b"]
    assert sessions.floor == 0


def test_what_every_model_knows_is_forgotten() -> None:
    sessions = Sessions(limit=10)
    sessions.add([seen(1, "ann", "a"), seen(2, "bob", "b"), seen(3, "ann", "c")])
    sessions.forget_until(2)
    assert items(sessions, "ann", 0) == ["c"]
    assert items(sessions, "bob", 0) == []
    assert sessions.floor == 2
