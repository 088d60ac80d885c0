"""How far a window's figures move by chance alone, and so from where on they have changed.

A visitor brings many events at once: a thousand events of seventy sessions move far more than a thousand independent
ones would. So chance is asked of the reference itself: windows of as many sessions as the one that is judged are drawn
from it with replacement, session by session (the cluster bootstrap: Cameron, Gelbach and Miller, 2008, "Bootstrap-Based
Improvements for Inference with Clustered Errors"). Squared Jensen-Shannon distances of such draws follow closely a
gamma distribution of the same mean and variance, as chi-squared ones do, and so do powers of other measures
(`measures.py`); so a few hundred draws tell where the rare ones lie.

Successive stretches of the reference often differ by more than that: weekends, campaigns, a catalogue that ages. What
they differ by is added: a window has to stand out from them, and not from an average that never was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import gamma  # type: ignore[import-untyped]

from monitoring.measures import MEASURES, Measure

DRAWS = 300
"""Windows that are drawn. Their bound is known to some 5% then."""
FEWEST_STRETCHES = 5
"""Where the reference has fewer, nothing can be said of how they differ."""


@dataclass(frozen=True)
class Chance:
    """How a power of one signal's measure is distributed where nothing has changed."""

    mean: float
    variance: float
    power: int = 2

    def bound(self, share: float) -> float:
        """What so small a share of windows reaches, by the measure itself."""
        if self.mean <= 0 or self.variance <= 0:
            return 0.0
        powered = gamma.isf(share, self.mean**2 / self.variance, scale=self.variance / self.mean)
        return float(powered ** (1 / self.power))


def chance(sessions: np.ndarray, size: int, seed: int = 0, by: Measure = MEASURES["jensenshannon"]) -> Chance:
    """How far a window of `size` sessions is from a reference like this one, where nothing has changed.

    Args:
        sessions: float [sessions, categories], what each session of the reference has of one signal, in order of time.
        size: at least 1.
        seed: of the draws.
        by: how far is measured.
    """
    rng = np.random.default_rng(seed)
    windows, wholes = _drawn(sessions, size, rng), _drawn(sessions, len(sessions), rng)
    powered = by.far(windows, wholes) ** by.power
    mean, variance = float(powered.mean()), float(powered.var())
    stretches = len(sessions) // size
    if stretches < FEWEST_STRETCHES:
        return Chance(mean, variance, by.power)
    totals = sessions[-stretches * size :].reshape(stretches, size, -1).sum(1)
    apart = by.far(totals, np.broadcast_to(sessions.sum(0), totals.shape)) ** by.power
    return Chance(max(mean, float(apart.mean())), max(variance, float(apart.var())), by.power)


def _drawn(sessions: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """float [DRAWS, categories]: what windows of `size` sessions have."""
    count = len(sessions)
    # Many times as quick as drawing from a multinomial distribution, which draws a binomial number for each session.
    times = np.stack([np.bincount(rng.integers(count, size=size), minlength=count) for _ in range(DRAWS)])
    drawn: np.ndarray = times.astype(sessions.dtype) @ sessions
    return drawn
