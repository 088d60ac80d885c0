"""The panels of the dashboard that Evidently shows: figures over time, a point a window."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from monitoring.figures import CORRECTED, DRIFTED, EVENTS, TAKE_RATE, distance_of, rate_of
from recloop.config import Watching

COLOURS = 6
"""Evidently's palette begins again after so many lines."""


def dashboard(kinds: Iterable[str]) -> Any:
    """Evidently's model of the dashboard: its panels, two side by side.

    Args:
        kinds: of the events that count for a list.
    """
    from evidently.sdk.models import DashboardModel, DashboardTabModel

    panels = [*_drift(), *_quality(kinds), *_beyond()]
    return DashboardModel(tabs=[DashboardTabModel(title="Windows", panels=[each.id for each in panels])], panels=panels)


def _drift() -> list[Any]:
    from evidently.sdk.panels import bar_plot_panel

    signals = [_ours(distance_of(name), name) for name in Watching.model_fields]
    count = -(-len(signals) // COLOURS)
    moved = [
        _lines(
            f"How far signals have moved, {number + 1} of {count}",
            "By each signal's own test; of quality, by which share it fell",
            signals[number::count],
        )
        for number in range(count)
    ]
    events = bar_plot_panel("Events", [_ours(EVENTS)], "Received in the window", "half")
    return [*moved, _lines("Drifted signals", "Of all that were compared", [_ours(DRIFTED, "drifted")]), events]


def _quality(kinds: Iterable[str]) -> list[Any]:
    ranked = {"NDCG": "NDCG", "MRR": "MRR", "HitRate": "hit rate"}
    return [
        _lines(
            "How good the lists are",
            "By what users took; of a sample of the lists",
            [_panel_metric(name, legend, column="value") for name, legend in ranked.items()],
        ),
        _lines(
            "Lists with an event",
            "Share of the lists that were shown, by kind of event",
            [_ours(rate_of(kind), kind) for kind in kinds],
        ),
        _lines(
            "Items that were taken",
            "Share of those that were shown; corrected: had all places been looked at like the first",
            [_ours(TAKE_RATE, "as shown"), _ours(CORRECTED, "corrected")],
        ),
        _lines("Fallbacks", "Share of the lists of known users that the model did not make", [_ours("fallback")]),
    ]


def _beyond() -> list[Any]:
    popularity = "PopularityBiasMetric"
    return [
        _lines("Novelty", "How few users know what is shown, in bits", [_panel_metric("Novelty", "novelty")]),
        _lines("Diversity", "How unlike the categories of a list's items are", [_ours("diversity")]),
        _lines(
            "Popularity",
            "Mean popularity, that of the most popular item being 1, and how unequally items are shown",
            [_panel_metric(popularity, "popularity", metric="arp"), _panel_metric(popularity, "Gini", metric="gini")],
        ),
        _lines(
            "Coverage",
            "Share of the items that the version knows which are in any list; of a sample of both",
            [_panel_metric(popularity, "coverage", metric="coverage")],
        ),
    ]


def _lines(title: str, description: str, values: Sequence[Any]) -> Any:
    from evidently.sdk.panels import line_plot_panel

    return line_plot_panel(title, list(values), description, "half")


def _ours(name: str, legend: str | None = None) -> Any:
    return _panel_metric("MeanValue", legend or name, column=name)


def _panel_metric(name: str, legend: str, **labels: str) -> Any:
    from evidently.sdk.models import PanelMetric

    return PanelMetric(metric=name, legend=legend, metric_labels=labels)
