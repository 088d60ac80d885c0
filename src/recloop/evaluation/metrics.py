"""Accuracy of lists, from the ranks of the right answers; defined as trec_eval defines them.

recall@k    the share of the right answers that are among the first k
hit_rate@k  1 where at least one of them is, else 0
ndcg@k      the sum of 1 / log2(1 + rank) of those that are, over what it would be with all of them in front
            (Järvelin and Kekäläinen, 2002)
mrr@k       1 / rank of the first of them; 0 where there is none
map@k       the precision at the place of each that is, summed, over the number of right answers

With one right answer the hit rate is the recall and MAP is MRR; both names are there, since people look for both.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def case_metrics(ranks: np.ndarray, ks: Iterable[int], offsets: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Each metric of each case.

    Args:
        ranks: int [targets]: each right answer's place, 1 being the best.
        ks: lengths of list.
        offsets: int [cases + 1]: the right answers of case i are `ranks[offsets[i]:offsets[i + 1]]`, at least one.
            None: each case has one.

    Returns:
        `ndcg_at_10` and the like → float64 [cases].
    """
    offsets = np.arange(len(ranks) + 1) if offsets is None else offsets
    counts = np.diff(offsets)
    rows = np.repeat(np.arange(len(counts)), counts)
    ranks = ranks[np.lexsort((ranks, rows))]
    nth = np.arange(len(ranks)) - offsets[rows] + 1
    first = ranks[offsets[:-1]]
    discounts = 1 / np.log2(1 + np.arange(1, 1 + counts.max(initial=0)))
    ideal = np.cumsum(discounts)
    found: dict[str, np.ndarray] = {}
    for k in ks:
        hit = ranks <= k
        row, place = rows[hit], ranks[hit]

        def total(values: np.ndarray, row: np.ndarray = row) -> np.ndarray:
            return np.bincount(row, values, minlength=len(counts))

        found[f"ndcg_at_{k}"] = total(1 / np.log2(1 + place)) / ideal[np.minimum(counts, k) - 1]
        found[f"recall_at_{k}"] = total(np.ones(len(row))) / counts
        found[f"hit_rate_at_{k}"] = (first <= k).astype(np.float64)
        found[f"mrr_at_{k}"] = np.where(first <= k, 1 / first, 0.0)
        found[f"map_at_{k}"] = total(nth[hit] / place) / counts
    return found


def user_means(values: np.ndarray, users: np.ndarray) -> np.ndarray:
    """The mean over each user's cases, so that a user with many cases counts as much as one with one.

    Args:
        values: float64 [cases]
        users: int [cases] user codes, ascending

    Returns:
        float64 [users that have cases], by ascending code
    """
    starts = np.flatnonzero(np.diff(users, prepend=-1))
    means: np.ndarray = np.add.reduceat(values, starts) / np.diff(starts, append=len(users))
    return means
