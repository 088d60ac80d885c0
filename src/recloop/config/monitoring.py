"""`monitoring`: what counts as drift, and when it may ask for retraining."""

from __future__ import annotations

from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from recloop.config.section import Positive, Section

DriftTest = Literal["jensenshannon", "hellinger", "psi"]
"""Evidently's names"""
Hours = Annotated[float, Field(ge=0, le=876_000)]


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"no time zone is called {name!r}: take one like UTC or Europe/Berlin") from error
    return name


class Watched(Section):
    """What a change of one signal means."""

    matters: float | None = Field(gt=0)
    """The distance from which on a change counts, if chance alone does not reach it; null: it is only reported."""
    test: DriftTest = "jensenshannon"
    """How far it has moved by; `matters` is on its scale. Of `quality`, which has one of its own, and `volume`, which
    always has this one, none may be chosen."""
    severity: Literal["note", "warn", "retrain", "roll back"] = "retrain"
    """What is done then: it is written down, or somebody is told, or the model is trained anew, or, where there is a
    version before it, that takes its place."""
    windows: Positive = 1
    """In so many windows in a row."""


def _of_one_scale(watched: Watched) -> Watched:
    if watched.test != "jensenshannon":
        raise ValueError(f"this signal is on one scale whatever `test` says: leave `test: {watched.test}` out")
    return watched


OfOneScale = Annotated[Watched, AfterValidator(_of_one_scale)]


class Watching(Section):
    """What a change of each signal means.

    Jensen-Shannon distances, between 0 and 0.83: a share that grows from 1% to 3% is one of 0.05, from 10% to 20% of
    0.1, from 10% to 40% of 0.25; of `quality` a share of what it was. A change that chance may have made is none,
    however large.
    """

    unknown_items: Watched = Watched(matters=0.05)
    """Share of events on items that the live model never learnt."""
    item_popularity: Watched = Watched(matters=0.1)
    """How popular the items are: deciles of what the live model learnt."""
    category: Watched = Watched(matters=0.1)
    """The items' first categories."""
    user_activity: Watched = Watched(matters=0.1)
    """Whether the user has come before."""
    event: Watched = Watched(matters=0.1)
    """The mix of events."""
    value: Watched = Watched(matters=0.1)
    """The events' values."""
    fields: Watched = Watched(matters=0.05, severity="warn")
    """Share of events that the endpoint refused, for a field that is missing or not as it may be."""
    session_length: Watched = Watched(matters=0.1)
    """How many events a visit has."""
    repeats: Watched = Watched(matters=0.1)
    """Share of events that repeat one of the same visit."""
    lateness: Watched = Watched(matters=0.1, severity="warn")
    """How long after it happened an event came in."""
    volume: OfOneScale = Watched(matters=0.2, severity="warn")
    """Events an hour: of half as many, or of twice as many, the distance is 0.12; 0.2 takes a fall by about 70%."""
    strategy: Watched = Watched(matters=0.15)
    """Who answered: the model, or a fallback."""
    quality: OfOneScale = Watched(matters=0.1)
    """By which share the NDCG of what was shown has fallen, as users then took it."""
    list_popularity: Watched = Watched(matters=None)
    """How popular the recommended items are."""
    top_score: Watched = Watched(matters=None)
    """The score of the first item of a list."""


class QuietHours(Section):
    """When no retraining is asked for: from one time of day to another, over midnight where that is the earlier."""

    begin: str = Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    end: str = Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    timezone: Annotated[str, AfterValidator(_known_zone)] = "UTC"

    @model_validator(mode="after")
    def _is_some_time(self) -> QuietHours:
        if self.begin == self.end:
            raise ValueError(f"they begin and end at {self.begin}: take two times; no quiet hours are `null`")
        return self


class Monitoring(Section):
    """The drift policy. What each signal is made of is in `monitoring/`."""

    window_hours: float = Field(default=24.0, gt=0, le=876_000)
    """A window of traffic is judged when it is so long,"""
    window_events: Positive = 20_000
    """or as soon as it has so many events;"""
    min_events: Positive = 1000
    """with fewer than this it goes on."""
    silence_hours: float | None = Field(default=24.0, gt=0, le=876_000)
    """When no event has come in for so long, somebody is told; null: nobody."""
    attribution_hours: float = Field(default=1.0, gt=0, le=8760)
    """An event counts for a list that showed its item, if the user got it at most so long before; and lists are judged
    when that time is over."""
    reference_share: float = Field(default=0.2, gt=0, lt=1)
    """The reference: this last share of the events the live model knows. The events before them are what was known."""
    signals: Watching = Watching()
    false_alarms: float = Field(default=0.005, gt=0, lt=0.5)
    """Of windows in which nothing has changed, the share in which some signal of a page may drift by chance; and as
    many again in which `quality` may, and `fields`."""
    new_data: float | None = Field(default=0.15, gt=0)
    """So many new events, as a share of those that the live model learnt, are a reason to retrain; null: never."""
    cooldown_hours: Hours = 6.0
    """A retraining that was asked for keeps the next one waiting this long."""
    quiet_hours: QuietHours | None = None
    probation_hours: Hours = 72.0
    """A version that does worse than the one before it within so long, beyond chance, is rolled back; 0: never."""
    clip: float = Field(default=10.0, ge=1)
    """How much more a click at a place that few look at may count, where quality is corrected for position."""
    keep_reports: Positive = 20
    """Older reports are removed."""
