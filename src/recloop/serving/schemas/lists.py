"""What every list has, for a user or like an item: how many items, of which, and what is told of each."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints
from pydantic import ValidationInfo as Info
from pydantic import field_validator as check

from recloop.serving.schemas.base import Answer, Id, Name, Request
from recloop.serving.schemas.limits import at_most, limits_of

Value = Annotated[str, StringConstraints(max_length=256)] | bool | int | Annotated[float, Field(allow_inf_nan=False)]


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
        if k is not None and k > limits_of(info).max_k:
            raise ValueError(f"should be at most {limits_of(info).max_k} (serving.max_k)")
        return k

    @check("exclude", mode="before")
    @classmethod
    def _excludes_not_too_many(cls, items: Any, info: Info) -> Any:
        return at_most(items, limits_of(info), "items")


class RecommendedItem(Answer):
    item_id: str
    title: str | None
    score: float
    """Only the order within one list means anything."""
