"""The policy: from figures and thresholds to a verdict with reasons. Pure arithmetic, without Evidently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from monitoring.signals import METHOD_NAME, Finding

Outcome = Literal["ok", "drift", "insufficient"]


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

    @property
    def bound(self) -> float | None:
        """From where on it has drifted: what matters, and is not chance; None: never."""
        return None if self.threshold is None else max(self.threshold, self.chance)

    def __str__(self) -> str:
        sign = "≥" if self.drifted else "<"
        bound = "(only reported)" if self.bound is None else f"{sign} {self.bound:.3g}"
        return f"{self.name}: {self.method} {self.figure:.3f} {bound} ({self.moved})"


@dataclass(frozen=True)
class Judgement:
    """What the policy says of one window."""

    outcome: Outcome
    signals: tuple[Signal, ...] = ()
    reasons: tuple[str, ...] = ()


def too_few(events: int, min_events: int) -> Judgement | None:
    """`insufficient`, if there are too few events to judge by."""
    if events >= min_events:
        return None
    return Judgement(
        "insufficient", reasons=(f"{events:,} events in the window; monitoring.min_events is {min_events:,}",)
    )


def judge(findings: Sequence[Finding], thresholds: Mapping[str, float | None], min_drifted: int) -> Judgement:
    """`drift` if at least `min_drifted` signals reach what chance does and what matters, else `ok`.

    Args:
        findings: the figures.
        thresholds: signal → the figure from which on a change matters; None or absent only reports it.
        min_drifted: at least 1.
    """
    signals = tuple(_signal(finding, thresholds.get(finding.signal)) for finding in findings)
    drifted = [signal for signal in signals if signal.drifted]
    reasons = [str(signal) for signal in drifted]
    if len(drifted) >= min_drifted:
        return Judgement("drift", signals, tuple(reasons))
    if drifted:
        reasons.append(f"{len(drifted)} drifted; monitoring.min_drifted_signals is {min_drifted}")
    else:
        reasons.append(_nearest(signals))
    return Judgement("ok", signals, tuple(reasons))


def _signal(finding: Finding, threshold: float | None) -> Signal:
    return Signal(
        name=finding.signal,
        method=METHOD_NAME,
        figure=finding.figure,
        threshold=threshold,
        drifted=threshold is not None and finding.figure >= max(threshold, finding.chance),
        moved=finding.moved,
        chance=finding.chance,
    )


def _nearest(signals: Sequence[Signal]) -> str:
    bounded = [(signal.figure / signal.bound, signal) for signal in signals if signal.bound]
    if not bounded:
        return "no signal has a threshold"
    return f"no signal reached its threshold; nearest is {max(bounded, key=lambda pair: pair[0])[1]}"
