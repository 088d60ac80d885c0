"""What users did, stored before it is acknowledged.

The table `events` has one row an event. Its `seq` is given by the database and never used twice: whatever was
done with the events up to a `seq` (a snapshot for training, a session) knows where to go on from. An event is
told from another by the `event_id` its sender gave it, so sending one again is harmless.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    Table,
    Text,
    func,
    select,
)
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
    Column("context", JSON(none_as_null=True)),  # what the sender knows of the visit, e.g. a country
    Index("ix_events_user_id_seq", "user_id", "seq"),
    sqlite_autoincrement=True,
)

DISMISS = "dismiss"
"""The event of a user who does not want to see the item again."""

ORDER_KEY = 0x6F726472
"""PostgreSQL's advisory locks are numbers; this one says "ordr"."""

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
    context: dict[str, str] | None = None
    """What is known of the visit, e.g. a country"""


@dataclass(frozen=True, slots=True)
class Seen:
    """An event as sessions need it: where it stands in the order of arrival, who, which item, and when."""

    seq: int
    user_id: str
    item_id: str
    timestamp: int
    """In µs since 1970, UTC"""
    event: str
    context: dict[str, str] | None = None


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
        self._writing = threading.Lock()  # threads wait for it in turn; for the database's own they ask again and again
        try:
            self._insert = (
                _INSERT[database.dialect.name](events)
                .on_conflict_do_nothing(index_elements=[events.c.event_id])
                .returning(events.c.seq, events.c.event_id)
            )
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
        try:
            return self.add_all([batch])[0]
        except DatabaseError as error:
            raise unavailable(error) from error

    def add_all(self, batches: Sequence[Sequence[Event]]) -> list[Stored]:
        """Store several batches in one transaction, committed when this returns: what became of each.

        Of events with one `event_id` the first is stored, whichever batch it is in.

        Raises:
            DatabaseError: the database did not take them; nothing of any batch is stored.
        """
        received_at = now_us()
        rows = [
            vars(event)
            | {"timestamp": received_at if event.timestamp is None else event.timestamp, "received_at": received_at}
            for batch in batches
            for event in batch
        ]
        seqs: dict[str, int] = {}
        if rows:
            with self._writing, self._database.begin() as connection:
                _keep_order(connection)
                seqs = {row.event_id: row.seq for row in connection.execute(self._insert, rows)}
        return [_stored(batch, seqs, received_at) for batch in batches]

    def after(self, seq: int) -> Iterator[Seen]:
        """Every stored event with a higher `seq`, in order, read in pieces.

        Raises:
            ServingError: the database does not answer.
        """
        return self._read(events.c.seq > seq)

    def between(self, received_at: int, seq: int) -> Iterator[Seen]:
        """Every event that came in since `received_at`, in µs since 1970, up to a `seq`, in order, read in pieces.

        Raises:
            ServingError: the database does not answer.
        """
        return self._read(events.c.received_at > received_at, events.c.seq <= seq)

    def dismissals(self) -> Iterator[Seen]:
        """Every time somebody did not want to see an item again.

        Raises:
            ServingError: the database does not answer.
        """
        return self._read(events.c.event == DISMISS)

    def last(self) -> int:
        """The highest `seq`; 0 where there is no event.

        Raises:
            ServingError: the database does not answer.
        """
        try:
            with self._database.connect() as connection:
                return int(connection.execute(select(func.coalesce(func.max(events.c.seq), 0))).scalar_one())
        except DatabaseError as error:
            raise unavailable(error) from error

    def _read(self, *which: ColumnElement[bool]) -> Iterator[Seen]:
        columns = [
            events.c.seq, events.c.user_id, events.c.item_id, events.c.timestamp, events.c.event, events.c.context
        ]  # fmt: skip
        query = select(*columns).where(*which).order_by(events.c.seq)
        try:
            with self._database.connect() as connection:
                for row in connection.execution_options(yield_per=10_000).execute(query):
                    yield Seen(*row)
        except DatabaseError as error:
            raise unavailable(error) from error


def _keep_order(connection: Connection) -> None:
    """Let nobody else write before this transaction ends.

    PostgreSQL gives a `seq` when a row is inserted, and shows the row when it is committed. With two writers at
    once a higher `seq` could be seen first; whoever then read "all up to now" would never come back for the lower.
    SQLite has one writer at a time anyway.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(ORDER_KEY)))


def _stored(batch: Sequence[Event], seqs: dict[str, int], received_at: int) -> Stored:
    """What became of `batch`; takes its new ones out of `seqs`, so that they are nobody else's."""
    new, duplicates = [], []
    for event in batch:
        if (seq := seqs.pop(event.event_id, None)) is None:
            duplicates.append(event.event_id)
        else:
            at = received_at if event.timestamp is None else event.timestamp
            new.append(Seen(seq, event.user_id, event.item_id, at, event.event, event.context))
    return Stored(tuple(sorted(new, key=lambda seen: seen.seq)), tuple(duplicates))


def unavailable(error: DatabaseError) -> ServingError:
    """What the database said, for who sent events or asked for some."""
    return ServingError(
        f"the database of events does not answer: {error.said}",
        remedy="send them again later; an event that was stored is not counted twice",
    )
