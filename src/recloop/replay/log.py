"""What is played: a log in order of arrival, the part that the first model learns from, and the windows after it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recloop.data.schema import INTERACTIONS
from recloop.errors import StageError

WARM_UP = 0.5
"""The share of the events that the first model learns from"""


@dataclass(frozen=True, slots=True)
class Played:
    """One event as it comes in."""

    seq: int
    """Its number at the endpoint, from 1"""
    user_id: str
    item_id: str
    event: str
    value: float
    at: int
    """When it was, in µs since 1970"""


@dataclass(frozen=True)
class Log:
    """All events in order of time, then of user, then of item as preparation orders it."""

    interactions: pa.Table
    """Canonical interactions"""
    gated: Path
    """The folder they come from, with `items` and `users`"""
    bounds: tuple[int, ...]
    """Rows: window `i` is from `bounds[i]` to before `bounds[i + 1]`; before the first of them is what is learnt"""

    @property
    def windows(self) -> int:
        return len(self.bounds) - 1

    @cached_property
    def times(self) -> np.ndarray:
        """int64 [events]: µs since 1970"""
        return np.asarray(self.interactions["timestamp"].cast(pa.int64()).to_numpy())

    def window(self, number: int) -> list[Played]:
        """The events of a window, counted from 0."""
        return list(self.events(self.bounds[number], self.bounds[number + 1]))

    def events(self, start: int, end: int) -> Iterator[Played]:
        """The rows from `start` to before `end`."""
        rows = self.interactions.slice(start, end - start)
        columns = [rows[name].to_pylist() for name in ("user_id", "item_id", "event", "value")]
        times = self.times[start:end].tolist()
        first = start - self.bounds[0] + 1
        for place, (user_id, item_id, event, value, at) in enumerate(zip(*columns, times, strict=True)):
            yield Played(first + place, user_id, item_id, event, value, at)

    def end_of(self, number: int) -> int:
        """When the window is over, in µs since 1970: with the next one's first event, or just after the last event."""
        row = self.bounds[number + 1]
        return int(self.times[row] if row < len(self.times) else self.times[-1] + 1)

    def feedback_seq(self, rows: int) -> pa.Array:
        """int64 [rows]: each row's number at the endpoint; null for what was there before."""
        seq = np.arange(1, rows + 1) - self.bounds[0]
        return pa.array(seq, mask=seq < 1)


def read_log(gated: Path, windows: int, warm_up: float = WARM_UP) -> Log:
    """Read gated tables, and cut what follows the first share of the events into windows of as many events each.

    Events of one moment are never parted: they belong to the later window.

    Args:
        gated: folder of gated tables.
        windows: at least 1.
        warm_up: between 0 and 1.

    Raises:
        StageError: the tables are missing or damaged, or too small to be cut so.
    """
    path = gated / "interactions.parquet"
    try:
        log = pq.read_table(path, columns=INTERACTIONS.names)
    except FileNotFoundError as error:
        raise StageError(f"{path} is missing", remedy="`dvc repro gate` makes it") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise StageError(f"{path} is damaged: {error}", remedy="`dvc repro gate` makes it anew") from error
    ordered = log.append_column("length", pc.utf8_length(log["item_id"])).sort_by(
        [(name, "ascending") for name in ("timestamp", "user_id", "length", "item_id", "event")]
    )
    log = ordered.select(INTERACTIONS.names).combine_chunks()
    times = log["timestamp"].cast(pa.int64()).to_numpy()
    edges = np.linspace(round(warm_up * len(log)), len(log), windows + 1).round().astype(int)[:-1]
    begins = np.searchsorted(times, times[np.minimum(edges, len(log) - 1)]) if len(log) else edges
    bounds = (*begins.tolist(), len(log))
    if bounds[0] < 1 or any(end <= start for start, end in pairwise(bounds)):
        at_once = np.unique(times, return_counts=True)[1].max(initial=0)
        raise StageError(
            f"{len(log):,} events cannot be cut into a part to learn from and {windows} windows by their times, which "
            f"up to {at_once:,} of them share",
            remedy="fewer --windows, or a source whose events have times, and finer ones",
        )
    return Log(log, gated, bounds)
