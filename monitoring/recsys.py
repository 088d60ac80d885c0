"""Evidently's recommender metrics of the live version's lists, a sample of them, by what users took.

A list is what Evidently calls a user: each is ranked, and counts, by itself. NDCG, MRR and hit rate are then those of
`quality.py`, except that Evidently knows only the first k places: what a user took from behind them does not lower the
NDCG. Novelty, popularity and coverage need what the version has learnt from, of which a sample of users is enough.

Diversity is ours, as `evaluation.beyond` defines it: Evidently's wants numeric features of items and a distance for
each pair of all items shown, and goes through all rows once for each list.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from monitoring.feedback import SHADOW, Feedback
from monitoring.live import LiveModel
from monitoring.quiet import quiet
from monitoring.reference import learnt
from monitoring.window import Window

if TYPE_CHECKING:
    import pandas as pd
    from ibis.backends.duckdb import Backend
    from ibis.expr.types import Table

SAMPLE = 10_000
"""About so many lists are looked at, at most."""
PAIRS = 500_000
"""About so many pairs of a user and an item that the version has learnt from, at most"""


@dataclass(frozen=True)
class Rows:
    """What Evidently looks at."""

    lists: pd.DataFrame
    """One row an item of the first k places: list, item (a code), rank (from 1), taken (0 or 1); and on the first row
    of each list, for all of it: `fallback` (0 or 1) and `diversity`, where its items have categories"""
    learnt: pd.DataFrame
    """list (here: a user's code) and item: who had an event on what; none twice"""


def recsys_snapshot(
    backend: Backend, feedback: Feedback, gated: Path, live: LiveModel, window: Window, k: int
) -> Any | None:
    """Evidently's snapshot of the lists of `live` that were shown in `window`; None where there were none.

    Args:
        backend: an Ibis DuckDB backend, with the tables of the feedback.
        feedback: on these lists, and maybe on others.
        gated: folder of the gated tables, which the version has learnt from.
        live: the version.
        window: one that is closed.
        k: places of a list that count.

    Raises:
        StageError: the gated data is missing or damaged.
    """
    events, items = learnt(backend, gated, live)
    lists = _with_lists(feedback, _sampled(feedback, live.version, window), items, k).to_pandas()
    return None if lists.empty else snapshot(_coded(lists, _pairs(events).to_pandas()), k)


def snapshot(rows: Rows, k: int) -> Any:
    """Let Evidently look at the rows, of which there is one at least."""
    import pandas as pd

    lists = rows.lists
    k = min(k, int(lists["rank"].max()))  # with longer ones than there are, Evidently fails
    with quiet():
        from evidently import DataDefinition, Dataset, Recsys, Report
        from evidently.metrics import MRR, NDCG, HitRate, MeanValue, Novelty, PopularityBiasMetric

        columns = [name for name in ("diversity", "fallback") if lists[name].notna().any()]
        metrics: list[Any] = [metric(k=k, no_feedback_users=True) for metric in (NDCG, MRR, HitRate)]
        if lists["item"].isin(rows.learnt["item"]).any() and lists["item"].nunique() > 1:  # else these are no numbers
            metrics.append(Novelty(k=k))
            kinds = ("arp", "coverage", "gini")
            metrics += [PopularityBiasMetric(k=k, metric=kind, normalize_arp=True) for kind in kinds]
        metrics += [MeanValue(column=name) for name in columns]
        ranking = Recsys(user_id="list", item_id="item", target="taken", prediction="rank", recommendations_type="rank")
        return Report(metrics).run(
            Dataset.from_pandas(lists, DataDefinition(numerical_columns=columns, ranking=[ranking])),
            None,
            additional_data={"current_train_data": Dataset.from_pandas(pd.DataFrame(rows.learnt), DataDefinition())},
        )


def _sampled(feedback: Feedback, version: int, window: Window) -> Table:
    """Every n-th list that the version showed, so that there are at most about SAMPLE."""
    import ibis

    lists = feedback.lists
    lists = lists.filter(lists.served_at >= window.start, lists.served_at < window.end)
    lists = lists.filter(lists.version == version, lists.variant != SHADOW)
    step = max(1, -(-int(lists.count().execute()) // SAMPLE))
    turn = ibis.row_number().over(order_by="list")  # not its number: every other one may be of a shadow
    return lists.mutate(turn=turn).filter(lambda t: t.turn % step == 0).drop("turn")


def _with_lists(feedback: Feedback, shown: Table, items: Table, k: int) -> Table:
    import ibis

    places = feedback.places.filter(feedback.places.place < k).semi_join(shown, "list")
    taken = feedback.acts.select("list", "place", was_taken=ibis.literal(True)).distinct()
    rows = places.left_join(taken, ["list", "place"]).drop("list_right", "place_right")
    rows = rows.left_join(_diversity(places, items), "list").drop("list_right")
    rows = rows.inner_join(shown.select("list", "strategy"), "list")
    first = rows.place == 0
    return rows.select(
        "list",
        "item_id",
        rank=rows.place + 1,
        taken=rows.was_taken.fill_null(False).cast("int64"),
        diversity=first.ifelse(rows.diversity, None),
        fallback=first.ifelse((rows.strategy != "model").cast("float64"), None),
    ).order_by(["list", "rank"])


def _diversity(places: Table, items: Table) -> Table:
    """list, diversity: 1 - the mean cosine of two items' sets of categories; of lists with two items that have some.

    With x the items' unit vectors, the sum of x_i · x_j over ordered pairs is |Σ x|² - n: the pairs need not be made.
    """
    named = items.select("item_id", category=items.categories.unnest()).distinct()
    sizes = named.group_by("item_id").aggregate(size=named.count())
    weighed = named.inner_join(sizes, "item_id").mutate(weight=lambda t: 1 / t["size"].cast("float64").sqrt())
    entries = places.inner_join(weighed, "item_id")
    counts = entries.group_by("list").aggregate(n=entries.place.nunique())
    sums = entries.group_by(["list", "category"]).aggregate(total=entries.weight.sum())
    squares = sums.group_by("list").aggregate(square=(sums.total * sums.total).sum())
    both = squares.inner_join(counts, "list")
    both = both.filter(both.n > 1)
    return both.select("list", diversity=1 - (both.square - both.n) / (both.n * (both.n - 1)))


def _pairs(events: Table) -> Table:
    """user_id, item_id, none twice: all of every n-th user, so that there are at most about PAIRS."""
    pairs = events.select("user_id", "item_id").distinct()
    step = max(1, -(-int(pairs.count().execute()) // PAIRS))
    return pairs.filter(pairs.user_id.hash() % step == 0)


def _coded(lists: pd.DataFrame, pairs: pd.DataFrame) -> Rows:
    """With codes instead of ids, which take Evidently less time."""
    import pandas as pd

    codes, _ = pd.factorize(np.concatenate([lists["item_id"], pairs["item_id"]]))
    users, _ = pd.factorize(pairs["user_id"])
    return Rows(
        lists.drop(columns="item_id").assign(item=codes[: len(lists)]),
        pd.DataFrame({"list": users, "item": codes[len(lists) :]}),
    )
