"""Which items occur near each other in histories, and what that says of them before anything is learnt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recloop.data.prepared import Prepared

REACH = 10
"""Vectors are made from items that stand at most so many events apart."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of items that occur near each other in the training period, each in both orders; sorted."""

    one: np.ndarray
    """int64 [pairs]: item codes"""
    other: np.ndarray
    """int64 [pairs]: item codes"""
    weights: np.ndarray
    """float64 [pairs]: how often, items that are g events apart counting 1 / sqrt(g)"""


def cooccurrences(prepared: Prepared, reach: int) -> Pairs:
    """Pairs of different items at most `reach` events apart in somebody's history."""
    count = prepared.item_count
    learnt = prepared.periods == 0
    items = prepared.items.astype(np.int64)
    owner = np.repeat(np.arange(prepared.user_count), prepared.ends - prepared.starts)
    found: np.ndarray = np.empty(0, np.int64)
    weights: np.ndarray = np.empty(0)
    for gap in range(1, min(reach, len(items) - 1) + 1):
        both = learnt[gap:] & learnt[:-gap] & (owner[gap:] == owner[:-gap]) & (items[gap:] != items[:-gap])
        one, other = items[:-gap][both], items[gap:][both]
        # Each pair in one order for now, and one distance after the other: most are there already.
        keys, often = np.unique(np.minimum(one, other) * count + np.maximum(one, other), return_counts=True)
        found, place = np.unique(np.concatenate([found, keys]), return_inverse=True)
        weights = np.bincount(place, np.concatenate([weights, often * gap**-0.5]), minlength=len(found))
    keys = np.concatenate([found, found % count * count + found // count])
    order = keys.argsort()
    return Pairs(keys[order] // count, keys[order] % count, np.concatenate([weights, weights])[order])


def cooccurrence_vectors(prepared: Prepared, dim: int, *, std: float) -> Tensor:
    """Item vectors whose products tell how much more often than by chance items occur near each other.

    They are the singular vectors of the positive pointwise mutual information, to which skip-gram with negative
    sampling comes down (Neural Word Embedding as Implicit Matrix Factorization, Levy and Goldberg, 2014). Items that
    occur near no other, and the last columns where the catalogue is small, get noise alone.

    Args:
        prepared: only its training period is read.
        dim: length of a vector.
        std: of the numbers; noise of a fifth of it is added.

    Returns:
        float32 [items, dim]. It depends on torch's random generator.
    """
    pairs = cooccurrences(prepared, REACH)
    vectors = torch.zeros(prepared.item_count, dim)
    width = min(dim, prepared.item_count)
    if len(pairs.weights):
        often = np.bincount(pairs.one, pairs.weights, minlength=prepared.item_count)
        information = np.log(pairs.weights * pairs.weights.sum() / (often[pairs.one] * often[pairs.other]))
        more = information > 0
        place = torch.from_numpy(np.stack([pairs.one[more], pairs.other[more]]))
        values = torch.from_numpy(information[more].astype(np.float32))
        size = (prepared.item_count, prepared.item_count)
        matrix = torch.sparse_coo_tensor(place, values, size, is_coalesced=True, check_invariants=False)
        left, strengths, _ = torch.svd_lowrank(matrix, q=width, niter=6)
        vectors[:, :width] = left * strengths.sqrt()
        vectors *= std / vectors.std().clamp(min=1e-12)
    return vectors + 0.2 * std * torch.randn_like(vectors)
