"""What was shown to whom, written down beside the answers, never in their way.

Answers put their impression into a bounded queue; one thread writes batches. While the database stalls the
queue fills, and then impressions are dropped and counted, and answers go on.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from sqlalchemy import JSON, BigInteger, Column, Engine, Integer, Table, Text, insert

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
    sqlite_autoincrement=True,
)

BATCH = 500
GATHER_SECONDS = 0.1
"""How long the writer gathers before it commits: one flush to disk for many answers."""
RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class Impression:
    """One list that was shown. `served_at` is in microseconds since 1970 (UTC)."""

    request_id: str
    user_id: str | None
    served_at: int
    version: int
    variant: str
    strategy: str
    items: tuple[str, ...]
    scores: tuple[float, ...]
    history_length: int


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
        self._database = database
        self._waiting: queue.Queue[Impression] = queue.Queue(limit)
        self._on_stored, self._on_dropped = on_stored, on_dropped
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._write_forever, name="impressions", daemon=True)
        self._failing = False
        self._writer.start()

    def put(self, impression: Impression) -> None:
        """Hand over one impression; never waits."""
        try:
            self._waiting.put_nowait(impression)
        except queue.Full:
            self._on_dropped(1)

    def close(self, timeout: float = 10.0) -> None:
        """Write what waits, and end. What the database does not take in `timeout` seconds is dropped."""
        self._closing.set()
        self._writer.join(timeout)

    def _write_forever(self) -> None:
        batch: list[Impression] = []
        while not self._closing.is_set() or not self._waiting.empty() or batch:
            batch += self._gather(BATCH - len(batch))
            if not batch:
                continue
            if self._store(batch):
                batch = []
            elif self._closing.is_set():
                self._on_dropped(len(batch) + self._waiting.qsize())
                return
            else:
                self._closing.wait(RETRY_SECONDS)

    def _gather(self, room: int) -> list[Impression]:
        """Up to `room` impressions: those that come within a moment of the first."""
        gathered: list[Impression] = []
        until = time.monotonic() + GATHER_SECONDS
        while len(gathered) < room:
            patience = 0.0 if self._closing.is_set() else max(0.0, until - time.monotonic())
            try:
                gathered.append(self._waiting.get(block=patience > 0, timeout=patience or None))
            except queue.Empty:
                break
        return gathered

    def _store(self, batch: list[Impression]) -> bool:
        """Write `batch`, or drop what the database will never take. False: try again later."""
        try:
            with self._database.begin() as connection:
                connection.execute(insert(impressions), [asdict(impression) for impression in batch])
        except (DatabaseError, ValueError) as error:
            if isinstance(error, DatabaseError) and error.transient:
                if not self._failing:
                    logger.error("impressions cannot be written, and wait: %s", error.said)
                self._failing = True
                return False
            logger.error("%d impressions are dropped, the database refuses them: %s", len(batch), error)
            self._on_dropped(len(batch))
            return True
        if self._failing:
            logger.warning("impressions are written again")
        self._failing = False
        self._on_stored(len(batch))
        return True
