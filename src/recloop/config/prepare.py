"""`prepare` and `split`: what models learn from, and which part of it is kept to choose and judge them by."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from recloop.config.section import Positive, Section, Share

TimeTies = Literal["forward", "reversed"]


class Prepare(Section):
    """From gated tables to what models learn from."""

    events: dict[str, Annotated[float, Field(ge=0)]] = {"view": 0.2, "click": 0.5, "purchase": 1.0, "rating": 1.0}
    """The events that models learn from, and how much each weighs."""
    min_value: float | None = None
    """Drop events whose value is below this (e.g. ratings under 4); null keeps all."""
    min_user_events: Positive = 2
    min_item_events: Positive = 1
    keep_repeats: bool = True
    """Whether a user's later events on the same item count; if not, only the first is kept."""
    time_ties: TimeTies = "forward"
    """The order of a user's events at one time: by item code, then event, or the other way round. Figures that differ
    between the two rest on an order that nobody observed."""

    @field_validator("events")
    @classmethod
    def _weigh_something(cls, events: dict[str, float]) -> dict[str, float]:
        if not any(events.values()):
            raise ValueError("at least one event is to weigh more than 0, e.g. {purchase: 1.0}")
        return events


class Split(Section):
    """Which events are learnt from, chosen on and judged on."""

    kind: Literal["temporal", "leave_one_out"] = "temporal"
    valid_share: Share = 0.1
    test_share: Share = 0.1
    """`temporal`: the last shares of all events by time."""
    targets_per_user: Positive = 5
    """`temporal`: at most this many of a user's last events in a period are predicted."""

    @model_validator(mode="after")
    def _leaves_something(self) -> Split:
        if self.valid_share + self.test_share >= 1:
            raise ValueError("valid_share + test_share must be below 1: something must be left to learn from")
        return self
