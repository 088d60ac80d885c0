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
    max_batch: int
    now_us: Callable[[], int] = now_us

    @classmethod
    def of(cls, serving: Serving) -> Limits:
        return cls(max_k=serving.max_k, max_history=serving.max_history, max_batch=serving.max_batch)

    @property
    def body_bytes(self) -> int:
        """No request may be longer."""
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


Value = Annotated[str, StringConstraints(max_length=256)] | bool | int | Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Context = Annotated[dict[Name, Annotated[str, StringConstraints(max_length=256)]], Field(max_length=8)]


class Request(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())


class Between(Request):
    """A range of an attribute, both ends within it; either may be left out."""

    min: Value | None = None
    max: Value | None = None


Filters = Annotated[dict[Name, Value | Annotated[list[Value], Field(max_length=100)] | Between], Field(max_length=16)]
"""Attribute of items → the value it must have, a list of which it must have one, or a range."""


class ListRequest(Request):
    """For how many items, and of which."""

    k: int | None = Field(default=None, ge=1)
    """Items wanted; by default `serving.default_k`."""
    exclude: list[Id] = []
    """Items to leave out."""
    filters: Filters = {}
    """What the items must be like."""

    @check("k")
    @classmethod
    def _not_too_many(cls, k: int | None, info: Info) -> int | None:
        if k is not None and k > _limits(info).max_k:
            raise ValueError(f"should be at most {_limits(info).max_k} (serving.max_k)")
        return k

    @check("exclude", mode="before")
    @classmethod
    def _excludes_not_too_many(cls, items: Any, info: Info) -> Any:
        return _at_most(items, _limits(info), "items")


class RecommendRequest(ListRequest):
    """Who asks, and what to go by."""

    user_id: Id | None = None
    history: list[Id] | None = None
    """Items the user dealt with, oldest first; by default what is known of the user."""
    exclude_seen: bool | None = None
    """Leave out what is in the history; by default as the model was judged with."""
    context: Context = {}
    """What is known of the visit, e.g. a country: a user without a history gets what is popular there."""
    age: int | None = Field(default=None, ge=0, le=150)
    """The user's, in years, where items are limited by age."""
    explain: bool = False
    """Say why each item is there, and what the rules did to the list."""

    @check("history", mode="before")
    @classmethod
    def _not_too_long(cls, items: Any, info: Info) -> Any:
        return _at_most(items, _limits(info), "items")


class BatchRequest(Request):
    """Several lists at once."""

    requests: list[RecommendRequest] = Field(min_length=1)

    @check("requests", mode="before")
    @classmethod
    def _not_too_many(cls, requests: Any, info: Info) -> Any:
        most = _limits(info).max_batch
        if isinstance(requests, list) and len(requests) > most:
            raise ValueError(f"should hold at most {most} requests (serving.max_batch), not {len(requests)}")
        return requests


class SimilarRequest(ListRequest):
    """Items like one."""

    item_id: Id


class EventRequest(Request):
    """One thing a user did."""

    event_id: Id
    """The sender's name for it: sending it again is harmless."""
    user_id: Id
    item_id: Id
    event: EventName
    """view, click, purchase, rating, …; after `dismiss` the user does not see the item again"""
    value: float = Field(default=1.0, allow_inf_nan=False)
    timestamp: Moment | None = None
    """When it happened; by default now."""
    request_id: Id | None = None
    """`request_id` of the answer that showed the item."""
    context: Context | None = None
    """What is known of the visit, e.g. a country."""

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


class ReloadRequest(Request):
    """Look now which version is to be live."""


class RollbackRequest(Request):
    """Make the champion before this one live again."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    """Kept in the history."""


class SplitRequest(Request):
    """Which share of the users the challenger answers."""

    challenger: float = Field(ge=0, le=1, allow_inf_nan=False)
    shadow: bool = False
    """Whether the challenger makes a list too, unseen, wherever the champion answers."""


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


class Reason(Answer):
    """Why an item is in a list."""

    because_of: list[str]
    """Items of the history that it is most like, most first."""
    model_rank: int
    """Its place in the model's own order, from 1."""
    moved_by: list[str]
    """What else put it here: `diversity`, `explored`"""
    propensity: float | None
    """With which probability it came to this place, where anything is left to chance."""


class ExplainedItem(RecommendedItem):
    reason: Reason


class Explanation(Answer):
    """What was done to the model's list."""

    left_out: dict[str, int]
    """Rule → how many of the model's candidates it left out"""
    candidates: int
    """How many the model gave."""


class ExplainedAnswer(RecommendAnswer):
    """A list, and why it is what it is."""

    items: list[ExplainedItem]  # type: ignore[assignment]
    explanation: Explanation


class BatchAnswer(Answer):
    """A list for each request, in their order."""

    answers: list[RecommendAnswer | ExplainedAnswer]


class SimilarAnswer(Answer):
    """Items like one, most first."""

    model_version: int
    items: list[RecommendedItem]
    unknown_items: list[str]


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


class ChallengerAnswer(Answer):
    """The version that is tried beside the champion."""

    version: int
    model: str
    metrics: dict[str, Any]


class SplitAnswer(Answer):
    """How traffic is shared out."""

    challenger: float
    shadow: bool


class ReloadAnswer(Answer):
    """What is live now."""

    version: int
    changed: bool


class RollbackAnswer(Answer):
    """What the registry said."""

    done: str
    version: int


class KnownEvent(Answer):
    """One thing a user did."""

    item_id: str
    event: str | None
    """None for what came with the training data"""
    at: str


class UserAnswer(Answer):
    """What is known of a person."""

    user_id: str
    in_model: bool
    """Whether the live model was trained with this user."""
    history: list[KnownEvent]
    """What their next list follows from, oldest first."""
    dismissed: list[str]
    """Items they do not want to see"""
    stored_events: int
    """Events in the endpoint's database."""
    impressions: int
    """Lists they were shown, in the endpoint's database."""


class ForgottenAnswer(Answer):
    """What was deleted."""

    user_id: str
    events: int
    impressions: int
    """Lists that do not name the user any more."""


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
    challenger: ChallengerAnswer | None
    """The version beside it; None where none is loaded."""
    split: SplitAnswer


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
