"""Group commit: while one transaction is on its way to the disk, the events of all other requests gather for the next.

A commit costs a flush to disk, whatever is in it. One for each request would allow some hundred requests a second.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from recloop.errors import DatabaseError, OverloadError, ServingError
from recloop.serving.events import Event, EventStore, Stored, unavailable


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A request's events, and where it waits for what becomes of them."""

    batch: Sequence[Event]
    future: Future[Stored] = field(default_factory=Future)


class EventWriter:
    """One thread that stores what all requests hand over. `close` stores what waits.

    Args:
        store: where the events go.
        limit: events that may wait.
    """

    def __init__(self, store: EventStore, *, limit: int) -> None:
        self._store, self._limit = store, limit
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._events = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    def submit(self, batch: Sequence[Event]) -> Future[Stored]:
        """Hand over a request's events; never waits. They are committed when the future has a result.

        The future's error is a ServingError where the database does not answer, or does not take this batch.
        Nothing of it is stored then, and other requests are not affected. A future that is cancelled while it
        waits takes its events with it.

        Raises:
            OverloadError: more events would wait than may.
            ServingError: it was closed.
        """
        with self._changed:
            if self._closing:
                raise ServingError("the endpoint is stopping", remedy="send the events again when it is back")
            if self._waiting and self._events + len(batch) > self._limit:
                raise OverloadError(
                    f"{self._events:,} events wait for the database already",
                    remedy="send them again later; an event that was stored is not counted twice",
                )
            waiting = _Waiting(batch)
            self._waiting.append(waiting)
            self._events += len(batch)
            self._changed.notify()
        return waiting.future

    def close(self, timeout: float = 10.0) -> None:
        """Take no more, store what waits, and end. What the database has not taken in `timeout` seconds is lost."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        while group := self._take():
            self._settle([each for each in group if each.future.set_running_or_notify_cancel()])

    def _take(self) -> list[_Waiting]:
        """All that waits, in order; nothing when it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            group, self._waiting, self._events = self._waiting, [], 0
            return group

    def _settle(self, group: list[_Waiting]) -> None:
        """Store `group` in one transaction, and tell everybody; where one of it is refused, the others in fewer."""
        try:
            stored = self._store.add_all([each.batch for each in group])
        except Exception as error:
            transient = isinstance(error, DatabaseError) and error.transient
            if not transient and len(group) > 1:
                half = len(group) // 2
                self._settle(group[:half])
                self._settle(group[half:])
                return
            for each in group:
                each.future.set_exception(unavailable(error) if isinstance(error, DatabaseError) else error)
        else:
            for each, became in zip(group, stored, strict=True):
                each.future.set_result(became)
