"""`fields`: what share of the events that were sent is refused, for a field that is missing or not as it may be.

What a model has learnt has none of them, so the time before the window is what they are compared with, whichever
version was live: what clients send has nothing to do with it. They are counted by hour, so whole hours are compared,
those that ended in the window.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import nbinom  # type: ignore[import-untyped]
from sqlalchemy import Connection, func, select

from monitoring.measures import MEASURES, Measure
from monitoring.signals import Finding
from monitoring.window import HOUR, Window, count_events
from recloop.config import Monitoring
from recloop.serving.refusals import refusals

FIELDS = "fields"
BEFORE = 7 * 24 * HOUR
"""So long a time before the window is looked at, or as long a one as the window where that is longer"""
FEWEST_STRETCHES = 3
"""Where there are fewer before the window, nothing can be said of how they differ."""
NAMED = 3
"""Reasons that are named, at most"""


@dataclass(frozen=True)
class Sent:
    """The events of some time."""

    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Reason → events"""
    requests: int = 0
    """In which they were, those that were refused"""

    def __add__(self, other: Sent) -> Sent:
        return Sent(self.accepted + other.accepted, self.refused + other.refused, self.requests + other.requests)

    @property
    def events(self) -> int:
        """Accepted and refused."""
        return self.accepted + self.refused.total()

    @property
    def share(self) -> float:
        """Of the refused ones."""
        return self.refused.total() / max(1, self.events)

    def named(self) -> str:
        """The commonest reasons, and how many events were refused for each."""
        return ", ".join(f"{reason} {events:,}" for reason, events in self.refused.most_common(NAMED))


def sent_in(connection: Connection, window: Window) -> Sent:
    """What was sent in a window that goes on, and in the hour in which it began."""
    return _sent(connection, Window(window.start // HOUR * HOUR, window.end))


def compare_refused(connection: Connection, window: Window, policy: Monitoring) -> Finding | None:
    """How far the share of refused events has grown in `window`; None: there is too little to compare it with.

    Args:
        connection: to the database of the endpoint.
        window: what is judged.
        policy: what a change means.
    """
    start, end = (moment // HOUR * HOUR for moment in (window.start, window.end))
    length = end - start
    if not length:  # its hour goes on
        return None
    stretches = max(1, BEFORE // length)
    now, *before = (
        _sent(connection, Window(start - back * length, end - back * length)) for back in range(stretches + 1)
    )
    measure = MEASURES[policy.signals.fields.test]
    return grown(now, before, measure, policy.false_alarms, policy.min_events)


def grown(now: Sent, before: Sequence[Sent], by: Measure, false_alarms: float, fewest: int) -> Finding | None:
    """The same, of counts.

    A request is refused as a whole, so chance is in the number of those, and its events come with it. Where nothing has
    changed, how many there are is a negative binomial number, given how many there were before: of none before some
    may come (Jeffreys' prior). Before is all the time before, or the stretch with the second greatest share, where that
    has more: what has been so twice is usual.

    Args:
        now: what was sent in the window.
        before: in stretches as long as it, before it.
        by: how far is measured.
        false_alarms: the share of windows in which nothing has changed that may reach what chance does.
        fewest: events; a stretch, and the time before the window, tell nothing with fewer.
    """
    past = sum(before, Sent())
    if past.events < fewest or not now.events:
        return None

    def far(refused: float, accepted: float) -> float:
        there, here = np.array([past.refused.total(), past.accepted]), np.array([refused, accepted])
        return float(by.far(here, there)) if refused / (refused + accepted) > past.share else 0.0

    each = (past + now).refused.total() / max(1, past.requests + now.requests)

    def by_chance(was: Sent) -> float:
        requests = 1 + nbinom.isf(false_alarms, was.requests + 0.5, was.events / (was.events + now.events))
        return far(requests * each, now.accepted) if each else 0.0

    stretches = sorted((part for part in before if part.events >= fewest), key=lambda part: part.share)
    twice = stretches[-2] if len(stretches) >= FEWEST_STRETCHES else past
    chance = by_chance(twice if twice.share > past.share else past)
    return Finding(FIELDS, far(now.refused.total(), now.accepted), chance, _moved(past, now), by.spoken)


def _moved(past: Sent, now: Sent) -> str:
    def share(of: Sent, reason: str) -> float:
        return of.refused[reason] / max(1, of.events)

    grew = {reason: share(now, reason) - share(past, reason) for reason in now.refused}
    most = sorted((reason for reason in grew if grew[reason] > 0), key=lambda reason: (-grew[reason], reason))[:NAMED]
    named = [f"{reason} {share(past, reason):.1%} → {share(now, reason):.1%}" for reason in most]
    return "; ".join([f"refused {past.share:.1%} → {now.share:.1%}", *named])


def _sent(connection: Connection, hours: Window) -> Sent:
    """What was sent in whole hours, of which the last may go on."""
    query = (
        select(refusals.c.reason, func.sum(refusals.c.events), func.sum(refusals.c.requests))
        .where(refusals.c.hour >= hours.start, refusals.c.hour < hours.end)
        .group_by(refusals.c.reason)
    )
    rows = connection.execute(query).all()
    refused = Counter({reason: int(events) for reason, events, _ in rows})
    return Sent(count_events(connection, hours), refused, sum(int(requests) for *_, requests in rows))
