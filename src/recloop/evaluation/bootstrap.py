"""Intervals by the percentile bootstrap over users (Efron and Tibshirani, 1993): users are drawn again, with
replacement, and the middle share of the means drawn is the interval. The same seed gives the same interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recloop.errors import StageError

DRAWS = 1 << 20
"""Users drawn at once: 8 MiB of them."""


@dataclass(frozen=True)
class Interval:
    """A mean over users, and between which values it lies."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"

    def to_json(self) -> dict[str, float]:
        """For a report."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


def interval(values: np.ndarray, *, samples: int, confidence: float, seed: int) -> Interval:
    """The mean of `values` and its interval.

    Args:
        values: float64 [users]
        samples: how often users are drawn again.
        confidence: share of the means drawn that lie in the interval, e.g. 0.95.
        seed: of the draws.

    Raises:
        StageError: there are no users.
    """
    return intervals({"": values}, samples=samples, confidence=confidence, seed=seed)[""]


def intervals(values: Mapping[str, np.ndarray], *, samples: int, confidence: float, seed: int) -> dict[str, Interval]:
    """The interval of each of several metrics of the same users, who are drawn once for all of them.

    Args:
        values: name → float64 [users]
        samples, confidence, seed: as in `interval`.

    Raises:
        StageError: there are no users.
    """
    table = np.stack(list(values.values()), 1)  # a row a user
    users = len(table)
    if not users:
        raise StageError(
            "there is no user to judge by",
            remedy="raise split.valid_share or split.test_share, or give more data",
        )
    mean = np.array([each.mean() for each in values.values()])
    apart = table - mean  # summed up instead of the values, it leaves no rounding where all users are alike
    drawn = drawn_sums(apart, samples=samples, seed=seed)
    tail = (1 - confidence) / 2
    low, high = mean + np.quantile(drawn, [tail, 1 - tail], axis=0) / users
    return {
        name: Interval(float(mean[place]), float(low[place]), float(high[place])) for place, name in enumerate(values)
    }


def drawn_sums(table: np.ndarray, *, samples: int, seed: int) -> np.ndarray:
    """What users have together, who are drawn with replacement, as many as there are.

    Args:
        table: float64 [users, columns], at least one user.
        samples, seed: as in `interval`.

    Returns:
        float64 [samples, columns]
    """
    users = len(table)
    rng = np.random.default_rng(seed)
    rows = max(1, DRAWS // users)
    return np.concatenate(
        [
            _times_drawn(rng.integers(users, size=(min(rows, samples - start), users))) @ table
            for start in range(0, samples, rows)
        ]
    )


def _times_drawn(draws: np.ndarray) -> np.ndarray:
    """How often each user is in each row of `draws` [samples, users]: float64 [samples, users]."""
    samples, users = draws.shape
    places = draws + users * np.arange(samples)[:, None]
    return np.bincount(places.ravel(), minlength=draws.size).reshape(draws.shape).astype(np.float64)


def paired(a: np.ndarray, b: np.ndarray, *, samples: int, confidence: float, seed: int) -> Interval:
    """The mean of `a - b` and its interval; row i of both is the same user, so what users differ in cancels out.

    Raises:
        StageError: the two are not of the same users, or there are none.
    """
    if a.shape != b.shape:
        raise StageError(
            f"a paired comparison needs the same users on both sides; these are {len(a)} and {len(b)}",
            remedy="evaluate both on the same data: `dvc repro`",
        )
    return interval(a - b, samples=samples, confidence=confidence, seed=seed)
