"""What is kept of a log, and in what order and under which codes it is written."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recloop.config import Prepare, Split
from recloop.data.prepare import PrepareReport, prepare
from recloop.files import read_json, sha256
from tests.gated import write_gated

ALL = Prepare(min_user_events=1)
LAST = Split(kind="leave_one_out")
FULL = [("ann", "1", at) for at in range(3)] + [("ann", "2", 9)]
"""Enough to be split, whatever a test adds."""


def prepared(
    tmp_path: Path, events: list[Any], how: Prepare = ALL, split: Split = LAST, **tables: Any
) -> PrepareReport:
    return prepare(write_gated(tmp_path / "gated", events, **tables), tmp_path / "prepared", how, split)


def log(tmp_path: Path, *columns: str) -> list[tuple[Any, ...]]:
    """The long table, with ids for codes."""
    folder = tmp_path / "prepared"
    users = pq.read_table(folder / "users.parquet")["user_id"].to_pylist()
    items = pq.read_table(folder / "items.parquet")["item_id"].to_pylist()
    rows = pq.read_table(folder / "interactions.parquet").to_pylist()
    return [(users[row["user"]], items[row["item"]], *(row[column] for column in columns)) for row in rows]


def dropped(report: PrepareReport) -> dict[str, int]:
    return {step.key: step.dropped for step in report.steps if step.dropped}


def test_codes_follow_ids_by_length_then_by_character(tmp_path: Path) -> None:
    events = [(user, item, 1) for user in ("10", "9", "é", "Z", "a") for item in ("100", "20", "3", "b", "Ä")]
    prepared(tmp_path, events)
    users = pq.read_table(tmp_path / "prepared" / "users.parquet").to_pylist()
    assert [(row["user_id"], row["start"], row["end"]) for row in users] == [
        ("9", 0, 5),
        ("Z", 5, 10),
        ("a", 10, 15),
        ("é", 15, 20),
        ("10", 20, 25),
    ]
    items = pq.read_table(tmp_path / "prepared" / "items.parquet")["item_id"].to_pylist()
    assert items == ["3", "b", "Ä", "20", "100"]


TIED = [("ann", "10", 5), ("ann", "9", 5, "view", 1.0), ("ann", "9", 5, "click", 1.0), ("ann", "70", 4)]
REVERSED = ALL.model_copy(update={"time_ties": "reversed"})


def test_ties_in_time_are_broken_by_item_then_by_event(tmp_path: Path) -> None:
    prepared(tmp_path, TIED)
    assert log(tmp_path, "event") == [
        ("ann", "70", "rating"),
        ("ann", "9", "click"),
        ("ann", "9", "view"),
        ("ann", "10", "rating"),
    ]


def test_ties_in_time_may_stand_the_other_way_round(tmp_path: Path) -> None:
    prepared(tmp_path, TIED, REVERSED)
    assert log(tmp_path, "event") == [
        ("ann", "70", "rating"),
        ("ann", "10", "rating"),
        ("ann", "9", "view"),
        ("ann", "9", "click"),
    ]


@pytest.mark.parametrize(("how", "last"), [(ALL, ["9", "10"]), (REVERSED, ["10", "9"])])
def test_of_events_left_out_at_one_time_the_order_of_ties_says_which_is_tested_on(
    tmp_path: Path, how: Prepare, last: list[str]
) -> None:
    prepared(tmp_path, [("ann", "1", 1), ("ann", "9", 5), ("ann", "10", 5)], how)
    cases = pq.read_table(tmp_path / "prepared" / "cases.parquet").to_pylist()
    assert [log(tmp_path)[case["position"]][1] for case in cases] == last


def test_without_ties_in_time_their_order_leaves_no_trace(tmp_path: Path) -> None:
    events = [(f"u{at % 3}", str(at * 7 % 15), at // 3) for at in range(30)]  # users do something at the same time
    digests = set()
    for how in (ALL, REVERSED):
        prepared(tmp_path, events, how)
        digests.add(sha256(tmp_path / "prepared"))
    assert len(digests) == 1


def test_events_are_weighted_and_those_without_a_weight_are_dropped(tmp_path: Path) -> None:
    how = ALL.model_copy(update={"events": {"view": 0.25, "rating": 1.0}})
    report = prepared(tmp_path, [*FULL, ("ann", "3", 10, "view", 1.0), ("ann", "4", 11, "click", 1.0)], how)
    assert dropped(report) == {"prepare.events": 1}
    assert log(tmp_path, "event", "weight")[-2:] == [("ann", "2", "rating", 1.0), ("ann", "3", "view", 0.25)]


def test_low_values_are_dropped(tmp_path: Path) -> None:
    events = [*FULL, ("ann", "3", 10, "rating", 3.5), ("ann", "4", 11, "rating", 4.0)]
    report = prepared(tmp_path, events, ALL.model_copy(update={"min_value": 4.0}))
    assert dropped(report) == {"prepare.min_value": 1}
    assert log(tmp_path, "value")[-1] == ("ann", "4", 4.0)


def test_of_events_alike_in_all_but_the_value_the_highest_is_kept(tmp_path: Path) -> None:
    events = [*FULL, *(("ann", "3", 10, "rating", value) for value in (2.0, 4.0, 3.0))]
    report = prepared(tmp_path, events)
    assert [step.dropped for step in report.steps if step.name == "duplicates"] == [2]
    assert log(tmp_path, "value")[-1] == ("ann", "3", 4.0)


def test_repeats_are_kept_unless_only_the_first_is_wanted(tmp_path: Path) -> None:
    events = [
        ("ann", "1", 2),
        ("ann", "1", 1),
        ("ann", "1", 1, "click", 1.0),
        ("ann", "2", 3),
        ("ann", "3", 4),
    ]
    assert prepared(tmp_path, events).interactions == 5
    report = prepared(tmp_path, events, ALL.model_copy(update={"keep_repeats": False}))
    assert dropped(report) == {"prepare.keep_repeats": 2}
    assert log(tmp_path, "event") == [("ann", "1", "click"), ("ann", "2", "rating"), ("ann", "3", "rating")]


def test_rare_users_and_items_are_dropped_until_none_is_left(tmp_path: Path) -> None:
    # zoe has too few events; without her, item 9 has; without that, tim has; without him, item 8 has.
    core = [(user, item, at) for user in ("ann", "bob") for at, item in enumerate("123")]
    chain = [
        ("ann", "8", 5),
        ("tim", "8", 1),
        ("tim", "9", 2),
        ("tim", "1", 3),
        ("zoe", "9", 1),
        ("zoe", "1", 2),
    ]
    how = ALL.model_copy(update={"min_user_events": 3, "min_item_events": 2})
    report = prepared(tmp_path, core + chain, how)
    assert sorted({user for user, _ in log(tmp_path)}) == ["ann", "bob"]
    assert sorted({item for _, item in log(tmp_path)}) == ["1", "2", "3"]
    assert dropped(report) == {"prepare.min_user_events": 4, "prepare.min_item_events": 2}


def test_items_without_events_are_left_out_and_attributes_are_joined(tmp_path: Path) -> None:
    items = pa.table(
        {
            "item_id": ["2", "99", "1"],
            "title": ["Two", "Never seen", "One"],
            "categories": pa.array([["a", "b"], ["c"], None], pa.list_(pa.string())),
            "emb_text": pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], pa.list_(pa.float32(), 2)),
        }
    )
    users = pa.table({"user_id": ["ann"], "age": [30]})
    prepared(tmp_path, [*FULL, ("bob", "3", 1)], items=items, users=users)
    assert [tuple(row.values()) for row in pq.read_table(tmp_path / "prepared" / "items.parquet").to_pylist()] == [
        ("1", 2, "One", None, [5.0, 6.0]),
        ("2", 0, "Two", ["a", "b"], [1.0, 2.0]),
        ("3", 1, None, None, None),
    ]
    assert [tuple(row.values()) for row in pq.read_table(tmp_path / "prepared" / "users.parquet").to_pylist()] == [
        ("ann", 0, 4, 30),
        ("bob", 4, 5, None),
    ]


def test_meta_counts_what_is_there(tmp_path: Path) -> None:
    prepared(tmp_path, FULL, feedback_seq=[None, 41, 7, None])
    assert read_json(tmp_path / "prepared" / "meta.json", remedy="") == {
        "users": 1,
        "items": 2,
        "interactions": 4,
        "split": "leave_one_out",
        "train_until": None,
        "valid_until": None,
        "newest": "1970-01-01T00:00:09.000000+00:00",
        "feedback_watermark": 41,
    }


def test_the_watermark_counts_events_that_cleaning_dropped(tmp_path: Path) -> None:
    """They were taken in, and need not be looked at again."""
    prepared(tmp_path, [*FULL, ("ann", "3", 10, "share", 1.0)], feedback_seq=[None, None, None, 3, 8])
    assert read_json(tmp_path / "prepared" / "meta.json", remedy="")["feedback_watermark"] == 8


def test_the_report_reads_well(tmp_path: Path) -> None:
    assert str(prepared(tmp_path, [*FULL, ("ann", "3", 10, "share", 1.0)])) == (
        "prepared 4 interactions of 1 users and 2 items\n"
        "dropped: 1 of other events\n"
        "events: 2 train, 1 valid, 1 test; to predict: 1 valid, 1 test"
    )


def random_log(seed: int) -> list[Any]:
    draw = random.Random(seed)
    kinds = ("view", "rating", "share")
    return [
        (
            f"u{draw.randrange(12)}",
            str(draw.randrange(15)),
            draw.randrange(40),
            draw.choice(kinds),
            draw.randrange(1, 6),
        )
        for _ in range(150)
    ]


def test_threads_and_the_order_of_rows_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events, split, connect = random_log(0) * 3, Split(valid_share=0.2, test_share=0.2), ibis.duckdb.connect
    digests = set()
    for threads in (1, 2, 8):
        monkeypatch.setattr(ibis.duckdb, "connect", partial(connect, threads=threads))
        random.Random(threads).shuffle(events)
        prepared(tmp_path, events, Prepare(min_user_events=3, min_item_events=2), split)
        digests.add(sha256(tmp_path / "prepared"))
    assert len(digests) == 1


@pytest.mark.parametrize("seed", range(4))
def test_cleaning_does_what_plain_python_does(tmp_path: Path, seed: int) -> None:
    how = Prepare(min_value=2.0, min_user_events=3, min_item_events=3, keep_repeats=seed % 2 == 0)
    events = random_log(seed)
    prepared(tmp_path, events, how)

    best: dict[tuple[Any, ...], float] = {}
    for user, item, at, event, value in events:
        if event in how.events and value >= 2.0:
            best[user, item, at, event] = max(value, best.get((user, item, at, event), 0.0))
    kept = sorted((user, at, len(item), item, event, value) for (user, item, at, event), value in best.items())
    if not how.keep_repeats:
        kept = [row for n, row in enumerate(kept) if all(row[::3] != before[::3] for before in kept[:n])]
    while True:
        enough = [
            row
            for row in kept
            if sum(other[0] == row[0] for other in kept) >= 3 and sum(other[3] == row[3] for other in kept) >= 3
        ]
        if enough == kept:
            break
        kept = enough
    kept.sort(key=lambda row: (len(row[0]), *row))
    assert log(tmp_path, "event", "value") == [(row[0], row[3], row[4], row[5]) for row in kept]
