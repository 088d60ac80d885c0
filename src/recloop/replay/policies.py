"""When to retrain: policies, each a function of what a window showed. A policy says why, or None."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType


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
    drifted: tuple[str, ...] = ()
    """Signals of the monitor that have drifted and are a reason, in its words; but for that of quality"""
    fallen: tuple[str, ...] = ()
    """The monitor's signal of quality, where that is a reason"""


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
    """Where users take less of what they are shown than of this version's earlier lists, by more than chance does."""
    return "; ".join(seen.fallen) or None


def on_new_data(seen: Evidence) -> str | None:
    """Where enough has come in that the version does not know."""
    if seen.enough is None or seen.new < seen.enough * seen.learnt:
        return None
    return f"new data: {seen.new:,} events beside {seen.learnt:,}"


def combined(seen: Evidence) -> str | None:
    """The default, as the platform does: for any of these three reasons, but not while it cools down."""
    if seen.cooling:
        return None
    reasons = [why for policy in (on_drift, on_quality, on_new_data) if (why := policy(seen))]
    return " · ".join(reasons) or None


NEVER, EVERY, EVERY_WARM, DEFAULT = "never", "every window", "every window, warm", "combined"
POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        NEVER: never,
        EVERY: every_window,
        EVERY_WARM: every_window,
        "drift": on_drift,
        "quality": on_quality,
        "new data": on_new_data,
        DEFAULT: combined,
    }
)
MONITORED = ("drift", "quality", DEFAULT)
"""Policies that ask the monitor"""
FROM_NOTHING = (NEVER, EVERY)
"""Policies whose trainings begin from nothing, whatever `train.warm_start` says: the others are measured by them"""
