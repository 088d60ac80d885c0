"""Evidently: how far each signal of the current traffic is from the reference, and the pages that show it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from monitoring.signals import Finding, SignalKind
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
    kinds: Sequence[SignalKind],
    thresholds: Mapping[str, float | None],
    min_drifted: int,
) -> Comparison:
    """Let Evidently compare the columns named in `kinds`.

    Args:
        reference, current: one row an event, or a list; a column a signal.
        kinds: what to compare, and how.
        thresholds: signal → the figure from which on it has drifted; None only reports it.
        min_drifted: so many drifted columns make the page say that the data set has drifted.
    """
    empty = tuple(kind.name for kind in kinds if not (_has_values(reference, kind) and _has_values(current, kind)))
    kinds = [kind for kind in kinds if kind.name not in empty]
    with _quiet():
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import ValueDrift
        from evidently.presets import DataDriftPreset

        names = [kind.name for kind in kinds]
        definition = DataDefinition(
            categorical_columns=[kind.name for kind in kinds if not kind.is_numeric],
            numerical_columns=[kind.name for kind in kinds if kind.is_numeric],
        )
        bounds = {name: thresholds.get(name) or ONLY_REPORTED for name in names}
        preset = DataDriftPreset(
            columns=names,
            per_column_method={kind.name: kind.method for kind in kinds},
            per_column_threshold=bounds,
            # Rounded down, for the page prints it: so many drifted columns have this share or more.
            drift_share=math.floor(1000 * min(min_drifted / len(names), 1.0)) / 1000,
        )
        charts = [ValueDrift(column=kind.name, method=kind.method, threshold=bounds[kind.name]) for kind in kinds]
        snapshot = Report([preset, *charts]).run(
            Dataset.from_pandas(current[names].reset_index(drop=True), definition),
            Dataset.from_pandas(reference[names].reset_index(drop=True), definition),
        )
    figures = _figures(snapshot)
    findings = tuple(
        Finding(kind.name, kind.method, figures[kind.name], _moved(reference[kind.name], current[kind.name], kind))
        for kind in kinds
    )
    return Comparison(snapshot, findings, empty)


def _figures(snapshot: Any) -> dict[str, float]:
    """Column → how far it has moved, as Evidently found it."""
    return {
        metric["config"]["column"]: float(metric["value"])
        for metric in snapshot.dict()["metrics"]
        if metric["config"]["type"] == "evidently:metric_v2:ValueDrift"
    }


def _moved(reference: pd.Series, current: pd.Series, kind: SignalKind) -> str:
    if kind.is_numeric:
        return f"mean {reference.mean():.3g} → {current.mean():.3g}"
    before, after = reference.value_counts(normalize=True), current.value_counts(normalize=True)
    change = after.sub(before, fill_value=0.0)
    # Of shares that moved alike, the one that grew: "unknown 0% → 8%" says more than "known 100% → 92%".
    most = max(sorted(change.index), key=lambda name: (round(abs(change[name]), 9), change[name]))
    return f"{most}: {before.get(most, 0.0):.1%} → {after.get(most, 0.0):.1%}"


def _has_values(rows: pd.DataFrame, kind: SignalKind) -> bool:
    return bool(rows[kind.name].notna().any())


@contextmanager
def _quiet() -> Iterator[None]:
    """Evidently sends nothing home, and the libraries under it keep their deprecations to themselves."""
    telemetry.silence()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
