"""What users did with their lists, added up user by user: what rates and their intervals are made of.

Users are put into CLUSTERS heaps by a hash of their names, the same in every window; with far fewer users nearly each
has a heap to itself. Heaps are drawn again instead of users: no user is torn apart, and a million users take no longer
than ten thousand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from monitoring.feedback import SHADOW, Feedback
from monitoring.positions import BY_CHANCE
from monitoring.window import Window

if TYPE_CHECKING:
    import pandas as pd
    from ibis.backends.duckdb import Backend
    from ibis.expr.types import Table

CLUSTERS = 16_384
FEW = 10
GROUPS = ("newcomers", "few", "many")
"""Lists for users of whom no event was known, fewer than FEW, or more"""
RANKED = ("ndcg", "hit_rate", "mrr")
PLACED = ("shown", "taken", "placed", "placed_taken")

Column = Literal["version", "variant", "group"]


@dataclass(frozen=True)
class Tally:
    """Of some lists."""

    users: int
    sums: Mapping[str, np.ndarray]
    """`lists`, `ndcg`, `hit_rate`, `mrr` and the kinds of event → float64 [CLUSTERS]: how many lists there are, what
    each is in all of them together, and in how many of them a kind occurred"""
    places: Mapping[str, np.ndarray]
    """`shown`, `taken`, `placed`, `placed_taken` → float64 [CLUSTERS, k]: items in each place, those that users took,
    those that chance put there, and those of these that users took. The last two of lists with `k` places or more: what
    chance puts into one of their places is like what it puts into another; of lists of all lengths it would not be"""


class Tallies:
    """The lists of a window, ready to be added up.

    Args:
        backend: an Ibis DuckDB backend; the tables are in it.
        feedback: what was shown, and what came of it.
        k: places of a list that count.
    """

    def __init__(self, backend: Backend, feedback: Feedback, k: int) -> None:
        from ibis.util import gen_name

        self.k, self.kinds, self.step = k, feedback.kinds, feedback.step
        lists = per_list(feedback, k)
        self._lists = backend.create_table(gen_name("judged_lists"), lists, temp=True)
        self._places = backend.create_table(gen_name("judged_places"), _per_place(feedback, self._lists, k), temp=True)

    def by(self, window: Window, *columns: Column, version: int | None = None) -> dict[tuple[object, ...], Tally]:
        """By the values of `columns`, in order; with none of them, there is one key, `()`, or none without lists.

        Lists that were made in shadow are among them only where it is by variant.

        Args:
            window: when the lists were shown; the feedback's, or a part of it.
            columns: any of them, in any order.
            version: of the model that made the lists; None: whichever.
        """
        tables = (self._lists, self._places)
        lists, places = (_of(table, window, version, "variant" in columns) for table in tables)
        names = [*RANKED, *(f"kind_{number}" for number in range(len(self.kinds)))]
        by_user = lists.group_by([*columns, "cluster"]).aggregate(
            lists=lists.count(), **{name: lists[name].cast("float64").sum() for name in names}
        )
        by_place = places.group_by([*columns, "cluster", "place"]).aggregate(
            shown=places.count(), **{name: places[name].cast("int64").sum() for name in PLACED[1:]}
        )
        users = dict(_parts(lists.aggregate(by=columns, users=lists.user_id.nunique()), columns))
        placed = dict(_parts(by_place, columns))
        renamed = dict(zip(names[len(RANKED) :], self.kinds, strict=True))
        return {
            key: Tally(
                int(users[key].users.iloc[0]),
                {renamed.get(name, name): _dense(rows, name) for name in ("lists", *names)},
                {name: _dense(placed.get(key), name, self.k) for name in PLACED},
            )
            for key, rows in _parts(by_user, columns)
        }


def per_list(feedback: Feedback, k: int) -> Table:
    """One row a list: what it is, what its first `k` places are worth as `evaluation.metrics` defines it, the items
    that users took being the right answers, and `kind_0` and so on: whether an event of that kind counts for it.

    All of a list's items that users took are right answers, so that one behind the first `k` lowers the NDCG.
    """
    import ibis

    discounts = 1 / np.log2(2 + np.arange(k))
    ideal, discount = (ibis.array(values.tolist()) for values in (np.cumsum(discounts), discounts))
    taken = feedback.acts.select("list", "place").distinct()
    gained = (taken.place < k).ifelse(discount[taken.place.clip(upper=k - 1)], 0.0)
    ranked = taken.group_by("list").aggregate(gain=gained.sum(), taken=taken.count(), first=taken.place.min())
    acts = feedback.acts
    flags = {f"kind_{number}": (acts.kind == kind).any() for number, kind in enumerate(feedback.kinds)}
    lists = feedback.lists
    rows = lists.left_join(ranked, "list").drop("list_right")
    if flags:
        rows = rows.left_join(acts.group_by("list").aggregate(**flags), "list").drop("list_right")
    hit = (rows.first < k).fill_null(False)
    names = ibis.cases((rows.history_length == 0, GROUPS[0]), (rows.history_length < FEW, GROUPS[1]), else_=GROUPS[2])
    return rows.select(
        *lists.columns,
        group=names,
        cluster=(rows.user_id.hash() % CLUSTERS).abs(),
        ndcg=(rows.gain / ideal[rows.taken.clip(upper=k) - 1]).fill_null(0.0),
        hit_rate=hit,
        mrr=hit.ifelse(1 / (rows.first + 1), 0.0),
        **{name: rows[name].fill_null(False) for name in flags},
    )


def _per_place(feedback: Feedback, lists: Table, k: int) -> Table:
    """One row an item in one of the first `k` places: of which list, whether it was taken, and by chance there."""
    import ibis

    taken = feedback.acts.select("list", "place", was_taken=ibis.literal(True)).distinct()
    rows = feedback.places.filter(feedback.places.place < k).inner_join(lists, "list")
    rows = rows.left_join(taken, ["list", "place"])
    was_taken = rows.was_taken.fill_null(False)
    placed = (rows.chance < BY_CHANCE).fill_null(False) & (rows.length >= k)
    return rows.select(
        "list", "served_at", "version", "variant", "group", "cluster", "place",
        taken=was_taken, placed=placed, placed_taken=placed & was_taken,
    )  # fmt: skip


def _of(table: Table, window: Window, version: int | None, with_shadow: bool) -> Table:
    table = table.filter(table.served_at >= window.start, table.served_at < window.end)
    if version is not None:
        table = table.filter(table.version == version)
    return table if with_shadow else table.filter(table.variant != SHADOW)


def _parts(table: Table, columns: Sequence[str]) -> Iterator[tuple[tuple[object, ...], pd.DataFrame]]:
    rows = table.to_pandas()
    if columns:
        yield from rows.groupby(list(columns))
    elif len(rows):
        yield (), rows


def _dense(rows: pd.DataFrame | None, name: str, k: int | None = None) -> np.ndarray:
    """float64 [CLUSTERS], or [CLUSTERS, k]: zero where there is no row."""
    found = np.zeros(CLUSTERS if k is None else (CLUSTERS, k))
    if rows is not None:
        found[rows.cluster if k is None else (rows.cluster, rows.place)] = rows[name]
    return found
