"""Sessions: the recent end of everybody's history, in step with the database."""

from __future__ import annotations

from collections.abc import Iterator

from recloop.serving.events import Seen
from recloop.serving.sessions import Sessions
from recloop.serving.tables import user_hash


def seen(seq: int, user_id: str, item_id: str, event: str = "click") -> Seen:
    return Seen(seq, user_id, item_id, timestamp=1000 + seq, event=event)


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


def test_a_user_has_another_number_of_changes_when_something_changed_and_only_then() -> None:
    sessions = Sessions(limit=2)
    told = [sessions.changes("ann")]
    for event in (seen(5, "ann", "a"), seen(3, "ann", "b"), seen(3, "ann", "b"), seen(6, "bob", "a")):
        sessions.add([event])
        told.append(sessions.changes("ann"))
    assert told == [0, 1, 2, 2, 2], "a late event counts, one that was there before and another user's do not"
    assert sessions.changes(None) == 0


def test_dismissed_items_are_no_history_and_stay_dismissed() -> None:
    sessions = Sessions(limit=10)
    sessions.add([seen(1, "ann", "a"), seen(2, "ann", "b", "dismiss"), seen(2, "ann", "b", "dismiss")])
    assert items(sessions, "ann", 0) == ["a"]
    assert sessions.dismissed("ann") == ["b"]
    assert sessions.changes("ann") == 2
    sessions.forget_until(10)
    sessions.rebuild([], floor=10)
    assert sessions.dismissed("ann") == ["b"], "a model does not learn it: whichever is live, it must be left out"


def test_a_rebuild_lets_no_earlier_answer_stand() -> None:
    sessions = Sessions(limit=10)
    sessions.add([seen(1, "ann", "a")])
    before = sessions.changes("ann")
    sessions.rebuild([seen(1, "ann", "a")], floor=0)
    assert sessions.changes("ann") != before


def test_who_is_forgotten_has_no_events_and_it_is_known_until_when() -> None:
    sessions = Sessions(limit=10)
    sessions.add([seen(1, "ann", "a"), seen(2, "ann", "b", "dismiss"), seen(3, "bob", "b")])
    sessions.forget(user_hash("ann"), at=1500, last=2)
    assert (items(sessions, "ann", 0), sessions.dismissed("ann")) == ([], [])
    assert (sessions.forgotten_at("ann"), sessions.forgotten_at("bob")) == (1500, 0)
    sessions.add([seen(4, "ann", "c")])
    assert items(sessions, "ann", 0) == ["c"]
    assert items(sessions, "bob", 0) == ["b"]


def test_what_was_on_its_way_when_a_user_was_forgotten_does_not_come_back_and_what_they_say_after_counts() -> None:
    sessions = Sessions(limit=10)
    sessions.forget(user_hash("ann"), at=1500, last=5)
    sessions.add([seen(4, "ann", "a"), seen(5, "ann", "b", "dismiss"), seen(6, "ann", "c"), seen(4, "bob", "a")])
    sessions.add([seen(7, "ann", "d", "dismiss")])
    sessions.forget(user_hash("ann"), at=1500, last=5)  # told again, e.g. by another process
    assert (items(sessions, "ann", 0), sessions.dismissed("ann"), items(sessions, "bob", 0)) == (["c"], ["d"], ["a"])


def test_who_is_forgotten_while_the_database_is_read_stays_so() -> None:
    sessions = Sessions(limit=10)

    def stored() -> Iterator[Seen]:
        yield seen(1, "ann", "a")
        yield seen(2, "bob", "b")
        sessions.forget(user_hash("ann"), at=1500, last=1)
        yield seen(3, "ann", "c")

    sessions.rebuild(stored(), floor=0)
    assert (items(sessions, "ann", 0), items(sessions, "bob", 0)) == (["c"], ["b"])


def test_a_session_that_goes_and_comes_again_has_a_number_it_never_had() -> None:
    sessions = Sessions(limit=10)
    numbers = []
    for seq in range(1, 5):
        sessions.add([seen(seq, "ann", "a")])
        numbers.append(sessions.changes("ann"))
        sessions.forget_until(seq)
    assert len(set(numbers)) == 4


class Alphabet:
    def code(self, item_id: str) -> int | None:
        return None if item_id == "z" else ord(item_id) - ord("a")


def test_items_of_events_that_are_not_kept_are_known_as_long_as_no_model_knows_them() -> None:
    sessions, alphabet = Sessions(limit=2), Alphabet()

    def passed() -> list[int]:
        return sessions.passed("ann", alphabet).tolist()

    sessions.add([seen(1, "ann", "a"), seen(2, "ann", "z"), seen(3, "ann", "b")])
    assert passed() == [0]
    sessions.add([seen(4, "ann", "c"), seen(5, "ann", "c")])
    assert (passed(), items(sessions, "ann", 0)) == ([0, 1], ["c", "c"])
    assert sessions.passed("ann", Alphabet()).tolist() == [0, 1]
    sessions.forget_until(2)
    assert passed() == [1]
    sessions.forget_until(4)
    assert (passed(), items(sessions, "ann", 0)) == ([], ["c"])


def test_an_event_that_comes_late_takes_its_place_once() -> None:
    sessions = Sessions(limit=10)
    sessions.add([seen(1, "ann", "a"), seen(5, "ann", "e"), seen(3, "ann", "c")])
    before = sessions.changes("ann")
    sessions.add([seen(seq, "ann", "x") for seq in (5, 3, 1)])
    assert (items(sessions, "ann", 0), sessions.changes("ann")) == (["a", "c", "e"], before)
