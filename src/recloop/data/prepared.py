"""The prepared data: one long table sorted by user and time, plus offsets. Sequences are slices of it.

On disk, in `data/prepared/`:
    interactions.parquet  user i32, item i32, event str, value f32, weight f32, timestamp µs UTC, period i8
    users.parquet         row = user code: user_id, start, end (rows of interactions), attributes
    items.parquet         row = item code: item_id, train_count, title, categories, attributes
    cases.parquet         period i8, user i32, position i64: what is predicted, in this order
    meta.json             counts, the cuts in time, and the last feedback event that is in here

Item codes follow `item_id` by length, then by character: "9" comes before "10". Ties in score are broken by
the lower code, ties in time as `prepare.time_ties` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recloop.errors import StageError
from recloop.files import read_json

Period = Literal["train", "valid", "test"]
PERIODS: tuple[Period, ...] = ("train", "valid", "test")
"""A row's `period` is an index into this."""

REMEDY = "`dvc repro prepare` makes it anew"


@dataclass(frozen=True)
class Ragged:
    """Sequences of any length, end to end. Sequence `i` is `values[offsets[i]:offsets[i + 1]]`."""

    values: np.ndarray
    """int32 [events]"""
    offsets: np.ndarray
    """int64 [sequences + 1]"""
    times: np.ndarray | None = None
    """int64 [events]: when each was, in µs since 1970; None where that is not known"""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    @classmethod
    def of(cls, sequences: list[Any]) -> Ragged:
        """From a list of one-dimensional integer arrays or lists."""
        lengths = np.fromiter((len(s) for s in sequences), np.int64, len(sequences))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        values = np.concatenate([np.asarray(s, np.int32) for s in sequences]) if len(sequences) else np.empty(0)
        return cls(values.astype(np.int32), offsets)

    @classmethod
    def slices(
        cls, values: np.ndarray, starts: np.ndarray, ends: np.ndarray, times: np.ndarray | None = None
    ) -> Ragged:
        """The slices `values[starts[i]:ends[i]]`, end to end, with those of `times`."""
        lengths = ends - starts
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        index = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        return cls(values[index].astype(np.int32, copy=False), offsets, None if times is None else times[index])

    def rows(self, which: np.ndarray) -> Ragged:
        """Some of the sequences, in the order asked for."""
        return Ragged.slices(self.values, self.offsets[which], self.offsets[which + 1], self.times)


@dataclass(frozen=True)
class Cases:
    """What is predicted: the event at row `position`, from the user's events before it."""

    users: np.ndarray
    """int32 [cases]: user codes, ascending"""
    positions: np.ndarray
    """int64 [cases]: rows of the long table"""

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class Prepared:
    """The prepared data in memory. Arrays are not to be written to."""

    items: np.ndarray
    """int32 [events]: item codes, by user, then time, then `prepare.time_ties`"""
    weights: np.ndarray
    """float32 [events]: how much each event counts in training"""
    timestamps: np.ndarray
    """int64 [events]: µs since 1970, UTC"""
    periods: np.ndarray
    """int8 [events]: 0 train, 1 valid, 2 test; within a user they never go back"""
    starts: np.ndarray
    """int64 [users]: first row of each user"""
    ends: np.ndarray
    """int64 [users]: one past the last row of each user"""
    user_ids: list[str]
    item_table: pa.Table
    """items.parquet: row = item code"""
    cases: dict[Period, Cases]
    """`valid` and `test`"""
    meta: dict[str, Any]

    @property
    def user_count(self) -> int:
        return len(self.user_ids)

    @property
    def item_count(self) -> int:
        return int(self.item_table.num_rows)

    @property
    def item_ids(self) -> list[str]:
        ids: list[str] = self.item_table["item_id"].to_pylist()
        return ids

    @property
    def train_counts(self) -> np.ndarray:
        """int64 [items]: events of the training period on each item."""
        return np.asarray(self.item_table["train_count"].to_numpy())

    @property
    def train_ends(self) -> np.ndarray:
        """int64 [users]: one past each user's last event of the training period."""
        before = np.concatenate([[0], np.cumsum(self.periods == 0)])
        ends: np.ndarray = self.starts + before[self.ends] - before[self.starts]
        return ends

    def case_histories(self, period: Period, max_length: int | None = None) -> Ragged:
        """The events before each case, at most the last `max_length`, in the order of `cases[period]`."""
        cases = self.cases[period]
        return self._last(cases.positions, self.starts[cases.users], max_length)

    def full_histories(self, max_length: int | None = None) -> Ragged:
        """Every user's events of all periods, at most the last `max_length`; row = user code."""
        return self._last(self.ends, self.starts, max_length)

    def targets(self, period: Period) -> np.ndarray:
        """int32 [cases]: the item each case is to predict."""
        targets: np.ndarray = self.items[self.cases[period].positions]
        return targets

    def _last(self, ends: np.ndarray, starts: np.ndarray, max_length: int | None) -> Ragged:
        if max_length is not None:
            starts = np.maximum(starts, ends - max_length)
        return Ragged.slices(self.items, starts, ends, self.timestamps)

    @classmethod
    def load(cls, folder: Path) -> Prepared:
        """Read `data/prepared/`.

        Raises:
            StageError: a file is missing or damaged.
        """
        meta = read_json(folder / "meta.json", remedy=REMEDY)
        log = _table(folder / "interactions.parquet")
        users = _table(folder / "users.parquet")
        cases = _table(folder / "cases.parquet")
        period_of_case = cases["period"].to_numpy()
        return cls(
            items=log["item"].to_numpy(),
            weights=log["weight"].to_numpy(),
            timestamps=log["timestamp"].cast(pa.int64()).to_numpy(),
            periods=log["period"].to_numpy(),
            starts=users["start"].to_numpy(),
            ends=users["end"].to_numpy(),
            user_ids=users["user_id"].to_pylist(),
            item_table=_table(folder / "items.parquet"),
            cases={
                name: Cases(
                    users=cases["user"].to_numpy()[period_of_case == code],
                    positions=cases["position"].to_numpy()[period_of_case == code],
                )
                for code, name in enumerate(PERIODS)
                if name != "train"
            },
            meta=meta,
        )


def _table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except FileNotFoundError as error:
        raise StageError(f"{path} is missing", remedy=REMEDY) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise StageError(f"{path} is damaged: {error}", remedy=REMEDY) from error
