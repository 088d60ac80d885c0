"""The canonical tables: what a source yields, the gate judges and preparation reads.

`interactions`  one row an event
    user_id    str    never null, never empty
    item_id    str    never null, never empty
    event      str    view, click, purchase, rating, …
    value      f32    a rating's stars, a purchase's price or quantity; 1.0 where an event has none (a rating has one)
    timestamp  i64 µs UTC (Arrow `timestamp[us, UTC]`)
    further columns are context, and are carried through

`items`         one row an item: item_id str; title str, categories list<str>, and any other attributes
`users`         one row a user: user_id str; any attributes

Ties in time: preparation orders a user's events at one microsecond by `item_id` (by length, then by character, so
that "9" comes before "10"), then by `event`; or the other way round, where `prepare.time_ties` is `reversed`. The
order in the file is not used: it may carry what came later.
"""

from __future__ import annotations

from typing import Literal

import pyarrow as pa

TableName = Literal["interactions", "items", "users"]

TIMESTAMP = pa.timestamp("us", tz="UTC")

INTERACTIONS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("event", pa.string(), nullable=False),
        pa.field("value", pa.float32(), nullable=False),
        pa.field("timestamp", TIMESTAMP, nullable=False),
    ]
)
ITEMS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("categories", pa.list_(pa.string())),
    ]
)
USERS = pa.schema([pa.field("user_id", pa.string(), nullable=False)])

SCHEMAS: dict[TableName, pa.Schema] = {"interactions": INTERACTIONS, "items": ITEMS, "users": USERS}
"""The columns every table has, in this order; further columns follow them."""
