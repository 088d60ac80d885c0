"""What is compared: one row an event, or one row a served list.

Events of a user without a long pause between them are one session; sessions, not events, are what chance draws
(`chance.py`).

The reference and the current traffic go through the same functions; they differ only in what was known
before. Everything is an Ibis expression: the engine below reads, joins and samples; a sample comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from monitoring.known import Known, Vocabulary
from monitoring.window import HOUR

if TYPE_CHECKING:
    from ibis.expr.types import StringValue, Table, TimestampColumn, Value

SAMPLE = 50_000
"""About so many rows of each side are compared, at most."""
EACH = 10
"""Rows of one session that are looked at, at most"""
LENGTHS = (0, 3, 10, 30, 100, 300)
LENGTH_NAMES = ("1 to 2", "3 to 9", "10 to 29", "30 to 99", "100 to 299", "300 or more")
LATENESS = {60_000_000: "within a minute", HOUR: "within an hour", 24 * HOUR: "within a day"}
"""µs, one more than so late → what it is called"""
PAUSE_SECONDS = 1800
"""A longer pause ends a session."""


@dataclass(frozen=True)
class Fresh:
    """Of the reference: an item is as unknown as it would be to a model of just before."""

    first_events: Table
    """item_id, first: when each item was first seen"""
    micros: int
    """As long as the window that it is compared with"""


def event_features(events: Table, known: Known, vocabulary: Vocabulary, fresh: Fresh | None = None) -> Table:
    """One row an event: `session`, and the columns of `signals.EVENT_SIGNALS`, all of them categories.

    Args:
        events: user_id, item_id, event, value, timestamp.
        known: what was known before the first of them.
        vocabulary: the same for both sides.
        fresh: how new an item may be to count as unknown; None: what is not `known` is unknown.
    """
    import ibis

    order = ["timestamp", "item_id", "event"]
    rows = events.mutate(before_in_events=ibis.row_number().over(ibis.window(group_by="user_id", order_by=order)))
    rows = _in_sessions(rows, rows.timestamp, order)
    of_one_kind = ibis.window(group_by=["user_id", "session", "item_id", "event"], order_by=["timestamp"])
    rows = rows.mutate(before_of_item=ibis.row_number().over(of_one_kind))
    rows = rows.left_join(known.items, "item_id").drop("item_id_right")
    rows = rows.left_join(known.users, "user_id").drop("user_id_right")
    rows = rows.left_join(vocabulary.categories, "item_id").drop("item_id_right")
    unknown = rows.position.isnull()
    if fresh is not None:
        rows = rows.left_join(fresh.first_events, "item_id").drop("item_id_right")
        unknown = rows.first >= rows.timestamp - ibis.interval(microseconds=fresh.micros)
    came_before = rows.earlier.fill_null(0) + rows.before_in_events > 0  # no finer: histories grow, whoever comes
    features = rows.select(
        "timestamp",
        "user_id",
        "item_id",
        "session",
        "in_session",
        "place",
        unknown_items=unknown.ifelse("unknown", "known"),
        item_popularity=_decile(rows.position),
        category=rows.category.fill_null("none"),
        user_activity=came_before.ifelse("came before", "none before"),
        event=rows.event,
        value=_value_names(rows, vocabulary),
        session_length=_named(rows.in_session.bucket(LENGTHS, include_over=True, close_extreme=False), LENGTH_NAMES),
        repeats=(rows.before_of_item > 0).ifelse("again in the session", "first in the session"),
    )
    return _thinned(features)


def arrivals(events: pa.Table) -> Table:
    """How late events came in, one row an event: user_id, timestamp and session (the hour of receipt), lateness.

    Args:
        events: as `window.read_events` has them.
    """
    import ibis

    came = events["received_at"].to_numpy()
    late = came - events["timestamp"].cast(pa.int64()).to_numpy()
    grades = np.array([*LATENESS.values(), "later"])[np.searchsorted([*LATENESS], late, side="right")]
    hours = pa.array(came - came % HOUR).cast(pa.timestamp("us", tz="UTC"))
    columns = {"seq": events["seq"], "user_id": events["user_id"], "timestamp": hours, "session": hours}
    rows = _counted(ibis.memtable(pa.table(columns | {"lateness": grades})), ["seq"])
    return _thinned(rows).drop("seq")


def list_features(lists: Table, known: Known, score_edges: Sequence[float]) -> Table:
    """One row a served list: `session`, and the columns of `signals.LIST_SIGNALS`, all of them categories.

    Args:
        lists: seq, user_id (null: a session of its own), served_at, strategy, items (list of item_id), top_score (null
            where there is none).
        known: what the model that made them knew.
        score_edges: between what scores are told apart.
    """
    import ibis

    shown = lists.select("seq", item_id=lists.items.unnest()).left_join(known.items, "item_id")
    popularity = shown.group_by("seq").aggregate(position=shown.position.fill_null(1.0).mean())
    rows = lists.left_join(popularity, "seq").drop("seq_right")
    rows = rows.mutate(user_id=rows.user_id.fill_null(ibis.literal("nobody, list ") + rows.seq.cast("string")))
    rows = _in_sessions(rows, rows.served_at, ["served_at", "seq"])
    return _thinned(
        rows.select(
            "user_id",
            "session",
            "in_session",
            "place",
            timestamp="served_at",
            strategy="strategy",
            list_popularity=_decile(rows.position),
            top_score=_between(rows.top_score, score_edges),
        )
    )


def sampled(features: Table, limit: int = SAMPLE) -> Table:
    """Every n-th session, whole, in order of time: the same ones each time, about `limit` rows at most."""
    import ibis

    step = -(-int(features.count().execute()) // limit)
    if step <= 1:
        return features
    sessions = features.group_by(["user_id", "session"]).aggregate(begin=lambda t: t.timestamp.min())
    place = ibis.row_number().over(order_by=["begin", "user_id"])
    taken = sessions.mutate(turn=place % step).filter(lambda t: t.turn == 0)
    return features.semi_join(taken, ["user_id", "session"])


def _in_sessions(rows: Table, at: TimestampColumn, order: list[str]) -> Table:
    """With `session`, when it began; `in_session`, how many rows it has; `place`, a row's in it, from 0."""
    import ibis

    by_user = ibis.window(group_by="user_id", order_by=order)
    up_to_here = ibis.window(group_by="user_id", order_by=order, rows=(None, 0))
    rows = rows.mutate(at=at, pause_ends=at.lag().over(by_user) + ibis.interval(seconds=PAUSE_SECONDS))
    rows = rows.mutate(begins=(rows.at > rows.pause_ends).fill_null(True).ifelse(rows.at, None))
    return _counted(rows.mutate(session=rows.begins.max().over(up_to_here)).drop("at", "pause_ends", "begins"), order)


