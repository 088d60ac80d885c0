"""From ids to codes, and from a heap of events to one long table in a fixed order. Ibis expressions.

Codes count from 0 in the order of the ids, by length, then by character. Only users who did something, and
only items that something was done with, have one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recloop.config import TimeTies
from recloop.data.cleaning import settled
from recloop.errors import StageError

if TYPE_CHECKING:
    from ibis.expr.types import Table


def codes(log: Table, column: str, name: str) -> Table:
    """One row an id: the id, its code `name`, and its rows `start` to `end` of a table sorted by code."""
    import ibis

    ids = log.group_by(column).agg(events=log.count())
    in_order = [ids[column].length(), ids[column]]
    end = ids["events"].sum().over(order_by=in_order, rows=(None, 0)).cast("int64")
    code = ibis.row_number().over(order_by=in_order).cast("int32")
    ids = ids.mutate(code.name(name), end=end)
    return settled(ids.select(column, name, "end", start=ids["end"] - ids["events"]))


def encode(log: Table, users: Table, items: Table, weights: Mapping[str, float], time_ties: TimeTies) -> Table:
    """The log with codes for ids, each event's weight, and its `position` in the long table.

    The long table is sorted by user, then time, then item code and event; `time_ties` says which way round these two.
    `log`, a settled table, is given up for the memory.
    """
    import ibis

    ties = ["item", "event"] if time_ties == "forward" else [ibis.desc("item"), ibis.desc("event")]
    coded = log.join(users.select("user_id", "user", "start", "end"), "user_id")
    coded = coded.join(items.select("item_id", "item"), "item_id").drop("user_id", "item_id")
    coded = coded.mutate(
        weight=coded["event"].cases(*weights.items()).cast("float32"),
        nth=ibis.row_number().over(group_by="user", order_by=["timestamp", *ties]),
    )
    return settled(coded.mutate(position=coded["start"] + coded["nth"]).drop("nth"), instead_of=log)


def with_attributes(table: pa.Table, path: Path) -> pa.Table:
    """`table`, whose first column is an id, with the attributes that the Parquet file at `path` has for it.

    An id that the file does not know gets nulls. Columns keep their types, but that lists of a fixed length
    become plain lists.

    Raises:
        StageError: the file is damaged, has an id twice, or has an attribute with a name of ours.
    """
    key = table.column_names[0]
    try:
        known = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise StageError(f"{path} is damaged: {error}", remedy="`dvc repro gate` makes it anew") from error
    ids = known[key]
    if pc.count_distinct(ids).as_py() < len(ids):
        counts = ids.value_counts()
        twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"]
        raise StageError(
            f"{path} has more than one row for {key} {twice}", remedy="one row each; then `dvc repro gate`"
        )
    rows = pc.index_in(table[key], value_set=ids.combine_chunks())
    for name in known.column_names:
        if name in table.column_names and name != key:
            raise StageError(
                f"{path} has an attribute {name!r}, which is a name of the prepared table's own",
                remedy="map it to another name in `source` in params.yaml",
            )
        if name != key:
            table = table.append_column(name, _plain_lists(known[name]).take(rows))
    return table


def _plain_lists(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Lists of a fixed length as plain lists: pyarrow cannot read back the former with nulls among them."""
    if pa.types.is_fixed_size_list(values.type):
        return values.cast(pa.list_(values.type.value_type))
    return values
