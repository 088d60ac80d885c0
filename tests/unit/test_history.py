"""The history of champions: what a rollback returns to, what was done outside, one change at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine

from recloop.registry import history
from recloop.registry.history import Action, Championship, History
from recloop.storage import connect


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return connect(f"sqlite:///{tmp_path / 'recloop.db'}")


def played(*moves: tuple[Action, int]) -> tuple[Championship, ...]:
    return tuple(Championship(seq, seq, version, None, action, "") for seq, (action, version) in enumerate(moves))


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
    assert history.stack(played(*moves)) == left


def test_rows_come_back_as_they_were_written_in_order(engine: Engine) -> None:
    history.append(engine, 1, None, "promote", "first", {"latency_ms": 0.1 + 0.2})
    history.append(engine, 2, 1, "promote", "drift", {})

    first, second = history.rows(engine)

    assert (first.version, first.previous, first.numbers) == (1, None, {"latency_ms": 0.1 + 0.2})
    assert (second.version, second.previous, second.reason) == (2, 1, "drift")
    assert history.last(engine) == second
    assert first.at <= second.at


def test_an_alias_moved_by_hand_is_found_once_and_recorded_as_outside(engine: Engine) -> None:
    history.append(engine, 1, None, "promote", "first", {})

    assert history.reconcile(engine, 1) is False
    assert history.reconcile(engine, 4) is True
    assert history.reconcile(engine, 4) is False

    newest = history.last(engine)
    assert newest is not None
    assert (newest.version, newest.previous, newest.action) == (4, 1, "outside")
    assert len(history.rows(engine)) == 2


def test_no_champion_at_all_is_nothing_to_record(engine: Engine) -> None:
    assert history.reconcile(engine, None) is False
    assert history.rows(engine) == ()


def test_the_table_says_who_was_champion_from_when_to_when_by_what_and_why() -> None:
    noon = 1_767_268_800_000_000  # 2026-01-01 12:00
    rows = (
        Championship(1, noon, 1, None, "promote", "first"),
        Championship(2, noon + 3_600_000_000, 12, 1, "rollback", "it was slow"),
    )

    assert str(History(rows, 12, {1: "mf", 12: "sasrec"})).splitlines() == [
        "version  model   from (UTC)           until                by        why",
        "v1       mf      2026-01-01 12:00:00  2026-01-01 13:00:00  promote   first",
        "v12      sasrec  2026-01-01 13:00:00  now                  rollback  it was slow",
    ]
    assert "no champion now" in str(History(rows, None, {}))
    assert "recloop promote" in str(History((), None))


def test_two_turns_never_overlap_even_between_threads(engine: Engine) -> None:
    inside: list[str] = []

    def change(name: str) -> None:
        with history.turn(engine):
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


def test_the_turn_of_a_killed_process_is_free_at_once(tmp_path: Path, engine: Engine) -> None:
    script = (
        "import sys, time\n"
        "from recloop.registry import history\n"
        "from recloop.storage import connect\n"
        "with history.turn(connect(sys.argv[1])):\n"
        "    print('mine', flush=True)\n"
        "    time.sleep(60)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, f"sqlite:///{tmp_path / 'recloop.db'}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "mine\n"
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        started = time.monotonic()
        with history.turn(engine):
            assert time.monotonic() - started < 5
    finally:
        holder.kill()
        holder.communicate()


def test_events_can_be_written_while_a_turn_is_held(engine: Engine) -> None:
    """The endpoint must not wait for a promotion that waits for MLflow."""
    with history.turn(engine):
        other = connect(str(engine.url))
        history.append(other, 1, None, "promote", "written beside the turn", {})

    assert len(history.rows(engine)) == 1
