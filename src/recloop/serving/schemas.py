"""What the endpoint takes and gives, as strict types. What does not fit is refused by name.

The limits of `params.yaml` travel in pydantic's validation context, so that one message can tell of every
fault in a request; `parsing.py` makes that message.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)
from pydantic import ValidationInfo as Info
from pydantic import field_validator as check

from recloop.config import Serving
from recloop.storage import now_us

DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Limits:
    """How much one request may ask for, and the clock its times are held against."""

    max_k: int
    max_history: int
    now_us: Callable[[], int] = now_us

    @classmethod
    def of(cls, serving: Serving) -> Limits:
        return cls(max_k=serving.max_k, max_history=serving.max_history)

    @property
    def body_bytes(self) -> int:
        """No valid request is longer."""
        return 65_536 + 4_096 * self.max_history


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
Id = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]
EventName = Annotated[
    str, AfterValidator(_as_event_name), WithJsonSchema({"type": "string", "pattern": f"^{EVENT_NAME}$"})
]
Moment = Annotated[
    int,
    BeforeValidator(_as_us),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "format": "date-time"}]}),
]


class Request(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())


class RecommendRequest(Request):
    """Who asks, for how many items, and what to go by."""

    user_id: Id | None = None
    k: int | None = Field(default=None, ge=1)
    """Items wanted; by default `serving.default_k`."""
    history: list[Id] | None = None
    """Items the user dealt with, oldest first; by default what is known of the user."""
    exclude: list[Id] = []
    """Items to leave out."""
    exclude_seen: bool | None = None
    """Leave out what is in the history; by default as the model was judged with."""

    @check("k")
    @classmethod
    def _not_too_many(cls, k: int | None, info: Info) -> int | None:
        if k is not None and k > _limits(info).max_k:
            raise ValueError(f"should be at most {_limits(info).max_k} (serving.max_k)")
        return k

    @check("history", "exclude", mode="before")
    @classmethod
    def _not_too_long(cls, items: Any, info: Info) -> Any:
        return _at_most(items, _limits(info), "items")


class EventRequest(Request):
    """One thing a user did."""

    event_id: Id
    """The sender's name for it: sending it again is harmless."""
    user_id: Id
    item_id: Id
    event: EventName
    """view, click, purchase, rating, …"""
    value: float = Field(default=1.0, allow_inf_nan=False)
    timestamp: Moment | None = None
    """When it happened; by default now."""
    request_id: Id | None = None
    """`request_id` of the answer that showed the item."""

    @check("timestamp")
    @classmethod
    def _within_reason(cls, timestamp: int | None, info: Info) -> int | None:
        if timestamp is not None and not 0 <= timestamp <= _limits(info).now_us() + DAY_US:
            raise ValueError("should lie between 1970 and tomorrow; a number is in seconds, not milliseconds")
        return timestamp


class EventsRequest(Request):
    """Things users did, stored all or none."""

    events: list[EventRequest] = Field(min_length=1)

    @check("events", mode="before")
    @classmethod
    def _not_too_many(cls, events: Any, info: Info) -> Any:
        return _at_most(events, _limits(info), "events")


class Answer(BaseModel):
    """The body of an answer."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


class RecommendedItem(Answer):
    item_id: str
    title: str | None
    score: float
    """Only the order within one list means anything."""


class RecommendAnswer(Answer):
    """A list, best first, and how it came about."""

    request_id: str
    model_version: int
    variant: str
    strategy: str
    """`model`, or `popular` where nothing was known to go by."""
    items: list[RecommendedItem]
    unknown_items: list[str]
    """Items of the request that the model does not know; they were passed over."""


class EventsAnswer(Answer):
    """What became of the events. The stored ones survive whatever happens to the endpoint."""

    stored: int
    duplicates: list[str]
    """`event_id` of those that were stored before."""


class Refused(Answer):
    """A version that was to go live and could not; the one before it goes on answering."""

    version: int | None
    at: str
    error: str


class ModelAnswer(Answer):
    """What is live."""

    version: int
    since: str
    reason: str
    model: str
    newest: str | None
    """Time of the newest event it knows."""
    data_sha256: str
    model_sha256: str
    feedback_watermark: int
    items: int
    users: int
    metrics: dict[str, Any]
    refused: Refused | None


class Failure(Answer):
    """Why there is no answer, and what to do about it."""

    error: str
    remedy: str | None


def _limits(info: Info) -> Limits:
    limits = info.context
    if not isinstance(limits, Limits):
        raise TypeError("requests are read by `parsing.parse`, which says what the limits are")
    return limits


def _at_most(values: Any, limits: Limits, what: str) -> Any:
    """Refuse a list that is too long before its entries are looked at."""
    if isinstance(values, list) and len(values) > limits.max_history:
        raise ValueError(f"should hold at most {limits.max_history} {what} (serving.max_history), not {len(values)}")
    return values
