"""What the database knows of one person, and forgetting it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine, delete, func, insert, select, update

from recloop.serving.events import EventStore, events
from recloop.serving.impressions import impressions
from recloop.serving.sessions import user_hash
from recloop.serving.tables import forgotten
from recloop.storage import now_us


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


class People:
    """Of one database. Safe to use from several threads."""

    def __init__(self, database: Engine) -> None:
        self._database, self._events = database, EventStore(database)

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
        what they know of the person until now is not used any more.

        Raises:
            RecloopError: the database does not answer. Some of it may be done: ask again.
        """
        at = now_us()
        deleted = self._events.forget(user_id)
        row = {"user_hash": user_hash(user_id), "at": at, "events": deleted.events}
        with self._database.begin() as connection:
            connection.execute(insert(forgotten).values(row))
        return Record(deleted.events, deleted.impressions)

    def forget_late(self, user_id: str, at: int) -> None:
        """Do away with what was on its way to the database when a person was forgotten at `at`, in µs since 1970.

        Raises:
            DatabaseError: the database does not answer.
        """
        late = impressions.c.user_id == user_id, impressions.c.served_at <= at
        with self._database.begin() as connection:
            connection.execute(update(impressions).where(*late).values(user_id=None))
            connection.execute(delete(events).where(events.c.user_id == user_id, events.c.received_at <= at))

    def forgotten(self, after: int) -> list[Forgotten]:
        """Who was forgotten since the row `after`, in order.

        Raises:
            DatabaseError: the database does not answer.
        """
        query = (
            select(forgotten.c.seq, forgotten.c.user_hash, forgotten.c.at)
            .where(forgotten.c.seq > after)
            .order_by(forgotten.c.seq)
        )
        with self._database.connect() as connection:
            return [Forgotten(row.seq, row.user_hash, row.at) for row in connection.execute(query)]
