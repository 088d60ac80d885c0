"""What is compared: one row an event, or one row a served list.

The reference and the current traffic go through the same functions; they differ only in what was known
before. Everything is an Ibis expression: the engine below reads, joins and samples; a sample comes out.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from monitoring.known import Known, Vocabulary

if TYPE_CHECKING:
    from ibis.expr.types import StringValue, Table

SAMPLE = 50_000
"""At most so many rows of each side are compared: every n-th in order of time."""
ACTIVITY = (1, 10, 50, 200)
ACTIVITY_NAMES = ("none before", "1 to 9 before", "10 to 49 before", "50 to 199 before", "200 or more before")


def event_features(events: Table, known: Known, vocabulary: Vocabulary) -> Table:
    """One row an event: the columns of `signals.EVENT_SIGNALS`, all of them categories.

    Args:
        events: user_id, item_id, event, value, timestamp.
        known: what was known before the first of them.
        vocabulary: the same for both sides.
    """
    import ibis

    by_user = ibis.window(group_by="user_id", order_by=["timestamp", "item_id", "event"])
    rows = events.mutate(before_in_events=ibis.row_number().over(by_user))
    rows = rows.left_join(known.items, "item_id").drop("item_id_right")
    rows = rows.left_join(known.users, "user_id").drop("user_id_right")
    rows = rows.left_join(vocabulary.categories, "item_id").drop("item_id_right")
    prior = rows.earlier.fill_null(0) + rows.before_in_events
    activity = prior.bucket(ACTIVITY, include_under=True, include_over=True)
    decile = (rows.position.fill_null(1.0) * 10).floor().cast("int64").clip(upper=9)
    return rows.select(
        "timestamp",
        "user_id",
        "item_id",
        unknown_items=rows.position.isnull().ifelse("unknown", "known"),
        item_popularity=ibis.literal("decile ") + (decile + 1).cast("string").lpad(2, "0"),
        category=rows.category.fill_null("none"),
        user_activity=_named(activity, ACTIVITY_NAMES),
        event=rows.event,
        value=_value_names(rows, vocabulary),
    )


def list_features(lists: Table, known: Known) -> Table:
    """One row a served list: the columns of `signals.LIST_SIGNALS`.

    Args:
        lists: seq, strategy, items (list of item_id), top_score (null where there is none).
        known: what the model that made them knew.
    """
    shown = lists.select("seq", item_id=lists.items.unnest()).left_join(known.items, "item_id")
    popularity = shown.group_by("seq").aggregate(list_popularity=shown.position.fill_null(1.0).mean())
    return lists.left_join(popularity, "seq").select("seq", "strategy", "list_popularity", "top_score")


def sampled(features: Table, order_by: tuple[str, ...], limit: int = SAMPLE) -> Table:
    """Every n-th row in the given order: the same rows each time, at most `limit`."""
    import ibis

    step = -(-int(features.count().execute()) // limit)
    if step <= 1:
        return features
    place = ibis.row_number().over(order_by=list(order_by))
    return features.mutate(place=place).filter(lambda t: t.place % step == 0).drop("place")


def _value_names(rows: Table, vocabulary: Vocabulary) -> StringValue:
    if vocabulary.few_values:
        return rows.value.isin(vocabulary.values).ifelse(rows.value.cast("string"), "never seen before")
    bucket = rows.value.bucket(vocabulary.values, include_under=True, include_over=True)
    edges = [f"{edge:g}" for edge in vocabulary.values]
    inner = [f"{low} to {high}" for low, high in pairwise(edges)]
    return _named(bucket, (f"under {edges[0]}", *inner, f"from {edges[-1]}"))


def _named(bucket: object, names: tuple[str, ...]) -> StringValue:
    import ibis

    return ibis.cases(*((bucket == number, name) for number, name in enumerate(names)), else_="none")