def _counted(rows: Table, order: list[str]) -> Table:
    """With `in_session`, how many rows a row's session has; `place`, its own there, from 0."""
    import ibis

    of_session = ["user_id", "session"]
    return rows.mutate(
        in_session=rows.count().over(ibis.window(group_by=of_session)),
        place=ibis.row_number().over(ibis.window(group_by=of_session, order_by=order)),
    )


def _thinned(rows: Table) -> Table:
    """At most EACH rows of a session, evenly spread: however busy a visitor, it is one visit."""
    turn = (rows.place * EACH) // rows.in_session
    before = ((rows.place - 1) * EACH) // rows.in_session
    return rows.filter((rows.place == 0) | (turn > before)).drop("place", "in_session")


def _value_names(rows: Table, vocabulary: Vocabulary) -> StringValue:
    if vocabulary.few_values:
        return rows.value.isin(vocabulary.values).ifelse(rows.value.cast("string"), "never seen before")
    return _between(rows.value, vocabulary.values)


def _between(column: Value, values: Sequence[float]) -> StringValue:
    """Names of the intervals between `values`; null for null."""
    edges = [f"{edge:g}" for edge in values]
    inner = [f"{low} to {high}" for low, high in pairwise(edges)]
    bucket = column.bucket(values, include_under=True, include_over=True, close_extreme=False)
    return column.isnull().ifelse(None, _named(bucket, (f"under {edges[0]}", *inner, f"from {edges[-1]}")))


def _decile(position: Value) -> StringValue:
    import ibis

    decile = (position.fill_null(1.0) * 10).floor().cast("int64").clip(upper=9)
    return ibis.literal("decile ") + (decile + 1).cast("string").lpad(2, "0")


def _named(bucket: object, names: tuple[str, ...]) -> StringValue:
    import ibis

    return ibis.cases(*((bucket == number, name) for number, name in enumerate(names)), else_="none")
