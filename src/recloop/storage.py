"""The project's SQL database: SQLite embedded, PostgreSQL in production; the same code for both.

Each owner declares its tables on `metadata` (events and impressions in `serving/`, verdicts in `monitoring/`, the
champion's history in `registry/`). Times are whole microseconds since 1970 in UTC, which both databases keep
exactly.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, ExceptionContext, MetaData, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, NoSuchModuleError, OperationalError, SQLAlchemyError

from recloop.errors import ROOM_REMEDY, ConfigError, DatabaseError

metadata = MetaData()


def now_us() -> int:
    """The time, in microseconds since 1970 (UTC)."""
    return time.time_ns() // 1000


def connect(url: str) -> Engine:
    """An engine for `url`, with the tables that have been declared so far. Its errors are DatabaseErrors.

    SQLite runs in WAL mode with full synchronisation: a committed row survives a kill and a power cut, and
    readers do not wait for the writer.

    Raises:
        ConfigError: the URL is not one, or names a database that is kept in memory or for which there is no driver.
        DatabaseError: the database does not answer, or is damaged.
    """
    try:
        if make_url(url).get_backend_name() == "sqlite":
            engine = _sqlite(url)
        else:
            engine = create_engine(url, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
        why = f"its driver is not installed: {error}" if isinstance(error, ImportError) else error
        raise ConfigError(
            f"storage.database_url, or RECLOOP_DATABASE_URL, cannot be used: {why}",
            remedy="e.g. sqlite:///var/recloop.db or postgresql+psycopg://user@host/name",
        ) from error
    event.listen(engine, "handle_error", _as_ours)
    metadata.create_all(engine)
    return engine


def _sqlite(url: str) -> Engine:
    file = make_url(url).database
    if not file or file == ":memory:" or file.startswith("file:"):
        raise ValueError("it names no file, and what is kept in memory is lost with the process")
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": 30})
    event.listen(engine, "connect", _configure_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA busy_timeout=30000")
    finally:
        cursor.close()


def _as_ours(context: ExceptionContext) -> None:
    """Raise what the database said as a DatabaseError that names it and the mend."""
    error = context.sqlalchemy_exception or context.original_exception
    if context.engine is None or not isinstance(error, SQLAlchemyError | sqlite3.Error):
        return  # no engine: the ping before a connection is used again; when that fails, the pool opens a new one
    said = (str(context.original_exception).strip().splitlines() or [type(error).__name__])[0]
    transient = isinstance(error, OperationalError | InterfaceError | sqlite3.OperationalError)
    if "is full" in said:
        remedy = ROOM_REMEDY
    elif "not a database" in said or "malformed" in said:
        remedy = "put its last backup in its place; or move it away, and a new and empty one is made"
    else:
        remedy = "start it, or mend storage.database_url (or RECLOOP_DATABASE_URL)"
    where = context.engine.url.render_as_string(hide_password=True)
    raise DatabaseError(where, said, remedy=remedy, transient=transient) from error
