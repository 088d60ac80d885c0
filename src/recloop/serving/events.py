"""What users did, stored before it is acknowledged.

The table `events` has one row an event. Its `seq` is given by the database and never used twice: whatever was
done with the events up to a `seq` (a snapshot for training, a session) knows where to go on from. An event is
told from another by the `event_id` its sender gave it, so sending one again is harmless.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, Engine, Float, Integer, Table, Text, select
from sqlalchemy.dialects import postgresql, sqlite

from recloop.errors import DatabaseError, ServingError
from recloop.storage import metadata, now_us

events = Table(
    "events",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("event_id", Text, nullable=False, unique=True),
    Column("user_id", Text, nullable=False),
    Column("item_id", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("value", Float(53), nullable=False),
    Column("timestamp", BigInteger, nullable=False),  # when it happened, by the sender's clock
    Column("received_at", BigInteger, nullable=False, index=True),  # when it came in, by ours
    Column("request_id", Text),  # the answer that showed the item, where the sender knows it
    sqlite_autoincrement=True,
)

_INSERT: dict[str, Callable[[Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
"""The dialects that can pass over a row that is there already."""


@dataclass(frozen=True)
class Event:
    """One thing a user did. `timestamp` is in microseconds since 1970 (UTC); None: when it came in."""

    event_id: str
    user_id: str
    item_id: str
    event: str
    value: float
    timestamp: int | None = None
    request_id: str | None = None


@dataclass(frozen=True)
class Seen:
    """An event as sessions need it: where it stands in the order of arrival, who, which item, and when."""

    seq: int
    user_id: str
    item_id: str
    timestamp: int
    """In µs since 1970, UTC"""


@dataclass(frozen=True)
class Stored:
    """What became of a batch of events."""

    new: tuple[Seen, ...]
    """In order of arrival; these were not known before."""
    duplicates: tuple[str, ...]
    """`event_id` of each one that was known already, or came twice in the batch."""


class EventStore:
    """The events of one database. Safe to use from several threads."""

    def __init__(self, database: Engine) -> None:
        self._database = database
        # One writer at a time, so that a later `seq` is never visible before an earlier one.
        self._writing = threading.Lock()
        try:
            self._insert = _INSERT[database.dialect.name]
        except KeyError:
            raise ServingError(
                f"events cannot be kept in {database.dialect.name}",
                remedy="set storage.database_url to an SQLite or PostgreSQL database",
            ) from None

    def add(self, batch: Sequence[Event]) -> Stored:
        """Store `batch` in one transaction, committed when this returns.

        Raises:
            ServingError: the database did not take it; nothing of the batch is stored.
        """
        if not batch:
            return Stored((), ())
        received_at = now_us()
        rows = [
            asdict(event)
            | {
                "timestamp": received_at if event.timestamp is None else event.timestamp,
                "received_at": received_at,
            }
            for event in batch
        ]
        insert = (
            self._insert(events)
            .on_conflict_do_nothing(index_elements=[events.c.event_id])
            .returning(events.c.seq, events.c.event_id, events.c.user_id, events.c.item_id, events.c.timestamp)
        )
        try:
            with self._writing, self._database.begin() as connection:
                inserted = connection.execute(insert, rows).all()
        except DatabaseError as error:
            raise _unavailable(error) from error
        pending = {row.event_id for row in inserted}
        duplicates = []
        for event in batch:
            if event.event_id in pending:
                pending.remove(event.event_id)
            else:
                duplicates.append(event.event_id)
        new = sorted(
            (Seen(row.seq, row.user_id, row.item_id, row.timestamp) for row in inserted), key=lambda seen: seen.seq
        )
        return Stored(tuple(new), tuple(duplicates))

    def after(self, seq: int) -> Iterator[Seen]:
        """Every stored event with a higher `seq`, in order, read in pieces.

        Raises:
            ServingError: the database does not answer.
        """
        columns = (events.c.seq, events.c.user_id, events.c.item_id, events.c.timestamp)
        query = select(*columns).where(events.c.seq > seq).order_by(events.c.seq)
        try:
            with self._database.connect() as connection:
                for row in connection.execution_options(yield_per=10_000).execute(query):
                    yield Seen(row.seq, row.user_id, row.item_id, row.timestamp)
        except DatabaseError as error:
            raise _unavailable(error) from error


def _unavailable(error: DatabaseError) -> ServingError:
    return ServingError(
        f"the database of events does not answer: {error.said}",
        remedy="send them again later; an event that was stored is not counted twice",
    )
