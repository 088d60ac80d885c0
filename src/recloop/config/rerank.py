"""`serving.rerank`: what is done to the model's list before it is shown."""

from __future__ import annotations

from datetime import date
from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from recloop.config.section import Positive, Section


def _as_value(value: Any) -> Any:
    if isinstance(value, date):  # YAML reads 2026-01-31 as one
        return value.isoformat()
    if not isinstance(value, str | int | float) or (isinstance(value, float) and not isfinite(value)):
        raise ValueError("must be text, a number, a time, true or false")
    return value


Value = Annotated[bool | int | float | str, BeforeValidator(_as_value)]
Condition = Annotated[
    Annotated[Annotated[tuple[Value, ...], Field(min_length=1)], Tag("list")]
    | Annotated[Annotated[dict[Literal["min", "max"], Value], Field(min_length=1)], Tag("range")]
    | Annotated[Value, Tag("value")],
    Discriminator(
        lambda given: "list" if isinstance(given, list | tuple) else "range" if isinstance(given, dict) else "value"
    ),
]
"""What an attribute of items is to be: a value, a list of which it is to be one, or a range."""


class Rerank(Section):
    """What is done to the model's list before it is shown. The attributes are columns of the items' table."""

    keep: dict[str, Condition] = {}
    """What every shown item is like, e.g. `{in_stock: true, price: {max: 100}}`."""
    age_limit: str | None = None
    """The attribute that holds the least age an item is for. Who does not say their age sees nothing that has one."""
    at_most: dict[str, Positive] = {}
    """Attribute → how many items of one value a list holds; an item counts for each of its values."""
    diversity: float = Field(default=0.0, ge=0, lt=1)
    """How much an item's unlikeness to those above it counts, against its score. 0: not at all."""
    explore: float = Field(default=0.0, ge=0, lt=1)
    """With which probability each place of a list is given to another candidate, of the first `pool` that meet the
    rules, so that more is learnt than what the model believes already."""
    pool: Positive = 100
    """Candidates that the model gives for a list, where anything of this is done; or two for each place, where that is
    more. If the rules leave too few, it is asked again, for ten times as many that meet `keep` and `age_limit`."""

    @property
    def active(self) -> bool:
        """Whether anything is done at all."""
        return any((self.keep, self.age_limit is not None, self.at_most, self.diversity, self.explore))

    def candidates(self, k: int) -> int:
        """How many candidates the model is first asked for, for a list of `k`."""
        return max(2 * k, self.pool) if self.active else k
