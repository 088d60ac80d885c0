"""How many events come in, beside what is usual at that time of day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitoring.measures import jensen_shannon
from monitoring.signals import VOLUME, Finding
from monitoring.verdicts import Verdict
from monitoring.window import HOUR, Window

FEWEST_WINDOWS = 3
"""Earlier ones that it takes to say how many events are usual"""
DAY = 24 * HOUR
SAME_HOURS = 2 * HOUR
"""As far apart the middles of two short windows may be, by the time of day, to be compared"""


@dataclass(frozen=True)
class Pace:
    """How many events came in, in a window."""

    window: Window
    rate: float
    """Events an hour"""
    drifted: bool = False
    """Whether that was not what was usual then"""

    @classmethod
    def of(cls, verdict: Verdict) -> Pace:
        """That of a window that was judged."""
        window = Window(verdict.window_from, verdict.window_to)
        drifted = any(signal.name == VOLUME and signal.drifted for signal in verdict.signals)
        return cls(window, rate(verdict.events, window), drifted)

    def is_at(self, window: Window) -> bool:
        """Whether it was at the hours of the day that `window` is at; of windows of about a day all are."""
        apart = abs(self.window.start + self.window.end - window.start - window.end) // 2 % DAY
        return min(apart, DAY - apart) <= max(SAME_HOURS, (window.end - window.start) // 2)


def rate(events: int, window: Window) -> float:
    """Events an hour."""
    return events * HOUR / max(1, window.end - window.start)


def usual_pace(paces: Sequence[Pace]) -> float | None:
    """Events an hour, the median over windows; None: nobody knows what is usual."""
    return float(np.median([pace.rate for pace in paces])) if len(paces) >= FEWEST_WINDOWS else None


def volume(now: Pace, earlier: Sequence[Pace]) -> Finding | None:
    """How far a rate of events is from what is usual, as a distance of two shares; None: nobody knows what is.

    Args:
        now: of the window that is judged.
        earlier: of windows before it; those at the same hours of the day count. As far as one of them is from their
            median, chance reaches, unless it was out of the ordinary itself.
    """
    same = [pace for pace in earlier if pace.is_at(now.window)]
    median = usual_pace(same)
    if median is None:
        return None

    def distance(pace: Pace) -> float:
        return float(jensen_shannon(np.array([pace.rate, median]), np.ones(2)))

    chance = max((distance(pace) for pace in same if not pace.drifted), default=0.0)
    return Finding(VOLUME, distance(now), chance, f"{median:,.0f} → {now.rate:,.0f} events an hour")
