"""Gated tables of a few rows, written by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recloop.data.schema import INTERACTIONS, ITEMS, USERS

Event = tuple[str, str, int]
"""user, item, second"""


def write_gated(
    folder: Path,
    events: Iterable[Event | tuple[str, str, int, str, float]],
    *,
    items: pa.Table | None = None,
    users: pa.Table | None = None,
    feedback_seq: Sequence[int | None] | None = None,
) -> Path:
    """Write gated tables. An event of three is a rating of 5.0; of five, it ends in its event and value."""
    rows = [(user, item, *(rest or ["rating", 5.0]), at * 1_000_000) for user, item, at, *rest in events]
    log = pa.Table.from_arrays([pa.array(column, field.type) for column, field in _columns(rows)], schema=INTERACTIONS)
    if feedback_seq is not None:
        log = log.append_column("feedback_seq", pa.array(feedback_seq, pa.int64()))
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(log, folder / "interactions.parquet")
    pq.write_table(ITEMS.empty_table() if items is None else items, folder / "items.parquet")
    pq.write_table(USERS.empty_table() if users is None else users, folder / "users.parquet")
    return folder


def _columns(rows: list[Any]) -> Iterable[tuple[list[Any], pa.Field]]:
    return zip(map(list, zip(*rows, strict=True)) if rows else [[]] * len(INTERACTIONS), INTERACTIONS, strict=True)


def walks(users: int, length: int, *, step: int = 1) -> list[Event]:
    """`users` people who each take items 0, 1, 2, … one a second, all at the same seconds."""
    return [(f"u{user}", f"{at}", at * step) for user in range(users) for at in range(length)]
