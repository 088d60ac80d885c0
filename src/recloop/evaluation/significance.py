"""Whether two models differ: a test on the same users, corrected for how many are compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recloop.evaluation.bootstrap import DRAWS


def sign_flip(differences: np.ndarray, *, samples: int, seed: int) -> float:
    """The two-sided p-value of "these users do as well with either model", by Fisher's randomization test.

    If that is so, each difference might as well have the other sign. So signs are drawn at random, and the p-value is
    the share of draws whose mean is as far from 0 as the one that was seen (Smucker, Allan and Carterette, CIKM 2007).
    What was seen counts as one of the draws: the p-value is never 0 (Phipson and Smyth, 2010).

    Args:
        differences: float64 [users], at least one: a metric with one model minus that with the other.
        samples: how often signs are drawn.
        seed: of the draws.
    """
    total = differences.sum()
    # Sums that ought to be equal differ in their last bits.
    bound = abs(total) - 1e-9 * np.abs(differences).sum()
    rng = np.random.default_rng(seed)
    rows = max(1, DRAWS // len(differences))
    extreme = 1
    for start in range(0, samples, rows):
        flips = rng.random((min(rows, samples - start), len(differences)), np.float32) < np.float32(0.5)
        extreme += int((np.abs(total - 2 * (flips @ differences)) >= bound).sum())
    return extreme / (samples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value, such that to reject those below α errs in any of them with probability α at most (Holm, 1979)."""
    corrected = [0.0] * len(p_values)
    least = 0.0
    for left, index in zip(range(len(p_values), 0, -1), np.argsort(p_values, kind="stable"), strict=True):
        least = max(least, min(1.0, left * p_values[index]))
        corrected[index] = least
    return corrected
