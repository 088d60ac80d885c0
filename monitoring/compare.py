"""How far each signal of the current traffic is from the reference, and Evidently's page that shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from monitoring.chance import chance
from monitoring.measures import MEASURES
from monitoring.quiet import quiet
from monitoring.signals import ONLY_LESS, Finding
from recloop.config import DriftTest, Watching

if TYPE_CHECKING:
    import pandas as pd

ONLY_REPORTED = 1e9
"""Evidently wants a threshold for every column; no figure reaches this one."""


@dataclass(frozen=True)
class Comparison:
    """Current rows beside reference rows."""

    reference: pd.DataFrame
    current: pd.DataFrame
    findings: tuple[Finding, ...]
    left_out: tuple[str, ...]
    """Signals that one of the sides has no value of"""
    watching: Watching

    def snapshot(self) -> Any:
        """Evidently's, of the columns that were compared: the figures are the same."""
        names = [finding.signal for finding in self.findings]
        matters = {name: getattr(self.watching, name).matters or ONLY_REPORTED for name in names}
        bounds = {each.signal: max(each.chance, matters[each.signal]) for each in self.findings}
        tests = tests_of(self.watching)
        with quiet():
            from evidently import DataDefinition, Dataset, Report
            from evidently.metrics import ValueDrift
            from evidently.presets import DataDriftPreset

            definition = DataDefinition(categorical_columns=names)
            preset = DataDriftPreset(
                columns=names,
                per_column_method={name: tests[name] for name in names},
                per_column_threshold=bounds,
                # Rounded down, for the page prints it: a single drifted column has this share or more.
                drift_share=math.floor(1000 / len(names)) / 1000,
            )
            charts = [ValueDrift(column=name, method=tests[name], threshold=bounds[name]) for name in names]
            return Report([preset, *charts]).run(
                Dataset.from_pandas(self.current[names].reset_index(drop=True), definition),
                Dataset.from_pandas(self.reference[names].reset_index(drop=True), definition),
            )


def compare(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    signals: Sequence[str],
    watching: Watching,
    false_alarms: float,
) -> Comparison:
    """Compare the columns named in `signals`.

    Args:
        reference, current: one row an event, or a list, in order of time: user_id, session, and a column a signal.
        signals: what to compare.
        watching: what a change of each means.
        false_alarms: the share of windows in which nothing has changed that may reach what chance does.
    """
    findings = find(reference, current, signals, false_alarms, tests_of(watching))
    names = {finding.signal for finding in findings}
    return Comparison(reference, current, findings, tuple(name for name in signals if name not in names), watching)


def tests_of(watching: Watching) -> dict[str, DriftTest]:
    """Signal → the test it goes by."""
    return {name: getattr(watching, name).test for name in Watching.model_fields}


def find(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    signals: Sequence[str],
    false_alarms: float,
    tests: Mapping[str, DriftTest],
) -> tuple[Finding, ...]:
    """How far each signal has moved, and what chance alone reaches; without those that a side has no value of.

    Args:
        reference, current, signals, false_alarms: as `compare` has them.
        tests: signal → the test it goes by.
    """
    import pandas as pd

    names = [name for name in signals if reference[name].notna().any() and current[name].notna().any()]
    sessions, _ = pd.factorize(pd.MultiIndex.from_frame(reference[["user_id", "session"]]))
    findings = []
    for name in names:
        measure = MEASURES[tests[name]]
        both = pd.concat([reference[name], current[name]])
        categories, found = pd.factorize(both)
        before, after = categories[: len(reference)], categories[len(reference) :]
        counts = np.zeros((sessions.max() + 1, len(found)))
        np.add.at(counts, (sessions[before >= 0], before[before >= 0]), 1)
        moved = measure.far(counts.sum(0), np.bincount(after[after >= 0], minlength=len(found)))
        may_grow = ONLY_LESS.get(name)
        if may_grow is not None and _share(current[name], may_grow) > _share(reference[name], may_grow):
            moved = np.zeros(())
        size = len(current.loc[current[name].notna(), ["user_id", "session"]].drop_duplicates())
        by_chance = chance(counts[counts.any(1)], size, by=measure).bound(false_alarms / len(names))
        said = _moved(reference[name], current[name])
        findings.append(Finding(name, float(moved), by_chance, said, measure.spoken))
    return tuple(findings)


def _share(column: pd.Series, category: str) -> float:
    """Of what has a value."""
    return float((column.dropna() == category).mean())


def _moved(reference: pd.Series, current: pd.Series) -> str:
    before, after = reference.value_counts(normalize=True), current.value_counts(normalize=True)
    change = after.sub(before, fill_value=0.0)
    # Of shares that moved alike, the one that grew: "unknown 0% → 8%" says more than "known 100% → 92%".
    most = max(sorted(change.index), key=lambda name: (round(abs(change[name]), 9), change[name]))
    return f"{most}: {before.get(most, 0.0):.1%} → {after.get(most, 0.0):.1%}"
