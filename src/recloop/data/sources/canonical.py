"""What a source yields: the three canonical tables as streams, and how a stream becomes a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recloop.data.schema import SCHEMAS, TableName

ROWS_IN_MEMORY = 1024 * 1024
"""Rows in a row group of the file, and so the most rows held at once."""


@dataclass(frozen=True)
class Stream:
    """A table that may be larger than memory: its batches, to be read once, all of the same schema."""

    schema: pa.Schema
    batches: Iterable[pa.RecordBatch]

    @classmethod
    def of(cls, table: pa.Table) -> Stream:
        return cls(table.schema, table.to_batches())

    @classmethod
    def empty(cls, name: TableName) -> Stream:
        return cls(raw_schema(name), ())


@dataclass(frozen=True)
class Tables:
    """What a source yields. A source that knows nothing of items or users yields them with no rows."""

    interactions: Stream
    items: Stream
    users: Stream
    notes: tuple[str, ...] = ()
    """What a person should know about this data: where it was taken from, terms of use."""


def raw_schema(name: TableName) -> pa.Schema:
    """The canonical columns as a source may fill them: with nulls, which are the gate's to judge."""
    return pa.schema([field.with_nullable(True) for field in SCHEMAS[name]])


def write_stream(stream: Stream, path: Path) -> int:
    """Write a stream as one Parquet file; the number of its rows.

    How the rows were spread over batches leaves no trace in the file: the same rows give the same bytes.
    """
    rows = 0
    with pq.ParquetWriter(path, stream.schema, compression="zstd") as writer:
        for group in _row_groups(stream):
            writer.write_table(group)
            rows += group.num_rows
    return rows


def _row_groups(stream: Stream) -> Iterator[pa.Table]:
    waiting = stream.schema.empty_table()
    for batch in stream.batches:
        waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch], stream.schema)])
        while waiting.num_rows >= ROWS_IN_MEMORY:
            yield waiting.slice(0, ROWS_IN_MEMORY).combine_chunks()
            waiting = waiting.slice(ROWS_IN_MEMORY)
    if waiting.num_rows:
        yield waiting.combine_chunks()
