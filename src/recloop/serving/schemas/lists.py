"""What every list has, for a user or like an item: how many items, of which, and what is told of each."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic import ValidationInfo as Info
from pydantic import field_validator as check

from recloop.serving.schemas.base import Answer, Id, Name, Request, short
from recloop.serving.schemas.limits import at_most, limits_of

Value = Annotated[str, StringConstraints(max_length=256)] | bool | int | Annotated[float, Field(allow_inf_nan=False)]


class Between(Request):
    """A range of an attribute, both ends within it; either may be left out."""

    min: Value | None = None
    """The least it may be."""
    max: Value | None = None
    """The most it may be."""


def _in_one_line(given: Any, read: ValidatorFunctionWrapHandler) -> Any:
    """pydantic would tell of everything that a filter might have been, each with a name that only pydantic knows."""
    try:
        return read(given)
    except ValidationError:
        raise ValueError(
            'should be a value, a list of at most 100 values, or {"min": …, "max": …}; '
            "a value is text of at most 256 characters, a number, true or false"
        ) from None


Condition = Annotated[
    Value | Annotated[list[Value], Field(max_length=100)] | Between,
    WrapValidator(_in_one_line),
]
Filters = Annotated[dict[Name, Condition], Field(max_length=16), short(16)]
"""Attribute of items → the value it must have, a list of which it must have one, or a range."""
Ids = Annotated[list[Id], Field(fail_fast=True)]
"""The first that is none is told of: there may be thousands."""


class ListRequest(Request):
    """For how many items, and of which."""

    k: int | None = Field(default=None, ge=1)
    """Items wanted; by default `serving.default_k`."""
    exclude: Ids = []
    """Items to leave out."""
    filters: Filters = {}
    """What the items must be like: attribute → a value, a list of which it must have one, or `{"min": …, "max": …}`."""
    age: int | None = Field(default=None, ge=0, le=150)
    """The user's, in years, where items are limited by age."""

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
    """An item of a list."""

    item_id: str
    """Its name, as in the data and in events."""
    title: str | None
    """Null where the items have none."""
    score: float
    """Only the order within one list means anything."""
