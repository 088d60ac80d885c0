"""The policy: from figures and what they mean to a verdict with reasons. Pure arithmetic, without Evidently."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import time
from typing import Literal
from zoneinfo import ZoneInfo

from monitoring.moments import from_micros
from monitoring.signals import QUALITY, Finding
from recloop.config import SEVERITIES, QuietHours, Severity, Watched, Watching

Outcome = Literal["ok", "warn", "drift", "quality drop", "new data", "worse", "insufficient", "silent"]
RETRAIN: tuple[Outcome, ...] = ("drift", "quality drop", "new data")
"""Verdicts that ask for a retraining"""
UNJUDGED: tuple[Outcome, ...] = ("insufficient", "silent")
"""Verdicts that judge nothing: the window goes on"""


@dataclass(frozen=True)
class Signal:
    """One signal and what the policy says of it."""

    name: str
    method: str
    figure: float
    threshold: float | None
    """From where on a change matters; None: it is only reported"""
    drifted: bool
    moved: str
    chance: float = 0.0
    """What chance alone reaches"""
    severity: Severity = "retrain"
    awaited: int = 0
    """In so many further windows in a row it has to drift before that counts"""

    @property
    def bound(self) -> float | None:
        """From where on it has drifted: what matters, and is not chance; None: never."""
        return None if self.threshold is None else max(self.threshold, self.chance)

    @property
    def counts(self) -> bool:
        """Whether it has drifted in as many windows in a row as it takes."""
        return self.drifted and not self.awaited

    def __str__(self) -> str:
        sign = "≥" if self.drifted else "<"
        bound = "(only reported)" if self.bound is None else f"{sign} {self.bound:.3g}"
        awaited = f"; counts if it lasts for {self.awaited} more" if self.drifted and self.awaited else ""
        return f"{self.name}: {self.method} {self.figure:.3f} {bound} ({self.moved}){awaited}"


@dataclass(frozen=True)
class Judgement:
    """What the policy says of one window."""

    outcome: Outcome
    signals: tuple[Signal, ...] = ()
    reasons: tuple[str, ...] = ()


def judge(
    findings: Sequence[Finding],
    watching: Watching,
    earlier: Sequence[Collection[str]] = (),
    *,
    can_roll_back: bool = False,
) -> Judgement:
    """`worse` if a signal whose severity is `roll back` has drifted; `drift` if one whose severity is `retrain` has,
    `quality drop` where that is quality alone, `warn` if a signal that is worth a warning has.

    Args:
        findings: the figures.
        watching: what a change of each signal means.
        earlier: signals that drifted in the windows before this one, the latest first.
        can_roll_back: whether there is a version before this one; else a training is asked for in place of a rollback.
    """
    signals = tuple(_signal(finding, getattr(watching, finding.signal), earlier) for finding in findings)
    gravest_first = sorted(signals, key=lambda signal: -SEVERITIES.index(signal.severity))
    reasons = tuple(str(signal) for signal in gravest_first if signal.drifted)
    return Judgement(_outcome(signals, can_roll_back), signals, reasons or (_nearest(signals),))


def with_new_data(judgement: Judgement, new: int, learnt: int, share: float | None) -> Judgement:
    """The same, where nothing is to be done yet, and so many new events are a reason to retrain.

    Args:
        judgement: what the signals say.
        new: events that came in since the live model's data ends.
        learnt: events in that data.
        share: from which on they are enough; None: never.
    """
    if share is None or judgement.outcome in (*RETRAIN, "worse") or new < share * learnt:
        return judgement
    reason = f"{new:,} new events, {new / learnt:.0%} of the {learnt:,} learnt; monitoring.new_data is {share:.0%}"
    return Judgement("new data", judgement.signals, (reason, *judgement.reasons))


def or_worse(judgement: Judgement, worse: str | None) -> Judgement:
    """The same, or where the version does worse than the one before it: `worse`, whatever else there is.

    Args:
        judgement: what the signals say.
        worse: by how much, for people; None: it does not.
    """
    return judgement if worse is None else Judgement("worse", judgement.signals, (worse, *judgement.reasons))


def quiet_until(at: int, hours: QuietHours | None) -> str | None:
    """When the quiet hours end that `at` is in, as people read it; None: it is in none.

    Args:
        at: µs since 1970 (UTC).
        hours: from `begin` (included) to `end` (not included), on that time zone's clocks.
    """
    if hours is None:
        return None
    now = from_micros(at).astimezone(ZoneInfo(hours.timezone)).time()
    begin, end = time.fromisoformat(hours.begin), time.fromisoformat(hours.end)
    within = begin <= now < end if begin <= end else now >= begin or now < end
    return f"{hours.end} {hours.timezone}" if within else None


def _outcome(signals: Sequence[Signal], can_roll_back: bool) -> Outcome:
    back, retrain, warn = (
        {signal.name for signal in signals if signal.counts and signal.severity == severity}
        for severity in ("roll back", "retrain", "warn")
    )
    if back and can_roll_back:
        return "worse"
    if back | retrain:
        return "quality drop" if back | retrain == {QUALITY} else "drift"
    return "warn" if warn else "ok"


def _signal(finding: Finding, watched: Watched, earlier: Sequence[Collection[str]]) -> Signal:
    matters = watched.matters
    drifted = matters is not None and finding.figure >= max(matters, finding.chance)
    in_a_row = 1 + next((place for place, names in enumerate(earlier) if finding.signal not in names), len(earlier))
    return Signal(
        name=finding.signal,
        method=finding.method,
        figure=finding.figure,
        threshold=matters,
        drifted=drifted,
        moved=finding.moved,
        chance=finding.chance,
        severity=watched.severity,
        awaited=max(0, watched.windows - in_a_row) if drifted else 0,
    )


def _nearest(signals: Sequence[Signal]) -> str:
    bounded = [(signal.figure / signal.bound, signal) for signal in signals if signal.bound]
    if not bounded:
        return "no signal has a threshold"
    return f"no signal reached its threshold; nearest is {max(bounded, key=lambda pair: pair[0])[1]}"
