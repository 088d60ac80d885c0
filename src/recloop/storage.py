"""The project's SQL database: SQLite embedded, PostgreSQL in production; the same code for both.

Each owner declares its tables on `metadata` (events and impressions in `serving/`, verdicts in `monitoring/`, the
champion's history in `registry/`). Times are whole microseconds since 1970 in UTC, which both databases keep
exactly.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, MetaData, create_engine, event
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError

from recloop.errors import ConfigError, RecloopError

metadata = MetaData()


def now_us() -> int:
    """The time, in microseconds since 1970 (UTC)."""
    return time.time_ns() // 1000


def connect(url: str) -> Engine:
    """An engine for `url`, with the tables that have been declared so far.

    SQLite runs in WAL mode with full synchronisation: a committed row survives a kill and a power cut, and
    readers do not wait for the writer.

    Raises:
        ConfigError: the URL is not one.
        RecloopError: the database does not answer.
    """
    try:
        if url.startswith("sqlite:///"):
            Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(url, connect_args={"timeout": 30})
            event.listen(engine, "connect", _configure_sqlite)
        else:
            engine = create_engine(url, pool_pre_ping=True)
        metadata.create_all(engine)
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise ConfigError(
            f"storage.database_url is not a database URL: {error}",
            remedy="e.g. sqlite:///var/recloop.db or postgresql+psycopg://user@host/name",
        ) from error
    except OperationalError as error:
        raise RecloopError(
            f"the database {_without_password(url)} does not answer: {error.orig}",
            remedy="start it, or set storage.database_url (or RECLOOP_DATABASE_URL)",
        ) from error
    return engine


def _configure_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.close()


def _without_password(url: str) -> str:
    from sqlalchemy import make_url

    return make_url(url).render_as_string(hide_password=True)
