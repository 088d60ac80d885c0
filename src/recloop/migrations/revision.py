"""Which revision a database is of. Every command asks, so it costs two small queries, and Alembic is not imported."""

from __future__ import annotations

from sqlalchemy import Connection, Text, column, inspect, select, table

NEWEST = "0007"
"""The last file in `versions/`"""
VERSION_TABLE = "recloop_version"
"""Not Alembic's usual name: Optuna keeps its own revision under that, in the same SQLite file."""

_QUERY = select(column("version_num", Text)).select_from(table(VERSION_TABLE))


def revision_of(connection: Connection) -> str | None:
    """The revision of the tables; None where there are none yet, or where they are older than revisions are."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(_QUERY).scalar()
