"""What the monitor has counted itself, for Evidently to keep beside its own: a data set of one row, a figure a column.

Evidently's dashboard tells lines apart by all parameters of a metric. The drift metrics' bounds are among them, and
change from window to window; so distances are put here, too, where each has a name that stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monitoring.feedback import SHADOW
from monitoring.policy import Signal
from monitoring.quality import Figures, Quality
from monitoring.quiet import quiet

EVENTS, DRIFTED = "events", "drifted signals"
TAKE_RATE, CORRECTED = "take rate", "take rate, corrected for places"


def distance_of(signal: str) -> str:
    """The name of the figure that says how far a signal has moved."""
    return f"distance of {signal}"


def rate_of(kind: str) -> str:
    """The name of the figure that says which share of lists has an event of that kind."""
    return f"{kind} rate"


def drift_figures(events: int, signals: Sequence[Signal]) -> dict[str, float]:
    """Of a judged window: how many events it has, how far each signal has moved, and how many drifted."""
    found: dict[str, float] = {EVENTS: events} | {distance_of(each.name): each.figure for each in signals}
    if signals:
        found[DRIFTED] = sum(each.drifted for each in signals)
    return found


def quality_figures(quality: Quality, version: int) -> dict[str, float]:
    """Of the lists that a version showed, in the role in which it showed most of them; empty where it showed none."""
    shown = [each.figures for each in quality.versions if each.version == version and each.variant != SHADOW]
    if not shown:
        return {}
    figures = max(shown, key=lambda each: each.lists)
    found = {rate_of(kind): rate.mean for kind, rate in figures.rates.items()}
    rates = {TAKE_RATE: figures.take_rate, CORRECTED: figures.corrected}
    return found | {name: rate.mean for name, rate in rates.items() if rate is not None}


def figures_snapshot(figures: Mapping[str, float]) -> Any | None:
    """Evidently's snapshot of some figures; None where there are none."""
    if not figures:
        return None
    import pandas as pd

    with quiet():
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import MeanValue

        row = pd.DataFrame({name: [float(figure)] for name, figure in figures.items()})
        data = Dataset.from_pandas(row, DataDefinition(numerical_columns=list(figures)))
        return Report([MeanValue(column=name) for name in figures]).run(data, None)


def told(quality: Quality) -> list[str]:
    """What users made of the lists, for people."""
    if quality.overall is None:
        return []
    parts = [("All lists", quality.overall), *quality.groups.items()]
    return [*(f"{name}: {_figures(figures, quality.k)}." for name, figures in parts), *quality.notes]


def _figures(figures: Figures, k: int) -> str:
    named = {f"NDCG@{k}": figures.ndcg, f"hit rate@{k}": figures.hit_rate, f"MRR@{k}": figures.mrr}
    named |= {f"{kind} rate": rate for kind, rate in figures.rates.items()}
    said = (f"{name} {each.mean:.4f} [{each.low:.4f}, {each.high:.4f}]" for name, each in named.items())
    return f"{figures.lists:,} shown to {figures.users:,} users, {', '.join(said)}"
