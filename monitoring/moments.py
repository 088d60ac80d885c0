"""Times: whole microseconds since 1970 (UTC) in the database, UTC moments for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_micros(moment: datetime) -> int:
    """A moment as µs; one without a zone is UTC."""
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (aware - EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """µs as a moment in UTC, exactly."""
    return EPOCH + timedelta(microseconds=micros)


def spoken(micros: int) -> str:
    """µs as people read it: `2026-11-24 03:41:07 UTC`."""
    return from_micros(micros).strftime("%Y-%m-%d %H:%M:%S UTC")
