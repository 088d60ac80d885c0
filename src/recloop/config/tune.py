"""`tune`: which settings of a model are searched, and how long."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import AfterValidator, Discriminator, JsonValue, Tag, model_validator

from recloop.config.section import Positive, Section


class Range(Section):
    """Numbers to search: whole ones where both ends are."""

    low: int | float
    high: int | float
    log: bool = False
    """Whether a factor counts, not a difference: for learning rates and the like."""

    @model_validator(mode="after")
    def _goes_up(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"goes from {self.low} to {self.high}; low is to be below high")
        if self.log and self.low <= 0:
            raise ValueError(f"low is to be above 0 where log is true (got {self.low})")
        return self

    @property
    def whole(self) -> bool:
        """Whether it is searched in whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


def _each_once(values: tuple[JsonValue, ...]) -> tuple[JsonValue, ...]:
    if len({json.dumps(value, sort_keys=True) for value in values}) < max(2, len(values)):
        raise ValueError("name at least two values, each once")
    return values


Choice = Annotated[tuple[JsonValue, ...], AfterValidator(_each_once)]
"""Values to choose among."""
Dimension = Annotated[
    Annotated[Choice, Tag("list")] | Annotated[Range, Tag("range")],
    Discriminator(lambda given: "list" if isinstance(given, list | tuple) else "range"),
]
"""What is searched of one setting."""


class Tune(Section):
    """The search for better settings of a model (`recloop tune`)."""

    trials: Positive = 30
    """Trainings of a study in all, the pruned ones included."""
    startup_trials: Positive = 8
    """So many are drawn at random, and none is pruned before so many were trained to their end."""
    min_epochs: Positive = 3
    """No training is pruned before it has had so many epochs."""
    models: dict[str, dict[str, Dimension]] = {}
    """Model → path inside its section under `models` → what is searched: a list to choose from, or a range."""
