"""What lists are like, whether they are right or not.

coverage@k         the share of the catalogue that appears in anybody's first k
exposure_gini@k    how unequally places go to items: 0 where all of the catalogue gets as many, 1 where one item gets
                   all (Shani and Gunawardana, Evaluating Recommendation Systems, 2011)
novelty@k          self-information of the items: -log2 of an item's share of the training events, each item counted
                   once more than it occurs, so that it is finite where it never does (Zhou et al., PNAS 2010)
popularity_lift@k  training events on the items recommended, over those on the items of the users' own histories: 1
                   where a model recommends what is as popular as what its users choose (the ratio of the two group
                   average popularities of Abdollahpouri et al., RecSys 2020, whose lift is this less 1)
diversity@k        1 - the mean similarity of two items of a list: the cosine of their sets of categories (intra-list
                   similarity: Ziegler et al., WWW 2005). Items without categories are left out

Novelty, popularity and diversity are means over users of the mean over each user's lists; a list that has no such
figure is left out, and a metric that no list has is absent.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from recloop.data.prepared import Ragged
from recloop.evaluation.metrics import user_means
from recloop.evaluation.questions import Questions


def beyond_accuracy(
    lists: np.ndarray, questions: Questions, item_table: pa.Table, ks: Iterable[int]
) -> dict[str, float]:
    """Each figure of all lists together.

    Args:
        lists: int64 [questions, at least k]: item codes, best first; -1 where there is no item.
        questions: what the lists answer.
        item_table: row = item code: train_count and, where items have them, categories.
        ks: lengths of list.

    Returns:
        `coverage_at_10` and the like.
    """
    counts = np.asarray(item_table["train_count"].to_numpy())
    chosen = _popularity(counts, questions)
    categories = _categories(item_table)
    found: dict[str, float] = {}
    for k in ks:
        shown = lists[:, :k]
        rows, places = np.nonzero(shown >= 0)
        items = shown[rows, places]
        exposure = np.bincount(items, minlength=len(counts))

        def mean(values: np.ndarray, rows: np.ndarray = rows) -> float | None:
            return _mean(values, rows, questions.users)

        popularity = mean(counts[items])
        figures = {
            "coverage": coverage(exposure),
            "exposure_gini": gini(exposure),
            "novelty": mean(self_information(counts)[items]),
            "popularity_lift": popularity / chosen if popularity is not None and chosen else None,
            "diversity": None if categories is None else _diversity(items, rows, categories, questions.users),
        }
        found |= {f"{name}_at_{k}": figure for name, figure in figures.items() if figure is not None}
    return found


def coverage(exposure: np.ndarray) -> float:
    """The share of items that are shown at all. `exposure`: int [items]: how often each is."""
    return float((exposure > 0).mean())


def gini(exposure: np.ndarray) -> float | None:
    """How unequal the numbers of `exposure` [items] are, from 0 to 1; None where nothing was shown, or there is one."""
    items, total = len(exposure), exposure.sum()
    if items < 2 or not total:
        return None
    order = 2 * np.arange(1, items + 1) - items - 1
    return float(order @ np.sort(exposure) / ((items - 1) * total))


def self_information(counts: np.ndarray) -> np.ndarray:
    """float64 [items]: bits; of an item with `counts` [items] training events."""
    bits: np.ndarray = np.log2(counts.sum() + len(counts)) - np.log2(counts + 1)
    return bits


def _popularity(counts: np.ndarray, questions: Questions) -> float | None:
    """Training events on an item of a history: the mean over users of the mean over their histories."""
    rows = np.repeat(np.arange(len(questions)), np.diff(questions.seen.offsets))
    return _mean(counts[questions.seen.values], rows, questions.users)


def _mean(values: np.ndarray, rows: np.ndarray, users: np.ndarray) -> float | None:
    """The mean over users of the mean over their rows of the mean over a row; rows without values are left out."""
    lengths = np.bincount(rows, minlength=len(users))
    some = lengths > 0
    if not some.any():
        return None
    means = np.bincount(rows, values, minlength=len(users))[some] / lengths[some]
    return float(user_means(means, users[some]).mean())


def _categories(item_table: pa.Table) -> Ragged | None:
    """Codes of each item's categories, none twice; None where no item has any."""
    if "categories" not in item_table.column_names:
        return None
    sets = [sorted(set(names or ())) for names in item_table["categories"].to_pylist()]
    codes = {name: code for code, name in enumerate(sorted({name for names in sets for name in names}))}
    return Ragged.of([[codes[name] for name in names] for names in sets]) if codes else None


def _diversity(items: np.ndarray, rows: np.ndarray, categories: Ragged, users: np.ndarray) -> float | None:
    """With x the items' unit vectors over categories, the sum of x_i · x_j over ordered pairs is |Σ x|² - n: the pairs
    need not be gone through."""
    sizes = np.diff(categories.offsets)
    kept = sizes[items] > 0
    items, rows = items[kept], rows[kept]
    entries = Ragged.slices(categories.values, categories.offsets[items], categories.offsets[items + 1]).values
    width = int(categories.values.max()) + 1
    places, entry = np.unique(np.repeat(rows, sizes[items]) * width + entries, return_inverse=True)
    sums = np.bincount(entry, np.repeat(sizes[items] ** -0.5, sizes[items]))
    squares = np.bincount(places // width, sums**2, minlength=len(users))
    n = np.bincount(rows, minlength=len(users))
    pairs = np.flatnonzero(n > 1)
    similarity = (squares[pairs] - n[pairs]) / (n[pairs] * (n[pairs] - 1))
    return _mean(1 - similarity, pairs, users)
