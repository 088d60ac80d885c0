"""What a model is asked about a period: a history, and the items that are right after it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recloop.config import TargetKind
from recloop.data.prepared import Period, Prepared, Ragged


@dataclass(frozen=True)
class Questions:
    """Row i of everything is one question; users ascend, and each user's questions go from the earliest on."""

    users: np.ndarray
    """int32 [questions]: user codes"""
    seen: Ragged
    """All of the user's events before it"""
    shown: Ragged
    """The last of them, as many as a model is shown"""
    targets: Ragged
    """The right answers: at least one, no item twice"""

    def __len__(self) -> int:
        return len(self.users)

    @classmethod
    def of(
        cls,
        prepared: Prepared,
        period: Period,
        kind: TargetKind,
        max_history: int,
        share: tuple[int, int] = (0, 1),
    ) -> Questions:
        """The questions of a period.

        Args:
            prepared: the data.
            period: `valid` or `test`.
            kind: `each`: every case is a question with one right answer. `together`: the cases of a user are one
                question, asked before the first of them.
            max_history: a model is shown this many of a history's last events.
            share: (rank, world): of the users that have cases, every `world`-th from the `rank`-th on.
        """
        cases = prepared.cases[period]
        rank, world = share
        kept = np.isin(cases.users, np.unique(cases.users)[rank::world])
        users, positions = cases.users[kept], cases.positions[kept]
        items = prepared.items[positions]
        targets = Ragged(items, np.arange(len(items) + 1))
        if kind == "together":
            pairs = np.unique(users.astype(np.int64) * prepared.item_count + items)
            lengths = np.unique(pairs // prepared.item_count, return_counts=True)[1]
            offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
            targets = Ragged((pairs % prepared.item_count).astype(np.int32), offsets)
            users, first = np.unique(users, return_index=True)
            positions = positions[first]
        starts = prepared.starts[users]
        return cls(
            users=users,
            seen=Ragged.slices(prepared.items, starts, positions),
            shown=Ragged.slices(
                prepared.items, np.maximum(starts, positions - max_history), positions, prepared.timestamps
            ),
            targets=targets,
        )
