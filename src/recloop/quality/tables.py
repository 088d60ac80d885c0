"""The tables as the gate finds them: what the source gave, and behind it what the endpoint took."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recloop.data.schema import SCHEMAS, TableName
from recloop.errors import StageError

TABLES: tuple[TableName, ...] = ("interactions", "items", "users")

SEQ = "feedback_seq"
"""Number of an event taken at the endpoint; null in a row of the source."""

RESERVED = (SEQ, "rule", "table", "row")
"""Columns that the project adds to interactions, or to those in quarantine."""

INGEST = "`dvc repro ingest` makes it anew"
SNAPSHOT = "`recloop feedback` makes an empty one, `recloop snapshot` takes it anew from the database"


@dataclass(frozen=True)
class Found:
    """The three tables, with every row the sources gave, in their order."""

    interactions: pa.Table
    """Rows of the source, then those of the endpoint by `feedback_seq`."""
    items: pa.Table
    users: pa.Table

    def __getitem__(self, name: TableName) -> pa.Table:
        tables: dict[TableName, pa.Table] = {
            "interactions": self.interactions,
            "items": self.items,
            "users": self.users,
        }
        return tables[name]


def read_found(raw: Path, feedback: Path) -> Found:
    """Read `data/raw/` and the endpoint's events.

    Raises:
        StageError: a file is missing, damaged or lacks a column; or the two logs do not fit together.
    """
    source = read_table(raw / "interactions.parquet", "interactions", remedy=INGEST)
    taken = read_table(feedback, "interactions", remedy=SNAPSHOT)
    for name in RESERVED:
        if name in source.column_names:
            raise StageError(
                f"{raw / 'interactions.parquet'}: the column name {name} is taken by the project itself",
                remedy="give that column of your source another name",
            )
    if SEQ not in taken.column_names:
        raise StageError(f"{feedback} has no column {SEQ}", remedy=SNAPSHOT)
    taken = taken.sort_by([(SEQ, "ascending")])
    try:
        log = pa.concat_tables([source, taken], promote_options="default")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise StageError(
            f"a context column is of one type in {raw / 'interactions.parquet'}, of another in {feedback}: {error}",
            remedy="give the column of your source another name or type",
        ) from error
    items = read_table(raw / "items.parquet", "items", remedy=INGEST)
    users = read_table(raw / "users.parquet", "users", remedy=INGEST)
    return Found(interactions=log, items=items, users=users)


def read_table(path: Path, name: TableName, *, remedy: str) -> pa.Table:
    """A canonical table, its canonical columns first and of their types; nulls are not judged here."""
    try:
        table = pq.read_table(path).replace_schema_metadata(None)
    except FileNotFoundError as error:
        raise StageError(f"{path} is missing", remedy=remedy) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise StageError(f"{path} is damaged: {error}", remedy=remedy) from error
    fields = [field.with_nullable(True) for field in SCHEMAS[name]]
    for field in fields:
        if field.name not in table.column_names:
            raise StageError(f"{path} has no column {field.name}", remedy=remedy)
    context = [field.with_nullable(True) for field in table.schema if field.name not in SCHEMAS[name].names]
    schema = pa.schema(fields + context)
    try:
        return table.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise StageError(f"{path} does not have the canonical types: {error}", remedy=remedy) from error
