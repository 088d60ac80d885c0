"""The user's own tables: which of their columns is which of ours is said in `params.yaml`.

Nothing is assumed about the values but their types: rows with a missing id or time, unknown events and the
like are for the gate to judge.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recloop.config import Table, TableFile
from recloop.data.schema import TableName
from recloop.data.sources.canonical import Stream, Tables, raw_schema
from recloop.data.sources.parts import Part, open_parts
from recloop.data.sources.typed import Place, TimestampUnit, as_kind, as_names, as_number, as_text, as_time
from recloop.errors import SourceError

Convert = Callable[[pa.Array, Place], pa.Array]
NUMBER = r"^-?(0|[1-9]\d{0,17})(\.\d+)?$"
"""What is taken for a number in a CSV's attributes. `007`, `1e5` and the like stay text."""


def read_table(source: Table, base: Path) -> Tables:
    """The tables of a `table` source, whose paths begin at the folder `base`.

    Interactions are read, and their faults found, as they are taken.

    Raises:
        SourceError: a file is missing or damaged, a mapping names a column that is not there, or a value has
            the wrong type.
    """
    parts = open_parts(base / source.interactions.path)
    interactions = _mapped("interactions", source.interactions, parts, source.timestamp_unit)
    if source.until is not None:
        until = pa.scalar(source.until, interactions.schema.field("timestamp").type)
        interactions = Stream(interactions.schema, (_before(until, batch) for batch in interactions.batches))
    return Tables(
        interactions,
        items=_known("items", source.items, base, source.timestamp_unit),
        users=_known("users", source.users, base, source.timestamp_unit),
    )


def _known(name: TableName, file: TableFile | None, base: Path, unit: TimestampUnit) -> Stream:
    if file is None:
        return Stream.empty(name)
    parts = open_parts(base / file.path)
    stream = _mapped(name, file, parts, unit)
    table = pa.Table.from_batches(stream.batches, stream.schema)
    return Stream.of(table if parts[0].path.suffix == ".parquet" else _with_numbers(table, name))


def _mapped(name: TableName, file: TableFile, parts: list[Part], unit: TimestampUnit) -> Stream:
    _demand_names(name, file)
    for part in parts:
        _demand_columns(part, name, file)
    canonical = raw_schema(name)
    further = [
        *(pa.field(ours, _kind(parts[0].schema.field(theirs).type)) for ours, theirs in file.columns.items()),
        *(pa.field(ours, pa.scalar(constant).type) for ours, constant in file.constants.items()),
    ]
    schema = pa.schema([*canonical, *(field for field in further if field.name not in canonical.names)])
    converts: dict[str, Convert] = {
        **{field.name: partial(as_kind, kind=field.type) for field in schema},
        **dict.fromkeys(("user_id", "item_id", "event", "title"), as_text),
        "value": as_number,
        "timestamp": partial(as_time, unit=unit),
        "categories": as_names,
    }

    def batches() -> Iterator[pa.RecordBatch]:
        for part in parts:
            row = 1
            for batch in part.batches(list(dict.fromkeys(file.columns.values()))):
                columns = []
                for ours in schema.names:
                    theirs = file.columns.get(ours, ours)
                    convert, place = converts[ours], Place(part.path, theirs, row)
                    columns.append(convert(_values(ours, file, batch), place))
                yield _with_values(pa.record_batch(columns, schema=schema), name)
                row += batch.num_rows

    return Stream(schema, batches())


def _values(ours: str, file: TableFile, batch: pa.RecordBatch) -> pa.Array:
    """What one of our columns is made from: a column of theirs, a constant, or nothing."""
    if ours in file.columns:
        values = batch.column(file.columns[ours])
        return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
    constant = file.constants.get(ours, 1.0 if ours == "value" else None)
    return pa.nulls(batch.num_rows) if constant is None else pa.repeat(constant, batch.num_rows)


def _with_values(batch: pa.RecordBatch, name: TableName) -> pa.RecordBatch:
    """An event without a value counts 1.0; but a rating without one says nothing, and is the gate's to judge."""
    if name != "interactions":
        return batch
    place = batch.schema.get_field_index("value")
    values = batch.column(place)
    missing = pc.and_(values.is_null(), pc.not_equal(batch.column("event"), "rating").fill_null(False))
    filled = pc.if_else(missing, pa.scalar(1.0, values.type), values)
    return batch.set_column(place, batch.schema.field(place), filled)


def _demand_names(name: TableName, file: TableFile) -> None:
    """A name of ours that is misspelt must not become a column of the user's own."""
    ours = raw_schema(name).names
    for each in (*file.columns, *file.constants):
        if each not in ours and (close := difflib.get_close_matches(each, ours, n=1, cutoff=0.75)):
            raise SourceError(
                f"source.{name} maps a column called {each!r}, which is almost {close[0]!r}",
                remedy=f"did you mean {close[0]!r}? A column of your own needs a name that is less like ours",
            )


def _demand_columns(part: Part, name: TableName, file: TableFile) -> None:
    found = part.schema.names
    for ours, theirs in file.columns.items():
        if theirs not in found:
            close = difflib.get_close_matches(theirs, found, n=1)
            raise SourceError(
                f"{part.path} has no column {theirs!r}, which source.{name}.columns.{ours} names; "
                f"it has {', '.join(found)}",
                remedy=f"did you mean {close[0]!r}?"
                if close
                else f"correct source.{name}.columns.{ours} in params.yaml",
            )


def _kind(kind: pa.DataType) -> pa.DataType:
    """The type in which a column of theirs that is none of ours is kept."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.string() if pa.types.is_null(kind) or pa.types.is_large_string(kind) else kind


def _before(until: pa.Scalar, batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows before a time; those without one are kept, for the gate."""
    return batch.filter(pc.less(batch.column("timestamp"), until).fill_null(True))


def _with_numbers(table: pa.Table, name: TableName) -> pa.Table:
    """The table with a CSV's attributes as numbers where they are nothing else."""
    for index, field in enumerate(table.schema):
        values = table.column(index)
        if field.name in raw_schema(name).names or field.type != pa.string() or values.null_count == len(values):
            continue
        if pc.all(pc.match_substring_regex(values, NUMBER)).as_py():
            whole = not pc.any(pc.match_substring(values, ".")).as_py()
            kind = pa.int64() if whole else pa.float64()
            table = table.set_column(index, pa.field(field.name, kind), values.cast(kind))
    return table
