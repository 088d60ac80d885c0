"""The table of events from the endpoint: made empty where there is none, never touched where there is one."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recloop.data.feedback import FEEDBACK, ensure_feedback
from recloop.errors import StageError
from recloop.files import sha256


def test_an_empty_table_is_made_and_is_the_same_every_time(tmp_path: Path) -> None:
    first, second = tmp_path / "data" / "first.parquet", tmp_path / "second.parquet"
    assert "no events from the endpoint yet" in str(ensure_feedback(first))
    ensure_feedback(second)
    assert first.read_bytes() == second.read_bytes()
    assert pq.read_schema(first).names == [
        "user_id",
        "item_id",
        "event",
        "value",
        "timestamp",
        "feedback_seq",
    ]
    assert pq.read_metadata(first).num_rows == 0


def test_a_table_with_events_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "interactions.parquet"
    columns = [["ann"], ["7"], ["click"], [1.0], [0], [12]]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, FEEDBACK, strict=True)]
    pq.write_table(pa.Table.from_arrays(arrays, names=FEEDBACK.names), path)
    before = sha256(path), path.stat().st_mtime_ns
    assert str(ensure_feedback(path)).startswith("1 events from the endpoint")
    assert (sha256(path), path.stat().st_mtime_ns) == before


def test_a_damaged_table_is_an_error_and_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "interactions.parquet"
    ensure_feedback(path)
    path.write_bytes(path.read_bytes()[:-10])
    before = sha256(path)
    with pytest.raises(StageError, match=r"is damaged: .*\n.*`dvc checkout feedback`.*`recloop snapshot`"):
        ensure_feedback(path)
    assert sha256(path) == before


def test_another_table_in_its_place_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "interactions.parquet"
    pq.write_table(pa.table({"user_id": ["ann"], "item_id": ["7"]}), path)
    with pytest.raises(StageError, match="is not a table of events: its columns are user_id, item_id"):
        ensure_feedback(path)
