"""`source`: where the data comes from, one section for each kind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from recloop.config.section import Moment, Positive, Section, Seed, Within


class MovieLens100K(Section):
    """GroupLens's MovieLens-100K: 943 users, 1,682 films, 100,000 ratings, 1997-09 to 1998-04."""

    kind: Literal["movielens-100k"]
    folder: Path = Path("src/recloop/data/sources")
    """It comes from the network, and does not change: what DVC watches is what reads it."""
    until: Moment | None = None
    """Take only events before this time (UTC): for a backtest, or to play the rest as live traffic."""


class Sequences(Section):
    """A text file with one line a user: `user item item …`, in time order; the order is all the time there is."""

    kind: Literal["sequences"]
    folder: Path
    """Where it lies: when anything in this folder changes, `dvc repro` takes the data in again."""
    path: Within
    """The file, below `folder`."""
    until: None = None
    """Null, as the file we ship has it for other kinds."""

    @field_validator("until", mode="before")
    @classmethod
    def _has_no_times(cls, until: Any) -> Any:
        if until is not None:
            raise ValueError("a `sequences` source has an order but no times to cut at: set it to null")
        return until


class Synthetic(Section):
    """Purchases that are made up, by users with tastes: to try things out, and to see a model learn."""

    kind: Literal["synthetic"]
    folder: Path = Path("src/recloop/data/sources")
    """It comes from nowhere, and does not change: what DVC watches is what makes it."""
    users: Positive = 1000
    items: Positive = 1000
    events: Positive = 50_000
    tastes: Positive = 10
    """Users and items are to one taste each, in equal parts. With one there is only popularity to learn."""
    skew: float = Field(default=1.0, ge=0, le=10)
    """How much more popular some items of a taste are: the n-th in proportion to 1 / n^skew."""
    seed: Seed = 42
    until: Moment | None = None
    """Take only events before this time (UTC); they are of the year 2024."""

    @model_validator(mode="after")
    def _can_be_made(self) -> Synthetic:
        if self.tastes > self.items:
            raise ValueError(f"tastes must not exceed items: {self.tastes} tastes cannot share {self.items} items")
        pairs = self.users * self.items
        if pairs > 10**9:
            raise ValueError(f"users × items must not exceed a thousand million (got {pairs:,})")
        if self.events > pairs:
            raise ValueError(
                f"events must not exceed users × items, which is {pairs:,}: nobody buys anything twice "
                f"(got {self.events:,})"
            )
        return self


class TableFile(Section):
    """One of the user's own tables: a CSV or Parquet file, and which of its columns is which of ours."""

    path: Within
    """Below `source.folder`: a file, a folder of parts, or a pattern such as `log/*.parquet`."""
    columns: dict[str, str]
    """Canonical column → column of the file, e.g. `user_id: customer`."""
    constants: dict[str, str | float] = {}
    """Canonical column → one value for every row, e.g. `event: purchase`."""

    @model_validator(mode="after")
    def _says_each_once(self) -> TableFile:
        for name in self.columns.keys() & self.constants.keys():
            raise ValueError(f"{name} is both in columns and in constants")
        if isinstance(self.constants.get("value"), str):
            raise ValueError(f"constants.value is to be a number, not {self.constants['value']!r}")
        return self


class Table(Section):
    """The user's own interaction log, with items and users if there are tables of them."""

    kind: Literal["table"]
    folder: Path
    """Where the files lie: when anything in this folder changes, `dvc repro` takes the data in again."""
    interactions: TableFile
    items: TableFile | None = None
    users: TableFile | None = None
    timestamp_unit: Literal["s", "ms", "us", "iso"] = "s"
    """How times are written. Columns that hold times or dates by type (Parquet) need no unit."""
    until: Moment | None = None
    """Take only events before this time (UTC)."""

    @model_validator(mode="after")
    def _maps_what_is_needed(self) -> Table:
        needed = {
            "interactions": ("user_id", "item_id", "timestamp"),
            "items": ("item_id",),
            "users": ("user_id",),
        }
        for section, names in needed.items():
            file: TableFile | None = getattr(self, section)
            for name in names if file else ():
                if file and name not in file.columns:
                    raise ValueError(f"{section}.columns does not say which column is {name}")
        if "event" not in self.interactions.columns | self.interactions.constants:
            raise ValueError(
                "interactions does not say what happened: map `event` in columns, "
                "or give one for all rows, e.g. `constants: {event: purchase}`"
            )
        return self


Source = Annotated[MovieLens100K | Synthetic | Sequences | Table, Field(discriminator="kind")]
