"""Evidently: how far each signal of the current traffic is from the reference, and the pages that show it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from monitoring.chance import chance, distance
from monitoring.signals import METHOD, Finding
from recloop import telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

ONLY_REPORTED = 1e9
"""Evidently wants a threshold for every column; no figure reaches this one."""


@dataclass(frozen=True)
class Comparison:
    """Current rows beside reference rows: Evidently's snapshot, and its figures."""

    snapshot: Any
    findings: tuple[Finding, ...]
    left_out: tuple[str, ...]
    """Signals that one of the sides has no value of"""


def compare(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    signals: Sequence[str],
    thresholds: Mapping[str, float | None],
    false_alarms: float,
    min_drifted: int,
) -> Comparison:
    """Let Evidently compare the columns named in `signals`.

    Args:
        reference, current: one row an event, or a list, in order of time: user_id, session, and a column a signal.
        signals: what to compare.
        thresholds: signal → the distance from which on a change matters; None only reports it.
        false_alarms: the share of windows in which nothing has changed that may reach what chance does.
        min_drifted: so many drifted columns make the page say that the data set has drifted.
    """
    findings = find(reference, current, signals, false_alarms)
    names = [finding.signal for finding in findings]
    bounds = {each.signal: max(each.chance, thresholds.get(each.signal) or ONLY_REPORTED) for each in findings}
    with _quiet():
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import ValueDrift
        from evidently.presets import DataDriftPreset

        definition = DataDefinition(categorical_columns=names)
        preset = DataDriftPreset(
            columns=names,
            per_column_method=dict.fromkeys(names, METHOD),
            per_column_threshold=bounds,
            # Rounded down, for the page prints it: so many drifted columns have this share or more.
            drift_share=math.floor(1000 * min(min_drifted / len(names), 1.0)) / 1000,
        )
        charts = [ValueDrift(column=name, method=METHOD, threshold=bounds[name]) for name in names]
        snapshot = Report([preset, *charts]).run(
            Dataset.from_pandas(current[names].reset_index(drop=True), definition),
            Dataset.from_pandas(reference[names].reset_index(drop=True), definition),
        )
    return Comparison(snapshot, findings, tuple(name for name in signals if name not in names))


def find(
    reference: pd.DataFrame, current: pd.DataFrame, signals: Sequence[str], false_alarms: float
) -> tuple[Finding, ...]:
    """How far each signal has moved, and what chance alone reaches; without those that a side has no value of.

    Args:
        reference, current, signals, false_alarms: as `compare` has them.
    """
    import pandas as pd

    names = [name for name in signals if reference[name].notna().any() and current[name].notna().any()]
    sessions, _ = pd.factorize(pd.MultiIndex.from_frame(reference[["user_id", "session"]]))
    size = len(current[["user_id", "session"]].drop_duplicates())
    findings = []
    for name in names:
        both = pd.concat([reference[name], current[name]])
        categories, found = pd.factorize(both)
        before, after = categories[: len(reference)], categories[len(reference) :]
        counts = np.zeros((sessions.max() + 1, len(found)))
        np.add.at(counts, (sessions[before >= 0], before[before >= 0]), 1)
        moved = distance(counts.sum(0), np.bincount(after[after >= 0], minlength=len(found)))
        by_chance = chance(counts, size).bound(false_alarms / len(names))
        findings.append(Finding(name, float(moved), by_chance, _moved(reference[name], current[name])))
    return tuple(findings)


def _moved(reference: pd.Series, current: pd.Series) -> str:
    before, after = reference.value_counts(normalize=True), current.value_counts(normalize=True)
    change = after.sub(before, fill_value=0.0)
    # Of shares that moved alike, the one that grew: "unknown 0% → 8%" says more than "known 100% → 92%".
    most = max(sorted(change.index), key=lambda name: (round(abs(change[name]), 9), change[name]))
    return f"{most}: {before.get(most, 0.0):.1%} → {after.get(most, 0.0):.1%}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Evidently sends nothing home, and the libraries under it keep their deprecations to themselves."""
    telemetry.silence()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
