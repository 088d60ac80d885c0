"""What users did with the lists they were shown: every event finds the list that it counts for.

An event of a user on an item counts for the list that it names, or else for the latest list shown to that user before
it that holds the item; in both cases only if that was served at most `attribution` before the event came in. Both by
our clock, as windows are. Lists made for nobody have no user to wait for, and take no part; a dismissal is no success,
and does not count. Lists made in shadow were not shown: an event counts for the latest shadow list besides the shown
one, for the question there is whether the user took what would have been in it.

The engine below parses, unnests and joins; what comes out is an Ibis table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from sqlalchemy import Connection, Select, Text, cast, func, select

from monitoring.window import Window, count_events, every_user, read_events, step_of
from recloop.serving.events import DISMISS
from recloop.serving.impressions import impressions

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend
    from ibis.expr.types import Table

BATCH = 20_000
ROWS_OF_A_LIST = 5
"""As many events take as much memory"""
SHADOW = "shadow"
LISTS = pa.schema(
    {
        "list": pa.int64(),
        "request_id": pa.string(),
        "user_id": pa.string(),
        "served_at": pa.int64(),
        "version": pa.int64(),
        "variant": pa.string(),
        "strategy": pa.string(),
        "items": pa.string(),
        "chances": pa.string(),
        "history_length": pa.int64(),
    }
)


@dataclass(frozen=True)
class Feedback:
    """The lists of a window, and what users did with them."""

    lists: Table
    """list, user_id, served_at, version, variant, strategy, history_length, length: how many items it has"""
    places: Table
    """list, place (from 0), item_id, chance: with which probability chance put the item there; null: it had no hand"""
    acts: Table
    """list, place, kind: none twice"""
    kinds: tuple[str, ...]
    """The kinds of event that occur in `acts` of lists that were shown, in order"""
    step: int = 1
    """Where there were too many lists to read them all: those of every how manieth user these are"""


def read_feedback(backend: Backend, connection: Connection, window: Window, attribution: int) -> Feedback:
    """What was shown in `window`, and what came of it until `attribution` later.

    Args:
        backend: an Ibis DuckDB backend; the tables are in it.
        connection: of the database with `impressions` and `events`.
        window: one that is closed: it ended at least `attribution` ago, so that nothing more can come of its lists.
        attribution: µs.
    """
    until = Window(window.start, window.end + attribution)
    step = step_of(count_events(connection, until))
    acts = read_events(connection, until, step)
    return feedback_of(backend, connection, acts, step, window, attribution)


def feedback_of(
    backend: Backend, connection: Connection, acts: pa.Table, step: int, window: Window, attribution: int
) -> Feedback:
    """The same, with the events at hand.

    Args:
        backend, connection, window, attribution: as `read_feedback` has them.
        acts: from the window's start to `attribution` after its end, as `window.read_events` has them.
        step: of every how manieth user they are.
    """
    # Lists before and after the window are read, too: what counts for one of them does not count for one of these.
    shown = (
        impressions.c.served_at >= window.start - attribution,
        impressions.c.served_at < window.end + attribution,
        impressions.c.user_id.is_not(None),
    )
    counted = int(connection.execute(select(func.count()).select_from(impressions).where(*shown)).scalar_one())
    step *= step_of(ROWS_OF_A_LIST * counted // step)  # their users are among those whose events there are
    lists = select(
        impressions.c.seq,
        impressions.c.request_id,
        impressions.c.user_id,
        impressions.c.served_at,
        impressions.c.version,
        impressions.c.variant,
        impressions.c.strategy,
        cast(impressions.c["items"], Text),
        cast(impressions.c.chances, Text),
        impressions.c.history_length,
    ).where(*shown, *every_user(step, impressions.c.user_id))
    return replace(attributed(backend, _read(connection, lists, LISTS), acts, window, attribution), step=step)


def attributed(backend: Backend, lists: pa.Table, acts: pa.Table, window: Window, attribution: int) -> Feedback:
    """The lists of `window`, each with the events that count for it.

    Args:
        backend: an Ibis DuckDB backend.
        lists: of the schema LISTS; from `attribution` before the window's start to as long after its end.
        acts: from the window's start to `attribution` after its end, as `window.read_events` has them.
        window: whose lists come out.
        attribution: µs.
    """
    import ibis

    made = ibis.memtable(lists)
    came = ibis.memtable(acts.select(["seq", "user_id", "item_id", "event", "received_at", "request_id"]))
    done = came.filter(came.event != DISMISS).rename(kind="event", event="seq", names="request_id")
    made = made.mutate(items=made["items"].cast("json").cast("array<string>"))
    made = made.mutate(length=made["items"].length())
    unnested = made.select(
        "list",
        "request_id",
        "user_id",
        "served_at",
        unseen=made.variant == SHADOW,
        items=made["items"],
        chances=made.chances.cast("json").cast("array<float64>"),
    ).unnest("items", offset="place")
    places = _made(
        backend, unnested.mutate(item_id=unnested["items"], chance=unnested.chances[unnested.place]).drop("chances")
    )
    pairs = places.inner_join(
        done,
        [
            places.user_id == done.user_id,
            places.item_id == done.item_id,
            places.served_at <= done.received_at,
            places.served_at + attribution >= done.received_at,
        ],
    )
    pairs = pairs.mutate(named=(pairs.request_id == pairs.names).fill_null(False))
    latest_first = [ibis.desc("named"), ibis.desc("served_at"), ibis.desc("list"), "place"]
    pairs = pairs.mutate(nth=ibis.row_number().over(ibis.window(group_by=["event", "unseen"], order_by=latest_first)))
    inside = made.filter((made.served_at >= window.start) & (made.served_at < window.end))
    counted = pairs.filter((pairs.nth == 0) & (pairs.served_at >= window.start) & (pairs.served_at < window.end))
    found = _made(backend, counted.select("list", "place", "kind", "unseen").distinct())
    kinds = found.filter(~found.unseen).select("kind").distinct().order_by("kind").kind.execute()
    return Feedback(
        lists=inside.select(
            "list", "user_id", "served_at", "version", "variant", "strategy", "history_length", "length"
        ),
        places=places.semi_join(inside, "list").select("list", "place", "item_id", "chance"),
        acts=found.drop("unseen"),
        kinds=tuple(kinds),
    )


def _made(backend: Backend, table: Table) -> Table:
    from ibis.util import gen_name

    return backend.create_table(gen_name("feedback"), table, temp=True)


def _read(connection: Connection, query: Select[Any], schema: pa.Schema) -> pa.Table:
    """The rows of `query` as an Arrow table, read in pieces."""
    batches = [
        pa.record_batch(_columns(rows, schema), schema=schema)
        for rows in connection.execution_options(yield_per=BATCH).execute(query).partitions()
    ]
    return pa.Table.from_batches(batches, schema)


def _columns(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> list[pa.Array]:
    return [pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), schema, strict=True)]
