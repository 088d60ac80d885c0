"""What was shown to whom, written down beside the answers, never in their way.

Answers put their impression into a bounded queue; one thread writes batches. While the database stalls the
queue fills, and then impressions are dropped and counted, and answers go on.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import JSON, BigInteger, Column, Engine, Integer, Table, Text, TextClause, text

from recloop.errors import DatabaseError
from recloop.storage import metadata

logger = logging.getLogger("recloop.serving")

impressions = Table(
    "impressions",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("request_id", Text, nullable=False),
    Column("user_id", Text),  # null: nobody was named
    Column("served_at", BigInteger, nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("variant", Text, nullable=False),
    Column("strategy", Text, nullable=False),
    Column("items", JSON, nullable=False),
    Column("scores", JSON, nullable=False),
    Column("history_length", Integer, nullable=False),
    Column("chances", JSON),  # by item: with which probability chance put it there; null where it had no hand in it
    sqlite_autoincrement=True,
)

BATCH = 500
GATHER_SECONDS = 0.1
"""How long the writer gathers before it commits: one flush to disk for many answers."""
RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Shown:
    """A list as it is written down: the same for every time it is shown. Its place in `items` is an item's position."""

    user_id: str | None
    version: int
    variant: str
    strategy: str
    items: str
    """JSON: item ids"""
    scores: str
    """JSON: numbers"""
    history_length: int
    chances: str | None = None
    """JSON: by item, with which probability chance put it there, or null; None where chance had no hand in it"""


@dataclass(frozen=True, slots=True)
class Impression:
    """A list that was shown once. `served_at` is in microseconds since 1970 (UTC)."""

    request_id: str
    served_at: int
    shown: Shown

    def row(self) -> str:
        """A JSON list in the order of the table's columns, from the request's id on."""
        of = self.shown
        user_id = "null" if of.user_id is None else json.dumps(of.user_id, ensure_ascii=False)
        return (
            f'["{self.request_id}",{user_id},{self.served_at},{of.version},"{of.variant}","{of.strategy}",'
            f"{of.items},{of.scores},{of.history_length},{of.chances or 'null'}]"
        )


class ImpressionLog:
    """The queue and its writer. `close` writes what waits.

    Args:
        database: where the table is.
        limit: impressions that may wait.
        on_stored, on_dropped: told how many; for metrics.
    """

    def __init__(
        self,
        database: Engine,
        limit: int,
        *,
        on_stored: Callable[[int], None],
        on_dropped: Callable[[int], None],
    ) -> None:
        self._database, self._limit = database, limit
        self._insert = _insert(database)
        self._waiting: deque[Impression] = deque()
        self._on_stored, self._on_dropped = on_stored, on_dropped
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._write_forever, name="impressions", daemon=True)
        self._failing = False
        self._writer.start()

    def put(self, impression: Impression) -> None:
        """Hand over one impression; never waits."""
        if len(self._waiting) < self._limit:
            self._waiting.append(impression)
        else:
            self._on_dropped(1)

    def close(self, timeout: float = 10.0) -> None:
        """Write what waits, and end. What the database does not take in `timeout` seconds is dropped."""
        self._closing.set()
        self._writer.join(timeout)

    def _write_forever(self) -> None:
        batch: list[Impression] = []
        while not self._closing.is_set() or self._waiting or batch:
            while self._waiting and len(batch) < BATCH:
                batch.append(self._waiting.popleft())
            refused: list[DatabaseError | ValueError] = []
            batch = self._store(batch, refused)
            if refused:
                logger.error("%d impressions are dropped, the database refuses them: %s", len(refused), refused[0])
                self._on_dropped(len(refused))
            if not batch:
                if len(self._waiting) < BATCH:  # else there is enough for the next one already
                    self._closing.wait(GATHER_SECONDS)
            elif self._closing.is_set():
                self._on_dropped(len(batch) + len(self._waiting))
                return
            else:
                self._closing.wait(RETRY_SECONDS)

    def _store(self, batch: list[Impression], refused: list[DatabaseError | ValueError]) -> list[Impression]:
        """Write `batch`. What of it is to be tried again; `refused` gets why, for each that will never be taken."""
        if not batch:
            return []
        try:
            with self._database.begin() as connection:
                connection.execute(self._insert, {"rows": f"[{','.join(each.row() for each in batch)}]"})
        except (DatabaseError, ValueError) as error:
            if isinstance(error, DatabaseError) and error.transient:
                if not self._failing:
                    logger.error("impressions cannot be written, and wait: %s", error.said)
                self._failing = True
                return batch
            if len(batch) > 1:
                half = len(batch) // 2
                return self._store(batch[:half], refused) + self._store(batch[half:], refused)
            refused.append(error)
            return []
        if self._failing:
            logger.warning("impressions are written again")
        self._failing = False
        self._on_stored(len(batch))
        return []


def _insert(database: Engine) -> TextClause:
    """The statement, which takes all rows as one JSON text.

    The database takes it apart, and meanwhile answers go on: with a row a parameter set, this thread would ask for the
    interpreter, and get it, once for every row.
    """
    columns = [column for column in impressions.columns if column.name != "seq"]
    values = [f"value ->> {place}" for place in range(len(columns))]
    rows = "json_each(:rows)"
    if database.dialect.name == "postgresql":
        types = [column.type.compile(database.dialect) for column in columns]
        values = [f"CAST({value} AS {kind})" for value, kind in zip(values, types, strict=True)]
        rows = "json_array_elements(CAST(:rows AS JSON)) AS each (value)"
    names = ", ".join(column.name for column in columns)
    return text(f"INSERT INTO impressions ({names}) SELECT {', '.join(values)} FROM {rows}")  # noqa: S608
