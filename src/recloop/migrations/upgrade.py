"""Bringing a database to the newest revision: one process at a time, all or nothing."""

from __future__ import annotations

import logging
from pathlib import Path

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, Engine, func, select

from recloop.errors import DatabaseError
from recloop.migrations.revision import VERSION_TABLE, revision_of

logger = logging.getLogger("recloop.storage")

TURN_KEY = 0x6D696772
"""PostgreSQL's advisory locks are numbers; this one says "migr"."""
TURN_SECONDS = 600
"""How long another process's migration is waited for: an index over many millions of events takes minutes."""
TABLE_SECONDS = 30
"""How long a reader of a table is waited for: while PostgreSQL waits to change a table, others wait to use it."""


def upgrade(engine: Engine) -> None:
    """Apply what the database lacks, in one transaction: whoever is killed in the middle leaves it as it was.

    Raises:
        DatabaseError: it is of a revision that is not known here, is locked for long, or does not answer.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    script = ScriptDirectory(Path(__file__).parent)
    with engine.begin() as connection:
        _take_turn(connection)
        before = revision_of(connection)
        missing = _missing(script, before, engine)
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        with Operations.context(context):
            for revision in missing:
                revision.module.upgrade()
                context.stamp(script, revision.revision)
    if missing:
        logger.info("the database is of revision %s now, after %s", missing[-1].revision, before or "none")


def _take_turn(connection: Connection) -> None:
    """Keep every other process from migrating until the transaction ends, however it ends."""
    if connection.dialect.name == "sqlite":
        # The driver begins a transaction before an INSERT, but not before a CREATE TABLE.
        connection.exec_driver_sql("BEGIN IMMEDIATE", execution_options={"lock_seconds": TURN_SECONDS})
    else:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{TURN_SECONDS}s'")
        connection.execute(select(func.pg_advisory_xact_lock(TURN_KEY)))
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{TABLE_SECONDS}s'")


def _missing(script: ScriptDirectory, before: str | None, engine: Engine) -> list[Script]:
    """The revisions after `before`, oldest first."""
    revisions = list(script.walk_revisions())[::-1]
    known = [None, *(revision.revision for revision in revisions)]
    if before not in known:
        raise DatabaseError(
            engine.url.render_as_string(hide_password=True),
            f"its tables are of revision {before}, and this version of recloop knows them up to {known[-1]}",
            remedy="update recloop; or put the backup from before the tables were changed in the database's place",
            transient=False,
        )
    return revisions[known.index(before) :]
