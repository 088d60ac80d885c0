"""`monitoring`: what counts as drift, and how often it may ask for retraining."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from recloop.config.section import Positive, Section

Figure = Annotated[float, Field(gt=0)]


class Thresholds(Section):
    """The distance from which on a change of a signal matters; null only reports it.

    Jensen-Shannon distances, between 0 and 0.83: a share that grows from 1% to 3% is one of 0.05, from 10% to 20% of
    0.1, from 10% to 40% of 0.25. A change that chance may have made is none, however large.
    """

    unknown_items: Figure | None = 0.05
    """Share of events on items that the live model never learnt."""
    item_popularity: Figure | None = 0.1
    """How popular the items are: deciles of what the live model learnt."""
    category: Figure | None = 0.1
    """The items' first categories."""
    user_activity: Figure | None = 0.1
    """How many events the user had before."""
    event: Figure | None = 0.1
    """The mix of events."""
    value: Figure | None = 0.1
    """The events' values."""
    session_length: Figure | None = 0.1
    """How many events a visit has."""
    repeats: Figure | None = 0.1
    """Share of events that repeat one of the same visit."""
    strategy: Figure | None = 0.15
    """Who answered: the model, or a fallback."""
    list_popularity: Figure | None = None
    """How popular the recommended items are."""
    top_score: Figure | None = None
    """The score of the first item of a list."""


class Monitoring(Section):
    """The drift policy. What each signal is made of is in `monitoring/`."""

    window_hours: float = Field(default=24.0, gt=0, le=876_000)
    """Traffic received in the last hours, by the live model, is compared with the training reference."""
    min_events: Positive = 1000
    """Fewer events than this are no ground for a verdict."""
    reference_share: float = Field(default=0.2, gt=0, lt=1)
    """The reference: this last share of the events the live model knows. The events before them are what was known."""
    thresholds: Thresholds = Thresholds()
    false_alarms: float = Field(default=0.005, gt=0, lt=0.5)
    """Of windows in which nothing has changed, the share in which some signal may drift by chance."""
    min_drifted_signals: Positive = 1
    """So many drifted signals make the verdict `drift`."""
    cooldown_hours: float = Field(default=6.0, ge=0, le=876_000)
    """After a verdict that asked for retraining, the next one waits this long."""
    keep_reports: Positive = 20
    """Older report folders are removed."""
