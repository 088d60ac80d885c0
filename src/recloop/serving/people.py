"""What the database knows of one person, and forgetting it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine, delete, func, insert, select, update

from recloop.serving.events import events
from recloop.serving.impressions import impressions
from recloop.serving.tables import forgotten, user_hash
from recloop.storage import now_us

STRETCH = 10_000
"""How many impressions are looked through in one transaction"""


@dataclass(frozen=True)
class Record:
    """What is stored of a person."""

    events: int
    impressions: int
    """Lists they were shown"""


@dataclass(frozen=True)
class Forgotten:
    """That somebody asked to be forgotten."""

    seq: int
    who: str
    """`user_hash`"""
    at: int
    """In µs since 1970"""
    last_event: int
    """`seq` of the last of their events; 0: there was none"""
    user_id: str | None
    """Who it is, while lists that were on their way are still to be looked at"""


class People:
    """Of one database. Safe to use from several threads."""

    def __init__(self, database: Engine) -> None:
        self._database = database

    def record(self, user_id: str) -> Record:
        """What is stored of a person.

        Raises:
            DatabaseError: the database does not answer.
        """
        with self._database.connect() as connection:
            counts = [
                connection.execute(
                    select(func.count()).select_from(table).where(table.c.user_id == user_id)
                ).scalar_one()
                for table in (events, impressions)
            ]
        return Record(*counts)

    def forget(self, user_id: str) -> Record:
        """Delete a person's events, and take their name off the lists they were shown.

        That it happened is kept, under a hash: the packages of models still hold what they were trained with, and
        what they know of the person until now is not used any more. The name itself is kept until `finish`.

        Raises:
            DatabaseError: the database does not answer. Some of it may be done: ask again.
        """
        at, last = now_us(), self._last_impression()
        shown = self._unname(user_id, 0, last)
        # Writers commit in the order of `seq`: what is not deleted here is newer than all that is.
        gone = delete(events).where(events.c.user_id == user_id).returning(events.c.seq)
        with self._database.begin() as connection:
            deleted = connection.execute(gone).scalars().all()
            row = {"at": at, "events": len(deleted), "last_event": max(deleted, default=None), "last_impression": last}
            connection.execute(insert(forgotten).values(row | {"user_hash": user_hash(user_id), "user_id": user_id}))
        return Record(len(deleted), shown)

    def finish(self, seq: int) -> None:
        """Take a forgotten person's name off the lists that were on their way to the database, and then forget it.

        Raises:
            DatabaseError: the database does not answer.
        """
        query = select(forgotten.c.user_id, forgotten.c.at, forgotten.c.last_impression).where(forgotten.c.seq == seq)
        with self._database.connect() as connection:
            user_id, at, last = connection.execute(query).one()
        if user_id is None:  # another process was quicker
            return
        self._unname(user_id, last, self._last_impression(), served_until=at)
        with self._database.begin() as connection:
            connection.execute(update(forgotten).where(forgotten.c.seq == seq).values(user_id=None))

    def forgotten(self, after: int) -> list[Forgotten]:
        """Who was forgotten since the row `after`, in order.

        Raises:
            DatabaseError: the database does not answer.
        """
        columns = (
            forgotten.c.seq, forgotten.c.user_hash, forgotten.c.at, forgotten.c.last_event, forgotten.c.user_id
        )  # fmt: skip
        query = select(*columns).where(forgotten.c.seq > after).order_by(forgotten.c.seq)
        with self._database.connect() as connection:
            return [
                Forgotten(row.seq, row.user_hash, row.at, row.last_event or 0, row.user_id)
                for row in connection.execute(query)
            ]

    def _last_impression(self) -> int:
        with self._database.connect() as connection:
            return connection.execute(select(func.max(impressions.c.seq))).scalar() or 0

    def _unname(self, user_id: str, after: int, until: int, served_until: int | None = None) -> int:
        """Take a name off the lists with a `seq` in (after, until]. Of how many.

        They are in no order of users, and are gone through in short transactions, so that others can write meanwhile.
        """
        named = update(impressions).where(impressions.c.user_id == user_id).values(user_id=None)
        if served_until is not None:
            named = named.where(impressions.c.served_at <= served_until)
        count = 0
        for first in range(after + 1, until + 1, STRETCH):
            with self._database.begin() as connection:
                piece = named.where(impressions.c.seq.between(first, min(until, first + STRETCH - 1)))
                count += connection.execute(piece).rowcount
        return count
