"""The history of champions: what a rollback returns to, what was done outside, one change at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from recloop.registry.history import Action, Championship, History, Ledger, stack
from recloop.registry.versions import Version
from recloop.storage import connect


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    engine = connect(database_url)
    yield Ledger(engine, "shop")
    engine.dispose()


def version(number: int, sha256: str = "a") -> Version:
    return Version(number, "run", "file:///nowhere", {"recloop.package_sha256": sha256, "recloop.model": "mf"})


def row(seq: int, number: int, action: Action, *, at: int = 0, model: str = "mf", why: str = "") -> Championship:
    return Championship(seq, at, "shop", number, "a", model, None, action, why)


def played(*moves: tuple[Action, int]) -> tuple[Championship, ...]:
    return tuple(row(seq, number, action) for seq, (action, number) in enumerate(moves))


@pytest.mark.parametrize(
    ("moves", "left"),
    [
        ([], ()),
        ([("promote", 1), ("promote", 2), ("promote", 3)], (1, 2, 3)),
        ([("promote", 1), ("promote", 2), ("promote", 3), ("rollback", 2)], (1, 2)),
        ([("promote", 1), ("promote", 2), ("promote", 3), ("rollback", 2), ("rollback", 1)], (1,)),
        ([("promote", 1), ("promote", 2), ("rollback", 1), ("promote", 3)], (1, 3)),
        # Won again after others were champion: going back from it leads to whom it beat.
        ([("promote", 1), ("promote", 2), ("promote", 1)], (1, 2, 1)),
        ([("promote", 1), ("promote", 2), ("promote", 1), ("rollback", 2)], (1, 2)),
        # An alias moved by hand: back to a former champion, or on to somebody new.
        ([("promote", 1), ("promote", 2), ("outside", 1)], (1,)),
        ([("promote", 1), ("outside", 5)], (1, 5)),
    ],
)
def test_a_rollback_takes_the_top_away_and_a_promotion_goes_on_top(
    moves: list[tuple[Action, int]], left: tuple[int, ...]
) -> None:
    assert tuple(number for number, _ in stack(played(*moves))) == left


def test_rows_come_back_as_they_were_written_in_order(ledger: Ledger) -> None:
    ledger.append(version(1), None, "promote", "first", {"latency_ms": 0.1 + 0.2})
    ledger.append(version(2), 1, "promote", "drift", {})

    first, second = ledger.rows()

    assert (first.version, first.previous, first.numbers) == (1, None, {"latency_ms": 0.1 + 0.2})
    assert (second.version, second.previous, second.reason) == (2, 1, "drift")
    assert ledger.last() == second
    assert first.at <= second.at


def test_an_alias_moved_by_hand_is_found_once_and_recorded_as_outside(ledger: Ledger) -> None:
    ledger.append(version(1), None, "promote", "first", {})

    assert ledger.reconcile(version(1)) is False
    assert ledger.reconcile(version(4)) is True
    assert ledger.reconcile(version(4)) is False

    newest = ledger.last()
    assert newest is not None
    assert (newest.version, newest.previous, newest.action) == (4, 1, "outside")
    assert len(ledger.rows()) == 2


def test_who_is_champion_already_when_the_history_begins_was_not_moved(ledger: Ledger) -> None:
    assert ledger.reconcile(version(3)) is True

    (first,) = ledger.rows()
    assert (first.version, first.previous, first.action) == (3, None, "outside")
    assert first.reason.startswith("champion already when this history began: in a new database")
    assert ledger.reconcile(version(4)) is True
    assert ledger.rows()[1].reason.startswith("the alias was found moved")


def test_a_registry_that_begins_anew_is_another_champion_of_the_same_number(ledger: Ledger) -> None:
    ledger.append(version(1), None, "promote", "first", {})

    assert ledger.reconcile(version(1, sha256="b")) is True

    assert [kept.package_sha256 for kept in ledger.rows()] == ["a", "b"]
    assert stack(ledger.rows()) == ((1, "a"), (1, "b"))


def test_each_registered_model_has_a_history_of_its_own(ledger: Ledger) -> None:
    other = Ledger(ledger.engine, "news")
    ledger.append(version(1), None, "promote", "first", {})
    other.append(version(7), None, "promote", "first of another", {})

    assert [kept.version for kept in ledger.rows()] == [1]
    assert [kept.version for kept in other.rows()] == [7]


def test_no_champion_at_all_is_nothing_to_record(ledger: Ledger) -> None:
    assert ledger.reconcile(None) is False
    assert ledger.rows() == ()


def test_the_table_says_who_was_champion_from_when_to_when_by_what_and_why() -> None:
    noon = 1_767_268_800_000_000  # 2026-01-01 12:00
    rows = (
        row(1, 1, "promote", at=noon, why="first"),
        row(2, 12, "rollback", at=noon + 3_600_000_000, model="sasrec", why="it was slow"),
    )

    assert str(History(rows, 12)).splitlines() == [
        "version  model   from (UTC)           until                by        why",
        "v1       mf      2026-01-01 12:00:00  2026-01-01 13:00:00  promote   first",
        "v12      sasrec  2026-01-01 13:00:00  now                  rollback  it was slow",
    ]
    assert "no champion now" in str(History(rows, None))
    assert "recloop promote" in str(History((), None))


def test_two_turns_never_overlap_even_between_threads(ledger: Ledger) -> None:
    inside: list[str] = []

    def change(name: str) -> None:
        with ledger.turn():
            inside.append(f"{name} in")
            time.sleep(0.05)
            inside.append(f"{name} out")

    threads = [threading.Thread(target=change, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [entry.split()[1] for entry in inside] == ["in", "out"] * 3
    assert all(inside[i].split()[0] == inside[i + 1].split()[0] for i in (0, 2, 4))


def test_the_turn_of_a_killed_process_is_free_at_once(database_url: str, ledger: Ledger) -> None:
    script = (
        "import sys, time\n"
        "from recloop.registry.history import Ledger\n"
        "from recloop.storage import connect\n"
        "with Ledger(connect(sys.argv[1]), 'shop').turn():\n"
        "    print('mine', flush=True)\n"
        "    time.sleep(60)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, database_url],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "mine\n"
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        started = time.monotonic()
        with ledger.turn():
            assert time.monotonic() - started < 5
    finally:
        holder.kill()
        holder.communicate()


def test_events_can_be_written_while_a_turn_is_held(database_url: str, ledger: Ledger) -> None:
    """The endpoint must not wait for a promotion that waits for MLflow."""
    with ledger.turn():
        other = Ledger(connect(database_url), "shop")
        other.append(version(1), None, "promote", "written beside the turn", {})

    assert len(ledger.rows()) == 1
