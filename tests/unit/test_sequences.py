"""One line a user, in order: what it becomes, and how each fault in it is named."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recloop.config import Sequences
from recloop.data.sources import ingest, sequences
from recloop.errors import SourceError
from tests.conftest import ROOT

BENCHMARKS = Path(os.environ.get("RECLOOP_BENCHMARK_DATA", ROOT.parent / "shared" / "data"))


def ingested(tmp_path: Path, content: bytes) -> list[tuple[object, ...]]:
    (tmp_path / "log.txt").write_bytes(content)
    ingest(Sequences(kind="sequences", folder=Path(), path=Path("log.txt")), tmp_path / "raw", base=tmp_path)
    rows = pq.read_table(tmp_path / "raw" / "interactions.parquet").to_pylist()
    return [tuple(row.values()) for row in rows]


def second(number: int) -> datetime:
    return datetime(1970, 1, 1, 0, 0, number, tzinfo=UTC)


def test_an_events_time_is_its_place_in_the_line(tmp_path: Path) -> None:
    assert ingested(tmp_path, b"ann 7 9 7\nbob 9\n") == [
        ("ann", "7", "view", 1.0, second(1)),
        ("ann", "9", "view", 1.0, second(2)),
        ("ann", "7", "view", 1.0, second(3)),
        ("bob", "9", "view", 1.0, second(1)),
    ]


def test_there_are_no_items_and_users_but_their_tables_are_there(tmp_path: Path) -> None:
    ingested(tmp_path, b"ann 7 9\n")
    assert pq.read_table(tmp_path / "raw" / "items.parquet").num_rows == 0
    assert pq.read_table(tmp_path / "raw" / "users.parquet").column_names == ["user_id"]


def test_windows_line_ends_a_mark_at_the_start_and_empty_lines_do_no_harm(tmp_path: Path) -> None:
    assert ingested(tmp_path, "\ufeffann\t7  9\r\n\r\nbob 9".encode()) == ingested(tmp_path, b"ann 7 9\nbob 9\n")


def test_how_lines_are_batched_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"".join(b"u%d 1 2 3 4 5\n" % user for user in range(100))
    ingested(tmp_path, content)
    at_once = (tmp_path / "raw" / "interactions.parquet").read_bytes()
    monkeypatch.setattr(sequences, "EVENTS_A_BATCH", 7)
    ingested(tmp_path, content)
    assert (tmp_path / "raw" / "interactions.parquet").read_bytes() == at_once


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"log\.txt is empty"),
        (b"\n  \n", r"log\.txt is empty"),
        (b"ann 7\nbob\n", r"log\.txt, line 2: user 'bob' has no items"),
        (b"ann 7\nbob 8\nann 9\n", r"log\.txt, line 3: user 'ann' has a line already, line 1"),
        (b"ann 7\n\xff\xfe\x00\x01 8\n", r"log\.txt, line 2 is not text"),
        (b"PK\x03\x04\x00\x00 7\n", r"log\.txt, line 1 is not text: it holds a null byte"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        ingested(tmp_path, content)
    assert not (tmp_path / "raw").exists()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere\.txt is missing\n.*source\.path"):
        ingest(Sequences(kind="sequences", folder=Path(), path=Path("nowhere.txt")), tmp_path / "raw", base=tmp_path)
    with pytest.raises(SourceError, match="is a folder"):
        ingest(Sequences(kind="sequences", folder=Path(), path=Path()), tmp_path / "raw", base=tmp_path)


@pytest.mark.parametrize(
    ("name", "users", "items", "interactions"),
    [
        ("s3rec/Beauty.txt", 22_363, 12_101, 198_502),
        ("ml-1m-seq/ml-1m.txt", 6_040, 3_416, 999_611),
    ],
)
def test_the_papers_benchmark_has_the_papers_counts(
    tmp_path: Path, name: str, users: int, items: int, interactions: int
) -> None:
    path = BENCHMARKS / name
    if not path.is_file():
        pytest.skip(f"{path} is not here ($RECLOOP_BENCHMARK_DATA says where benchmark data lies)")
    ingest(Sequences(kind="sequences", folder=path.parent, path=Path(path.name)), tmp_path / "raw", base=tmp_path)
    log = pq.read_table(tmp_path / "raw" / "interactions.parquet")
    assert log.num_rows == interactions
    assert (len(log["user_id"].unique()), len(log["item_id"].unique())) == (users, items)
