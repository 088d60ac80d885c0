"""When to retrain: policies, each a function of what a window showed. A policy says why, or None."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

STANDARD_ERRORS = 1.96
"""Quality has fallen where it is further down than so many standard errors of the difference: a 95% interval."""


@dataclass(frozen=True)
class Quality:
    """NDCG@10 of the lists of a window, by user: users, not events, are what chance draws."""

    sums: np.ndarray
    """float64 [users]"""
    counts: np.ndarray
    """int64 [users], each at least 1"""

    @classmethod
    def of(cls, values: np.ndarray, users: np.ndarray) -> Quality:
        """Of values, float64 [events], and whose each was, [events]."""
        _, codes, counts = np.unique(users, return_inverse=True, return_counts=True)
        return cls(np.bincount(codes, values, minlength=len(counts)), counts)

    @property
    def mean(self) -> float:
        return float(self.sums.sum() / self.counts.sum())

    @property
    def variance(self) -> float:
        """Of the mean, users drawn anew: that of a ratio of sums (Cochran, Sampling Techniques, 1977, 6.4)."""
        apart = self.sums - self.mean * self.counts
        return float((apart**2).sum() / self.counts.sum() ** 2)


@dataclass(frozen=True)
class Evidence:
    """What is known at the end of a window."""

    learnt: int
    """Events that the live version knows"""
    new: int
    """Events since"""
    enough: float | None
    """`monitoring.new_data`: so many new ones, as a share of those, are a reason; None: none are"""
    cooling: bool
    """Whether the last training was asked for less than `monitoring.cooldown_hours` ago"""
    drifted: tuple[str, ...]
    """Signals of the monitor that have drifted, in its words"""
    now: Quality
    first: Quality
    """Of the live version's first window"""


Policy = Callable[[Evidence], str | None]


def never(_: Evidence) -> str | None:
    """The first version for ever."""
    return None


def every_window(_: Evidence) -> str | None:
    """Whatever happens."""
    return "the window is over"


def on_drift(seen: Evidence) -> str | None:
    """Where the monitor sees that what comes in, or what is served, is of another kind."""
    return f"drift: {'; '.join(seen.drifted)}" if seen.drifted else None


def on_quality(seen: Evidence) -> str | None:
    """Where lists are worse than in the version's first window, by more than chance does."""
    fall = seen.first.mean - seen.now.mean
    if fall <= STANDARD_ERRORS * (seen.first.variance + seen.now.variance) ** 0.5:
        return None
    return f"quality: NDCG@10 {seen.first.mean:.4f} → {seen.now.mean:.4f}"


def on_new_data(seen: Evidence) -> str | None:
    """Where enough has come in that the version does not know."""
    if seen.enough is None or seen.new < seen.enough * seen.learnt:
        return None
    return f"new data: {seen.new:,} events beside {seen.learnt:,}"


def combined(seen: Evidence) -> str | None:
    """The default, near to what the platform does: for any of these three reasons, but not while it cools down."""
    if seen.cooling:
        return None
    reasons = [why for policy in (on_drift, on_quality, on_new_data) if (why := policy(seen))]
    return " · ".join(reasons) or None


NEVER, EVERY, DEFAULT = "never", "every window", "combined"
POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        NEVER: never,
        EVERY: every_window,
        "drift": on_drift,
        "quality": on_quality,
        "new data": on_new_data,
        DEFAULT: combined,
    }
)
MONITORED = ("drift", DEFAULT)
"""Policies that ask the monitor"""
