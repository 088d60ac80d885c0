"""Figures that are ratios of sums over users, and between which values they lie: users are drawn again."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np

from recloop.evaluation.bootstrap import Interval, drawn_sums

SAMPLES = 1000
CONFIDENCE = 0.95


class Draws:
    """Sums over users as they are, and as they are of users drawn again: once for all of them, so that what is made of
    several sums hangs together.

    Args:
        columns: name → float64 [users]; row i of each is the same user. A user who has nothing in any is nobody.
        seed: of the draws.
    """

    def __init__(self, columns: Mapping[Hashable, np.ndarray], seed: int) -> None:
        table = np.stack(list(columns.values()), 1)
        table = table[table.any(1)]
        self._at = {name: place for place, name in enumerate(columns)}
        self._sums = np.vstack([table.sum(0), drawn_sums(table, samples=SAMPLES, seed=seed)])

    def __getitem__(self, name: Hashable) -> np.ndarray:
        """float64 [1 + SAMPLES]: the sum as it is, and then as drawn."""
        return self._sums[:, self._at[name]]

    def each(self, name: Hashable, count: int) -> np.ndarray:
        """float64 [1 + SAMPLES, count]: the sums called (name, 0), (name, 1) and so on."""
        return self._sums[:, [self._at[name, place] for place in range(count)]]


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """One by the other; NaN where there is nothing below."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: np.ndarray = np.where(below > 0, above / below, np.nan)
    return found


def spread(values: np.ndarray) -> float:
    """The standard error of a figure: float64 [1 + SAMPLES], as it is and as drawn."""
    return float(np.nanstd(values[1:]))


def interval(values: np.ndarray) -> Interval:
    """Of a figure: float64 [1 + SAMPLES], as it is and as drawn. A draw without the figure tells nothing."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(values[1:], [tail, 1 - tail])
    return Interval(float(values[0]), float(low), float(high))
