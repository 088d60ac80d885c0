"""A text file with one line a user: `user item item …`, in the order in which things happened.

Such files have an order but no times: an event's time is its place in the line, in seconds after 1970-01-01
UTC (the first item of a line: 1 s). Every event is a `view` of value 1.0. There are no tables of items and users.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from recloop.data.schema import TIMESTAMP
from recloop.data.sources.canonical import Stream, Tables, raw_schema
from recloop.errors import SourceError

EVENT = "view"
EVENTS_A_BATCH = 1 << 18
REMEDY = "a line is to be `user item item …`, separated by blanks, in UTF-8"


def read_sequences(path: Path) -> Tables:
    """The file as canonical tables. It is read, and its faults found, as the interactions are taken.

    Raises:
        SourceError: it is missing, is empty, is not text, has a user without items, or has a user twice.
    """
    if not path.is_file():
        raise SourceError(
            f"{path} is {'a folder' if path.is_dir() else 'missing'}",
            remedy="set source.folder and source.path in params.yaml to the file",
        )
    return Tables(
        interactions=Stream(raw_schema("interactions"), _batches(path)),
        items=Stream.empty("items"),
        users=Stream.empty("users"),
        notes=("the file has no times: an event's time is its place in the line",),
    )


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    users: list[str] = []
    items: list[str] = []
    lengths: list[int] = []
    for user, bought in _lines(path):
        users.append(user)
        items.extend(bought)
        lengths.append(len(bought))
        if len(items) >= EVENTS_A_BATCH:
            yield _batch(users, items, lengths)
            users, items, lengths = [], [], []
    if items:
        yield _batch(users, items, lengths)


def _batch(users: list[str], items: list[str], lengths: list[int]) -> pa.RecordBatch:
    owner = np.repeat(np.arange(len(users)), lengths)
    starts = np.cumsum(lengths) - lengths
    place = np.arange(len(items)) - np.repeat(starts, lengths) + 1
    columns = [
        pa.array(users, pa.string()).take(pa.array(owner)),
        pa.array(items, pa.string()),
        pa.repeat(EVENT, len(items)),
        pa.repeat(pa.scalar(1.0, pa.float32()), len(items)),
        pa.array(place * 1_000_000).cast(TIMESTAMP),
    ]
    return pa.record_batch(columns, schema=raw_schema("interactions"))


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    seen: dict[str, int] = {}
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                user, *items = _words(line, path, number) or [""]
                if not user:
                    continue
                if not items:
                    raise SourceError(f"{path}, line {number}: user {user!r} has no items", remedy=REMEDY)
                if user in seen:
                    raise SourceError(
                        f"{path}, line {number}: user {user!r} has a line already, line {seen[user]}",
                        remedy=REMEDY,
                    )
                seen[user] = number
                yield user, items
    except OSError as error:
        raise SourceError(
            f"{path} cannot be read: {error.strerror}", remedy="correct `source` in params.yaml, or the file's rights"
        ) from error
    if not seen:
        raise SourceError(f"{path} is empty", remedy=REMEDY)


def _words(line: bytes, path: Path, number: int) -> list[str]:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}, line {number} is not text: {error.reason}", remedy=REMEDY) from error
    if "\0" in text:
        raise SourceError(f"{path}, line {number} is not text: it holds a null byte", remedy=REMEDY)
    return text.removeprefix("\ufeff").split()
