"""Events that were refused for what is in them: how many, why, and in which hour; never what was in them.

What is refused is not stored, so that nobody would notice a release of a client that breaks a field. A refusal costs an
addition in memory; what has come together is added to the table beside the answers.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, Engine, Table, Text, text

from recloop.serving.parsing import RefusedError
from recloop.serving.schemas import EventRequest, EventsRequest
from recloop.storage import metadata, now_us

refusals = Table(
    "refusals",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),  # when it began, by our clock
    Column("reason", Text, primary_key=True),  # field: what is wrong with it
    Column("events", BigInteger, nullable=False),  # that were refused
    Column("requests", BigInteger, nullable=False),  # in so many requests
)

HOUR_US = 3_600_000_000
MOST = 10_000
"""Counts that are kept while the database is away: those of a week, where there is every reason in every hour"""
KINDS: Mapping[str, str] = {
    "missing": "missing",
    "string_too_short": "missing",
    "too_short": "missing",
    "extra_forbidden": "not allowed",
    "not_allowed": "not allowed",
    "out_of_range": "out of range",
    "too_many": "too many",
}
"""Type of a fault, as pydantic or a check of the schemas has it → kind; any other is `malformed`, of null `missing`"""
_FIELDS = {*EventRequest.model_fields, *EventsRequest.model_fields}

ADD = text(
    "INSERT INTO refusals (hour, reason, events, requests) VALUES (:hour, :reason, :events, :requests) "
    "ON CONFLICT (hour, reason) DO UPDATE "
    "SET events = refusals.events + excluded.events, requests = refusals.requests + excluded.requests"
)
"""What a row has comes on top of what is there, whoever put it there."""


@dataclass
class _Count:
    """Of one reason in one hour."""

    events: int = 0
    requests: int = 0


class Refusals:
    """Counts refused events. Safe to use from several threads, and from several processes on one database."""

    def __init__(self, database: Engine) -> None:
        self._database = database
        self._counts: dict[tuple[int, str], _Count] = {}
        self._changing = threading.Lock()

    def count(self, error: RefusedError) -> None:
        """Count what is refused with `error`, in memory. Beyond MOST counts new ones are lost."""
        hour = now_us() // HOUR_US * HOUR_US
        self._add({(hour, reason): _Count(events, 1) for reason, events in reasons(error).items()})

    def write(self) -> None:
        """Add to the table what was counted since the last time. What the database does not take waits for the next.

        Raises:
            DatabaseError: the database does not answer.
        """
        with self._changing:
            counts, self._counts = self._counts, {}
        if not counts:
            return
        # Everybody in one order, so that no two processes wait for each other.
        rows = [{"hour": hour, "reason": reason, **vars(count)} for (hour, reason), count in sorted(counts.items())]
        try:
            with self._database.begin() as connection:
                connection.execute(ADD, rows)
        except BaseException:
            self._add(counts)
            raise

    def _add(self, counts: Mapping[tuple[int, str], _Count]) -> None:
        with self._changing:
            for key, more in counts.items():
                if key in self._counts or len(self._counts) < MOST:
                    count = self._counts.setdefault(key, _Count())
                    count.events += more.events
                    count.requests += more.requests


def reasons(error: RefusedError) -> dict[str, int]:
    """Why a request with events is refused → how many events for that.

    Each event that has a fault counts once, by the first of its faults; the others of the request, which are not stored
    either, do not. Of a request that is itself at fault all events count, and one where it is not known how many.
    """
    of_events: dict[int, str] = {}
    for fault in error.faults:
        match fault["loc"]:
            case ("events", int() as place, *within):
                of_events.setdefault(place, _reason(within[:1] or ["events"], fault))
            case within:
                given = error.content.get("events") if isinstance(error.content, dict) else None
                return {_reason(within[:1], fault): max(1, len(given)) if isinstance(given, list) else 1}
    counts: dict[str, int] = {}
    for reason in of_events.values():
        counts[reason] = counts.get(reason, 0) + 1
    return counts or {"body: malformed": 1}


def _reason(within: Sequence[Any], fault: Any) -> str:
    """Never a name that the client gave: there is no end of those."""
    field = "body" if not within else within[0] if within[0] in _FIELDS else "another key"
    kind = KINDS.get(fault["type"]) or ("missing" if fault["input"] is None else "malformed")
    return f"{field}: {kind}"
