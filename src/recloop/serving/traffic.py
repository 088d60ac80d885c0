"""Which version answers whom: champion and challenger side by side.

A user's place is a stable hash of who they are, so that everybody stays with one version while the share stands, and
a growing share only ever moves people from the champion to the challenger. In shadow the challenger's list is made
and written down, and nobody sees it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Engine, insert, select

from recloop.serving.live import Served
from recloop.serving.tables import traffic
from recloop.storage import now_us

Variant = Literal["champion", "challenger", "shadow"]


@dataclass(frozen=True)
class Split:
    """How traffic is shared out."""

    challenger: float = 0.0
    """Share of the users that the challenger answers, in [0, 1]"""
    shadow: bool = False
    """Whether the challenger also makes a list, unseen, wherever the champion answers"""

    @property
    def asks_for_challenger(self) -> bool:
        return self.challenger > 0 or self.shadow


@dataclass(frozen=True, eq=False)
class Plan:
    """Who answers, as of one moment. A request takes it once; what was made under another plan is out of date."""

    champion: Served
    challenger: Served | None
    split: Split

    def pick(self, user_id: str | None) -> tuple[Served, Variant]:
        """Who answers this user; one who is not named gets the champion."""
        if self.challenger is not None and user_id is not None and place(user_id) < self.split.challenger:
            return self.challenger, "challenger"
        return self.champion, "champion"

    @property
    def shadow(self) -> Served | None:
        """Who answers unseen."""
        return self.challenger if self.split.shadow else None


def place(user_id: str) -> float:
    """The user's place in [0, 1): the same in every process and at all times."""
    digest = hashlib.blake2b(user_id.encode(), digest_size=8, person=b"recloop.split").digest()
    return int.from_bytes(digest, "big") / 2**64


class SplitStore:
    """The split that an admin asked for, in the database, so that every process follows it."""

    def __init__(self, database: Engine) -> None:
        self._database = database

    def read(self) -> Split:
        """The newest one; everything to the champion where none was ever set.

        Raises:
            DatabaseError: the database does not answer.
        """
        query = select(traffic.c.challenger, traffic.c.shadow).order_by(traffic.c.seq.desc()).limit(1)
        with self._database.connect() as connection:
            row = connection.execute(query).first()
        return Split() if row is None else Split(row.challenger, bool(row.shadow))

    def write(self, split: Split, by: str) -> None:
        """Set it; `by` says who did.

        Raises:
            DatabaseError: the database does not answer.
        """
        row = {"at": now_us(), "by": by, "challenger": split.challenger, "shadow": split.shadow}
        with self._database.begin() as connection:
            connection.execute(insert(traffic).values(row))
