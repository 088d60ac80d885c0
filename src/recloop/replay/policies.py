"""When to retrain: policies, each a function of what a window showed. A policy says why, or None."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from recloop.errors import ConfigError, did_you_mean


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


NEVER, EVERY, DEFAULT = "never", "every window", "combined"
WARM = ", warm"
"""Ends the name of a policy whose trainings begin from what is live, and not from nothing"""
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
MONITORED = ("drift", "quality", DEFAULT)
"""Policies that ask the monitor"""


def rows(wanted: Collection[str], *, warm: bool) -> list[str]:
    """The policies to play, in order: those that are wanted, and the two that others are measured by.

    Args:
        wanted: their names, with WARM behind them or without; all where none is named.
        warm: whether one without means the other.

    Raises:
        ConfigError: there is no such policy.
    """
    for name in wanted:
        if name.removesuffix(WARM) not in POLICIES:
            raise ConfigError(
                f"there is no policy {name!r}{did_you_mean(name, POLICIES)}",
                remedy=f"there are: {', '.join(POLICIES)}; and each of them with {WARM!r} behind it",
            )
    named = {f"{name}{WARM}" if warm and not name.endswith(WARM) else name for name in wanted or POLICIES}
    both = [*POLICIES, *(f"{name}{WARM}" for name in POLICIES)]
    return [name for name in both if name in (NEVER, EVERY) or (name in named and name != f"{NEVER}{WARM}")]
