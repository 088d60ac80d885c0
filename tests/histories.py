"""Prepared data in memory, from lists of item codes: the last event of each history is the test case, the one before
it the validation case, the rest is learnt from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from recloop.data.prepared import Cases, Prepared

DAY = 86_400_000_000


def prepared_of(
    histories: Sequence[Sequence[int]],
    *,
    items: int,
    weights: Sequence[Sequence[float]] | None = None,
    days: Sequence[Sequence[float]] | None = None,
    held_out: int = 2,
    least: int = 0,
) -> Prepared:
    """`histories`: item codes of each user, oldest first. By default every event weighs 1, and they are a day apart.

    With `held_out=0` everything is learnt from, and there are no cases. A history shorter than `least` is
    learnt from as a whole.
    """
    lengths = np.array([len(history) for history in histories])
    ends = np.cumsum(lengths)
    taken = np.concatenate([np.asarray(history, np.int32) for history in histories])
    place = np.concatenate([np.arange(length) for length in lengths])
    periods = np.clip(place - np.repeat(lengths, lengths) + 1 + held_out, 0, held_out).astype(np.int8)
    short = lengths < least
    periods[np.repeat(short, lengths)] = 0
    times = place if days is None else np.concatenate([np.asarray(each, np.float64) for each in days])
    weight = np.ones(len(taken)) if weights is None else np.concatenate([np.asarray(each) for each in weights])
    users = np.arange(len(histories), dtype=np.int32)
    asked = users[~short] if held_out else users[:0]
    return Prepared(
        items=taken,
        weights=weight.astype(np.float32),
        timestamps=(times * DAY).astype(np.int64),
        periods=periods,
        starts=ends - lengths,
        ends=ends,
        user_ids=[f"u{user}" for user in users],
        item_table=pa.table(
            {
                "item_id": [f"i{item}" for item in range(items)],
                "train_count": np.bincount(taken[periods == 0], minlength=items),
            }
        ),
        cases={
            "valid": Cases(asked, ends[asked] - 2),
            "test": Cases(asked, ends[asked] - 1),
        },
        meta={},
    )


def walks(*, users: int, items: int, length: int) -> list[list[int]]:
    """User u begins at item u and goes on to the next item, in a circle: after i comes i + 1."""
    return [[(user + step) % items for step in range(length)] for user in range(users)]
