"""`/recommend` and `/recommend/batch`: lists for users."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from pydantic import ValidationInfo as Info
from pydantic import field_validator as check

from recloop.serving.schemas.base import Answer, Context, Id, Request
from recloop.serving.schemas.limits import at_most, limits_of
from recloop.serving.schemas.lists import Ids, ListRequest, RecommendedItem


class RecommendRequest(ListRequest):
    """Who asks, and what to go by."""

    user_id: Id | None = None
    """Whose list; without it, and without a history, what is popular."""
    history: Ids | None = None
    """Items the user dealt with, oldest first; by default what is known of the user."""
    exclude_seen: bool | None = None
    """Leave out what is in the history; by default as the model was judged with."""
    context: Context = {}
    """What is known of the visit, e.g. a country: a user without a history gets what is popular there."""
    explain: bool = False
    """Say why each item is there, and what the rules did to the list."""

    @check("history", mode="before")
    @classmethod
    def _not_too_long(cls, items: Any, info: Info) -> Any:
        return at_most(items, limits_of(info), "items")


class BatchRequest(Request):
    """Several lists at once."""

    requests: list[RecommendRequest] = Field(min_length=1)
    """At most `serving.max_batch`."""

    @check("requests", mode="before")
    @classmethod
    def _not_too_many(cls, requests: Any, info: Info) -> Any:
        most = limits_of(info).max_batch
        if isinstance(requests, list) and len(requests) > most:
            raise ValueError(f"should hold at most {most} requests (serving.max_batch), not {len(requests)}")
        return requests


class RecommendAnswer(Answer):
    """A list, best first, and how it came about."""

    request_id: str
    """Of this answer: an event that follows from it may name it."""
    model_version: int
    """Who made the list."""
    variant: str
    """`champion` or `challenger`."""
    strategy: str
    """`model`, or `popular` where nothing was known to go by."""
    items: list[RecommendedItem]
    """Best first."""
    unknown_items: list[str]
    """Items of the request that the model does not know; they were passed over."""


class Reason(Answer):
    """Why an item is in a list."""

    because_of: list[str]
    """Items of the history that it is most like, most first."""
    model_rank: int
    """Its place among the model's candidates, from 1: of all that may come or, where the rules left too few and the
    model was asked again, of those that meet the rules."""
    moved_by: list[str]
    """What else put it here: `diversity`, `explored`."""
    propensity: float | None
    """With which probability it came to this place, where anything is left to chance."""


class ExplainedItem(RecommendedItem):
    """An item of a list, and why it is there."""

    reason: Reason
    """Why it is there."""


class Explanation(Answer):
    """What was done to the model's list."""

    left_out: dict[str, int]
    """Rule → how many of the model's first candidates it left out; `at_most` those above something shown."""
    candidates: int
    """How many the model gave; where the rules left too few and it was asked again, how many it gave then."""


class ExplainedAnswer(RecommendAnswer):
    """A list, and why it is what it is."""

    items: list[ExplainedItem]  # type: ignore[assignment]
    """Best first, each with why it is there."""
    explanation: Explanation
    """What the rules did to it."""


class BatchAnswer(Answer):
    """A list for each request, in their order."""

    answers: list[RecommendAnswer | ExplainedAnswer]
    """One for each request; with `explain`, an `ExplainedAnswer`."""
