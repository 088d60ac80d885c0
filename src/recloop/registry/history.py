"""Who was champion, from when to when, and why: an append-only table beside MLflow, which keeps no such
history.

The alias in MLflow is the truth of who is live now; the table is the memory of how it came to be. Where the
two differ (somebody moved the alias by hand, recloop was killed between the alias and the row, or the
database is newer than the registry), `reconcile` appends a row that says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import JSON, BigInteger, Column, Engine, Integer, Select, String, Table, func, insert, select

from recloop.project import Project
from recloop.registry.locks import held
from recloop.registry.tracking import open_tracking
from recloop.registry.versions import Version, champion
from recloop.storage import connect, metadata, now_us

Action = Literal["promote", "rollback", "outside"]

championships = Table(
    "championships",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("name", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("package_sha256", String, nullable=False),
    Column("model", String, nullable=False),
    Column("previous", Integer),
    Column("action", String(16), nullable=False),
    Column("reason", String, nullable=False),
    Column("numbers", JSON, nullable=False),
)

MOVED = "the alias was found moved: by hand, or by a promotion that was killed before it was recorded"
FOUND = "champion already when this history began: in a new database beside an older registry, or by a killed promotion"
TURN_KEY = 0x7265636C
"""PostgreSQL's advisory locks are numbers; this one says "recl"."""


@dataclass(frozen=True)
class Championship:
    """One change of champion."""

    seq: int
    at: int
    """µs since 1970, UTC"""
    name: str
    """The registered model: `promotion.model_name`"""
    version: int
    package_sha256: str
    """With the version's number, who it is: a registry that was begun anew counts from 1 again."""
    model: str
    """Its name in the catalogue."""
    previous: int | None
    """Who was champion before, if anybody."""
    action: Action
    reason: str
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[int, str]:
        return self.version, self.package_sha256


@dataclass(frozen=True)
class History:
    """All changes of champion, oldest first, as a table for people."""

    rows: tuple[Championship, ...]
    champion: int | None
    """Who is live now; nobody, if the alias was deleted by hand."""

    def __str__(self) -> str:
        if not self.rows:
            return "no version has been champion yet: `recloop promote` makes one"
        ends = [_moment(row.at) for row in self.rows[1:]]
        ends.append("now" if self.champion is not None else "? (no champion now)")
        lines = [("version", "model", "from (UTC)", "until", "by", "why")]
        lines += [
            (
                f"v{row.version}",
                row.model,
                _moment(row.at),
                end,
                row.action,
                row.reason,
            )
            for row, end in zip(self.rows, ends, strict=True)
        ]
        widths = [max(len(line[column]) for line in lines) for column in range(5)]
        return "\n".join(
            "  ".join([cell.ljust(width) for cell, width in zip(line, [*widths, 0], strict=True)]).rstrip()
            for line in lines
        )


@dataclass(frozen=True)
class Ledger:
    """The changes of champion of one registered model."""

    engine: Engine
    name: str

    def rows(self) -> tuple[Championship, ...]:
        """All of them, oldest first."""
        with self.engine.connect() as connection:
            found = connection.execute(self._query().order_by(championships.c.seq)).mappings().all()
        return tuple(Championship(**row) for row in found)

    def last(self) -> Championship | None:
        """The newest, if there is one."""
        with self.engine.connect() as connection:
            query = self._query().order_by(championships.c.seq.desc()).limit(1)
            found = connection.execute(query).mappings().first()
        return Championship(**found) if found else None

    def append(
        self, version: Version, previous: int | None, action: Action, reason: str, numbers: dict[str, Any]
    ) -> None:
        """Add a row. Call it within `turn`."""
        row = {
            "at": now_us(),
            "name": self.name,
            "version": version.number,
            "package_sha256": version.package_sha256,
            "model": version.model,
            "previous": previous,
            "action": action,
            "reason": reason,
            "numbers": numbers,
        }
        with self.engine.begin() as connection:
            connection.execute(insert(championships).values(row))

    def reconcile(self, champion: Version | None) -> bool:
        """Append an `outside` row if the alias names another version than the newest row. Call it within `turn`."""
        newest = self.last()
        if champion is None or (newest is not None and newest.identity == champion.identity):
            return False
        self.append(champion, newest.version if newest else None, "outside", MOVED if newest else FOUND, {})
        return True

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until nobody else is changing the champion, and keep others waiting meanwhile.

        A write transaction on SQLite would do as well, but it would keep the endpoint from storing events for as
        long as MLflow takes to answer. So: a file lock beside an SQLite database, an advisory lock in PostgreSQL.
        """
        if self.engine.dialect.name == "sqlite":
            with held(Path(f"{self.engine.url.database}.champion.lock")):
                yield
        else:
            with self.engine.begin() as connection:
                connection.execute(select(func.pg_advisory_xact_lock(TURN_KEY)))
                yield

    def _query(self) -> Select[Any]:
        return select(championships).where(championships.c.name == self.name)


def ledger(project: Project) -> Ledger:
    """The project's own.

    Raises:
        DatabaseError: the database does not answer.
    """
    return Ledger(connect(project.database_url), project.params.promotion.model_name)


def stack(history: Sequence[Championship]) -> tuple[tuple[int, str], ...]:
    """Who a rollback can return to (`identity`), the champion last.

    A promotion goes on top; a rollback takes the top away, so that rolling back twice goes two versions back
    and never forth again. An alias moved by hand to a version in the stack is a rollback by hand; to another,
    a promotion.
    """
    versions: list[tuple[int, str]] = []
    for row in history:
        if row.action != "promote" and row.identity in versions:
            last_at = len(versions) - 1 - versions[::-1].index(row.identity)
            del versions[last_at + 1 :]
        elif not versions or versions[-1] != row.identity:
            versions.append(row.identity)
    return tuple(versions)


def show_history(project: Project) -> History:
    """Who was champion, from when to when, and why.

    Raises:
        RegistryError: MLflow does not answer.
    """
    tracking, kept = open_tracking(project), ledger(project)
    with kept.turn():
        live = champion(tracking)
        kept.reconcile(live)
    return History(kept.rows(), live.number if live else None)


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")
