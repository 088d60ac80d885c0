"""What was known before a stretch of events, and the words that both sides are described with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ibis.expr.types import Table

TOP_CATEGORIES = 20
DISTINCT_VALUES = 20


@dataclass(frozen=True)
class Known:
    """What was known of items and users before a stretch of events."""

    items: Table
    """item_id, position: the share of all events that went to more popular items, 0 to 1"""
    users: Table
    """user_id, earlier: how many events the user had"""

    @classmethod
    def before(cls, events: Table) -> Known:
        """From all events before the stretch: user_id, item_id."""
        return cls(
            items=_positions(events),
            users=events.group_by("user_id").aggregate(earlier=lambda t: t.count()),
        )

    def with_earlier(self, counts: Table) -> Known:
        """The same, after more events of old or new users: user_id, earlier."""
        alike = {"user_id": "string", "earlier": "int64"}
        both = self.users.cast(alike).union(counts.cast(alike))
        return replace(self, users=both.group_by("user_id").aggregate(earlier=lambda t: t.earlier.sum()))


@dataclass(frozen=True)
class Vocabulary:
    """Names of categories and values: one for both sides, lest they differ in names alone."""

    categories: Table
    """item_id, category: each item's first one; rare ones are `other`"""
    values: tuple[float, ...]
    """The values that occurred, where there were few; otherwise the edges of their deciles"""
    few_values: bool

    @classmethod
    def of(cls, events: Table, items: Table) -> Vocabulary:
        """From events (item_id, value) and the items table (item_id, categories)."""
        few = int(events.value.nunique().execute()) <= DISTINCT_VALUES
        if few:
            values = events.select("value").distinct().value.execute()
        else:
            values = events.value.quantile([decile / 10 for decile in range(1, 10)]).execute()
        return cls(_categories(events, items), tuple(sorted({float(value) for value in values})), few)


def _positions(events: Table) -> Table:
    import ibis

    counts = events.group_by("item_id").aggregate(events=lambda t: t.count())
    so_far = ibis.window(order_by=[ibis.desc("events"), counts.item_id], rows=(None, 0))
    return counts.select(
        "item_id",
        position=(counts.events.sum().over(so_far) - counts.events / 2) / counts.events.sum().over(),
    )


def _categories(events: Table, items: Table) -> Table:
    import ibis

    first = items.select("item_id", category=items.categories[0].fill_null("none"))
    common = (
        events.inner_join(first, "item_id")
        .group_by("category")
        .aggregate(events=lambda t: t.count())
        .order_by([ibis.desc("events"), "category"])
        .limit(TOP_CATEGORIES)
        .select("category", is_common=ibis.literal(True))
    )
    joined = first.left_join(common, "category")
    return joined.select("item_id", category=joined.is_common.fill_null(False).ifelse(joined.category, "other"))
