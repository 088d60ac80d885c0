"""`/events`: what users did."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic import ValidationInfo as Info
from pydantic import field_validator as check
from pydantic_core import PydanticCustomError

from recloop.serving.schemas.base import Answer, Context, Id, Request
from recloop.serving.schemas.limits import at_most, limits_of

DAY_US = 86_400_000_000


def _as_us(value: Any) -> int:
    """Seconds since 1970, or ISO 8601 (UTC where it names no zone), in whole microseconds."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("should be seconds since 1970 or ISO 8601, e.g. 2026-01-31T12:00:00Z") from None
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        seconds, microseconds = int(moment.replace(microsecond=0).timestamp()), moment.microsecond
        return seconds * 1_000_000 + microseconds
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15:
        return round(value * 1_000_000)
    raise ValueError("should be seconds since 1970 or ISO 8601, e.g. 2026-01-31T12:00:00Z")


def _as_event_name(value: str) -> str:
    if not re.fullmatch(EVENT_NAME, value):
        raise ValueError("should be a short lower-case name, e.g. click")
    return value


EVENT_NAME = "[a-z][a-z0-9_]{0,63}"
EventName = Annotated[
    str, AfterValidator(_as_event_name), WithJsonSchema({"type": "string", "pattern": f"^{EVENT_NAME}$"})
]
Moment = Annotated[
    int,
    BeforeValidator(_as_us),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "format": "date-time"}]}),
]


class EventRequest(Request):
    """One thing a user did."""

    event_id: Id
    """The sender's name for it: sending it again is harmless."""
    user_id: Id
    """Who did it."""
    item_id: Id
    """With what."""
    event: EventName
    """One of those that `gate.events` in params.yaml names; after `dismiss` the user does not see the item again"""
    value: float | None = Field(default=None, allow_inf_nan=False, validate_default=True)
    """What goes with it, e.g. a rating's stars, within the event's range in `gate.events`. A rating must have one;
    what has none counts as 1."""
    timestamp: Moment | None = None
    """When it happened: seconds since 1970, or ISO 8601 (UTC where it names no zone); by default now."""
    request_id: Id | None = None
    """`request_id` of the answer that showed the item."""
    context: Context | None = None
    """What is known of the visit, e.g. a country."""

    @check("event")
    @classmethod
    def _may_occur(cls, event: str, info: Info) -> str:
        if event not in (known := limits_of(info).events):
            message = f"should be one of {', '.join(known)}: gate.events in params.yaml says which may occur"
            raise PydanticCustomError("not_allowed", message)
        return event

    @check("value")
    @classmethod
    def _may_be(cls, value: float | None, info: Info) -> float:
        event = info.data.get("event", "")  # it has none where that is a fault itself
        lowest, highest = limits_of(info).events.get(event, (float("-inf"), float("inf")))
        if value is None and event == "rating":
            raise ValueError(f"is missing: a rating has one, from {lowest:g} to {highest:g}")
        value = 1.0 if value is None else value
        if not lowest <= value <= highest:
            message = f"should lie between {lowest:g} and {highest:g} for a {event}: gate.events in params.yaml"
            raise PydanticCustomError("out_of_range", message)
        return value

    @check("timestamp")
    @classmethod
    def _within_reason(cls, timestamp: int | None, info: Info) -> int | None:
        if timestamp is not None and not 0 <= timestamp <= limits_of(info).now_us() + DAY_US:
            message = "should lie between 1970 and tomorrow; a number is in seconds, not milliseconds"
            raise PydanticCustomError("out_of_range", message)
        return timestamp


class EventsRequest(Request):
    """Things users did, stored all or none."""

    events: list[EventRequest] = Field(min_length=1)
    """At most `serving.max_history`."""

    @check("events", mode="before")
    @classmethod
    def _not_too_many(cls, events: Any, info: Info) -> Any:
        return at_most(events, limits_of(info), "events")


class EventsAnswer(Answer):
    """What became of the events. The stored ones survive whatever happens to the endpoint."""

    stored: int
    """How many are new."""
    duplicates: list[str]
    """`event_id` of those that were stored before."""
