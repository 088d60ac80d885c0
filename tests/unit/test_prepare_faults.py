"""Gated data that is damaged, or too little of it: the message says what, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recloop.config import Prepare, Split
from recloop.data.prepare import prepare
from recloop.errors import StageError
from recloop.files import sha256
from tests.gated import walks, write_gated

GOOD = walks(users=3, length=6)
GATE = r"\n.*`dvc repro gate`"


def fails(folder: Path, message: str, how: Prepare | None = None, split: Split | None = None) -> None:
    target = folder / "prepared"
    target.mkdir()
    (target / "meta.json").write_text("the last good one")
    before = sha256(target)
    with pytest.raises(StageError, match=message):
        prepare(folder / "gated", target, how or Prepare(), split or Split(kind="leave_one_out"))
    assert sha256(target) == before
    assert sorted(path.name for path in folder.iterdir()) == ["gated", "prepared"]


@pytest.mark.parametrize("name", ["interactions", "items", "users"])
def test_a_gated_table_that_is_missing_or_cut_off(tmp_path: Path, name: str) -> None:
    path = write_gated(tmp_path / "gated", GOOD) / f"{name}.parquet"
    path.write_bytes(path.read_bytes()[:-5])
    fails(tmp_path, rf"{name}\.parquet is damaged: .*{GATE}")
    path.unlink()
    (tmp_path / "prepared" / "meta.json").unlink()
    (tmp_path / "prepared").rmdir()
    fails(tmp_path, rf"{name}\.parquet is missing{GATE}")


@pytest.mark.parametrize("name", ["interactions", "items"])
def test_a_gated_table_that_is_damaged_inside(tmp_path: Path, name: str) -> None:
    ids = [f"item number {n}" for n in range(3000)]
    items = pa.table({"item_id": ids, "title": ids, "categories": pa.nulls(3000, pa.list_(pa.string()))})
    gated = write_gated(tmp_path / "gated", [("ann", item, n) for n, item in enumerate(ids)], items=items)
    content = bytearray((gated / f"{name}.parquet").read_bytes())
    content[4:200] = b"\xff" * 196
    (gated / f"{name}.parquet").write_bytes(content)
    fails(tmp_path, rf"{name}\.parquet is damaged: [^$]*{GATE}")


def test_a_column_that_is_missing_or_of_another_type(tmp_path: Path) -> None:
    gated = write_gated(tmp_path / "gated", GOOD)
    log = pq.read_table(gated / "interactions.parquet")
    pq.write_table(log.drop_columns("event"), gated / "interactions.parquet")
    fails(tmp_path, rf"column event is missing, expected string{GATE}")


def test_nulls_in_gated_interactions(tmp_path: Path) -> None:
    gated = write_gated(tmp_path / "gated", GOOD)
    log = pq.read_table(gated / "interactions.parquet")
    ids = pa.array([None, *log["user_id"].to_pylist()[1:]], pa.string())
    pq.write_table(log.set_column(0, "user_id", ids), gated / "interactions.parquet")
    fails(tmp_path, rf"interactions\.parquet has nulls in 1 rows{GATE}")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"item_id": ["1", "2", "1"]}, r"items\.parquet has more than one row for item_id 1"),
        (
            {"train_count": [1, 2, 3]},
            r"has an attribute 'train_count', which is a name of the prepared table's own",
        ),
    ],
)
def test_items_that_cannot_be_joined(tmp_path: Path, attributes: dict[str, Any], message: str) -> None:
    columns: dict[str, Any] = {"item_id": ["1", "2", "3"], "title": ["a", "b", "c"]}
    columns["categories"] = pa.nulls(3, pa.list_(pa.string()))
    write_gated(tmp_path / "gated", GOOD, items=pa.table(columns | attributes))
    fails(tmp_path, message)


def test_too_little_is_left_after_filtering(tmp_path: Path) -> None:
    write_gated(tmp_path / "gated", [*GOOD, ("u0", "0", 99, "share", 1.0)])
    fails(
        tmp_path,
        r"too little is left to learn from: 0 users and 0 items\n"
        r"  19 interactions passed the gate\n"
        r"  18 were left without 1 of other events\n"
        r"  18 were left without 0 duplicates\n"
        r"  0 were left without 18 of users with too few events\n"
        r"  0 were left without 0 of items with too few events\n"
        r".*loosen prepare\.min_user_events in params\.yaml",
        how=Prepare(min_user_events=7),
    )


def test_no_rows_at_all_and_one_item_alone(tmp_path: Path) -> None:
    write_gated(tmp_path / "gated", [])
    fails(tmp_path, r"0 users and 0 items[^$]*→ more data")


def test_one_item_alone_leaves_nothing_to_choose_from(tmp_path: Path) -> None:
    write_gated(tmp_path / "gated", [("ann", "1", at) for at in range(5)])
    fails(tmp_path, r"too little is left to learn from: 1 users and 1 items")


@pytest.mark.parametrize(
    ("events", "split", "message"),
    [
        # Everything happened at one time: all of it is the later period's.
        (
            [(f"u{n}", str(n % 3), 7) for n in range(9)],
            Split(),
            r"leave nothing to learn from: events: 0 train.*9 test",
        ),
        (
            GOOD,
            Split(valid_share=0.0),
            r"predict in the valid period: .*split\.valid_share and split\.test_share",
        ),
        # Nobody has an event before those of the later periods.
        (
            [(f"u{n}", str(n % 3), n) for n in range(20)],
            Split(),
            "predict in the valid period: .*to predict: 0 valid",
        ),
        (
            walks(users=5, length=2),
            Split(kind="leave_one_out"),
            r"predict in the valid period: .*\n.*split\.kind",
        ),
    ],
    ids=["one moment", "no share", "newcomers", "short histories"],
)
def test_a_period_with_nothing_in_it(tmp_path: Path, events: list[Any], split: Split, message: str) -> None:
    write_gated(tmp_path / "gated", events)
    fails(tmp_path, f"(?s){message}", how=Prepare(min_user_events=1), split=split)
