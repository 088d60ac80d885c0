"""The project's SQL database: SQLite embedded, PostgreSQL in production; the same code for both.

Each owner declares its tables on `metadata` (events and impressions in `serving/`, verdicts in `monitoring/`, the
champion's history in `registry/`); `migrations/` makes them, and keeps what is in them when they change. Times are
whole microseconds since 1970 in UTC, which both databases keep exactly.
"""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, ExceptionContext, ExecutionContext, MetaData, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, NoSuchModuleError, OperationalError, SQLAlchemyError

from recloop.errors import ROOM_REMEDY, ConfigError, DatabaseError
from recloop.migrations.revision import NEWEST, revision_of

metadata = MetaData()

LOCK_SECONDS = 30.0
"""How long a statement waits for what another process has locked in SQLite."""
ASK_SECONDS = 0.02
"""How long SQLite itself waits. It asks ever more rarely, so that among busy writers whoever has waited longest has the
least chance: with four processes some waited for seconds. Begun anew so often, none waits longer than the others."""

TO_A_SERVER = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,  # milliseconds; the others are seconds
}
"""How soon it is noticed that PostgreSQL's machine is gone: by itself, TCP takes a quarter of an hour, or for ever.
What the URL says goes before."""

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY)
"""What passes when the other process is done. Not so a transaction that read before somebody else wrote."""


def now_us() -> int:
    """The time, in microseconds since 1970 (UTC)."""
    return time.time_ns() // 1000


def connect(url: str, *, lock_seconds: float | None = None) -> Engine:
    """An engine for `url`, whose tables are all there, of the newest revision.

    SQLite runs in WAL mode with full synchronisation: a committed row survives a kill and a power cut, and
    readers do not wait for the writer.

    Args:
        url: of the database; PostgreSQL's as its other clients take it, too (`postgresql://…`, `postgres://…`), with
            the parameters of libpq behind a `?`.
        lock_seconds: how long a statement may wait for a lock; by default LOCK_SECONDS in SQLite, and as long as
            it takes in PostgreSQL.

    Raises:
        ConfigError: the URL is not one, or names a database that is kept in memory or for which there is no driver.
        DatabaseError: the database does not answer, is damaged, or is of a newer revision than this code.
    """
    engine = unconnected(url, lock_seconds=lock_seconds)
    with engine.connect() as connection:
        up_to_date = revision_of(connection) == NEWEST
    if not up_to_date:
        from recloop.migrations.upgrade import upgrade

        upgrade(engine)
    return engine


def unconnected(url: str, *, lock_seconds: float | None = None) -> Engine:
    """An engine for `url` that nobody has asked anything yet. Its errors are DatabaseErrors.

    Args:
        url, lock_seconds: as `connect` has them.

    Raises:
        ConfigError: as `connect` does.
    """
    try:
        url = _with_driver(url)
        if make_url(url).get_backend_name() == "sqlite":
            engine = _sqlite(url, LOCK_SECONDS if lock_seconds is None else lock_seconds)
        else:
            engine = _server(url, lock_seconds)
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
        why = f"its driver is not installed: {error}" if isinstance(error, ImportError) else error
        raise ConfigError(
            f"storage.database_url, or RECLOOP_DATABASE_URL, cannot be used: {why}",
            remedy="e.g. sqlite:///var/recloop.db or postgresql://user@host/name",
        ) from error
    event.listen(engine, "handle_error", _as_ours)
    return engine


def _with_driver(url: str) -> str:
    """PostgreSQL's own URLs with the driver that we have: SQLAlchemy looks for psycopg2, and knows no `postgres`."""
    scheme, colon, rest = url.partition(":")
    return f"postgresql+psycopg:{rest}" if colon and scheme in ("postgres", "postgresql") else url


def _server(url: str, lock_seconds: float | None) -> Engine:
    where = make_url(url)
    postgresql = where.get_backend_name() == "postgresql"
    own = {name: value for name, value in TO_A_SERVER.items() if postgresql and name not in where.query}
    engine = create_engine(where, pool_pre_ping=True, connect_args=own)
    if lock_seconds is not None:

        def limit_waiting(connection: Any, _record: Any) -> None:
            connection.execute(f"SET lock_timeout = {round(lock_seconds * 1000)}")
            connection.commit()

        event.listen(engine, "connect", limit_waiting)
    return engine


def _sqlite(url: str, lock_seconds: float) -> Engine:
    file = make_url(url).database
    if not file or file == ":memory:" or file.startswith("file:"):
        raise ValueError("it names no file, and what is kept in memory is lost with the process")
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": ASK_SECONDS})

    def execute(cursor: Any, statement: str, parameters: Any, context: ExecutionContext) -> bool:
        _persist(lambda: cursor.execute(statement, parameters), _seconds(context))
        return True

    def execute_many(cursor: Any, statement: str, parameters: Any, context: ExecutionContext) -> bool:
        _persist(lambda: cursor.executemany(statement, parameters), _seconds(context))
        return True

    def _seconds(context: ExecutionContext) -> float:
        return float(context.execution_options.get("lock_seconds", lock_seconds))

    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "do_execute", execute)
    event.listen(engine, "do_executemany", execute_many)
    return engine


def _configure_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    try:
        # Processes that open a new file at once all want it to themselves for this.
        _persist(lambda: cursor.execute("PRAGMA journal_mode=WAL"), LOCK_SECONDS)
        cursor.execute("PRAGMA synchronous=FULL")
    finally:
        cursor.close()
    connection.create_function("hashtext", 1, _hashtext, deterministic=True)  # as PostgreSQL has one


def _hashtext(text: str | None) -> int | None:
    """A number for a text, the same each time; not PostgreSQL's."""
    return None if text is None else zlib.crc32(text.encode())


def _persist(execute: Callable[[], object], seconds: float) -> None:
    """Execute a statement; where another process has locked what it needs, again and again for so many seconds."""
    until = time.monotonic() + seconds
    while True:
        try:
            execute()
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", None) not in _BUSY or time.monotonic() > until:
                raise
            time.sleep(0.001)  # in some cases SQLite does not wait at all
        else:
            return


def _as_ours(context: ExceptionContext) -> None:
    """Raise what the database said as a DatabaseError that names it and the mend."""
    error = context.sqlalchemy_exception or context.original_exception
    if context.engine is None or not isinstance(error, SQLAlchemyError | sqlite3.Error):
        return  # no engine: the ping before a connection is used again; when that fails, the pool opens a new one
    said = (str(context.original_exception).strip().splitlines() or [type(error).__name__])[0]
    transient = isinstance(error, OperationalError | InterfaceError | sqlite3.OperationalError)
    transient &= "malformed JSON" not in said  # what SQLite calls operational, too
    if "is full" in said:
        remedy = ROOM_REMEDY
    elif "not a database" in said or "malformed" in said:
        remedy = "put its last backup in its place; or move it away, and a new and empty one is made"
    elif "is locked" in said or "lock timeout" in said:
        remedy = "another process has locked it: try again when that is done, or end it"
    else:
        remedy = "start it, or mend storage.database_url (or RECLOOP_DATABASE_URL)"
    where = context.engine.url.render_as_string(hide_password=True)
    raise DatabaseError(where, said, remedy=remedy, transient=transient) from error
