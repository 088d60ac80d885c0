"""Ranking metrics of cases with one right answer each, from the rank of that answer.

recall@k  1 where the target is among the first k, else 0 (with one target: the hit rate)
ndcg@k    1 / log2(1 + rank) where it is among them: the ideal list has it first, which makes 1
mrr@k     1 / rank where it is among them
coverage@k  the share of the catalogue that appears in anybody's first k
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def case_metrics(ranks: np.ndarray, ks: Iterable[int]) -> dict[str, np.ndarray]:
    """Each metric of each case.

    Args:
        ranks: int [cases]: the target's place, 1 being the best.
        ks: lengths of list.

    Returns:
        `ndcg_at_10` and the like → float64 [cases].
    """
    places = ranks.astype(np.float64)
    found: dict[str, np.ndarray] = {}
    for k in ks:
        hit = ranks <= k
        found[f"ndcg_at_{k}"] = np.where(hit, 1 / np.log2(1 + places), 0.0)
        found[f"recall_at_{k}"] = hit.astype(np.float64)
        found[f"mrr_at_{k}"] = np.where(hit, 1 / places, 0.0)
    return found


def user_means(values: np.ndarray, users: np.ndarray) -> np.ndarray:
    """The mean over each user's cases, so that a user with many cases counts as much as one with one.

    Args:
        values: float64 [cases]
        users: int [cases] user codes

    Returns:
        float64 [users that have cases], by ascending code
    """
    _, row, cases = np.unique(users, return_inverse=True, return_counts=True)
    means: np.ndarray = np.bincount(row, values) / cases
    return means


def coverage(lists: np.ndarray, k: int, catalogue_size: int) -> float:
    """The share of the catalogue in anybody's first k. `lists`: int [cases, at least k], -1 where there is no item."""
    shown = np.unique(lists[:, :k])
    return float((shown >= 0).sum() / catalogue_size)
