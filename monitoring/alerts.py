"""Alerts: people hear of what is wrong, once for one cause.

An alert is open from when its cause is first found until somebody says that it is gone. While it is open it counts up,
and is sent again only when it has become graver, or after `alerts.repeat_hours`; or to channels of whoever finds it
that have not been told, for a person's shell may have fewer than the platform. That there is one row for an open
cause the database sees to, and that one process sends it a mark in the row; so it does not matter how many find it.

What is to be sent is written down before it is sent, and crossed out after: a channel that does not answer, or a
process that is killed, leaves it to whoever comes next. So a channel may be told twice, but no alert is lost.

Where the database itself is what is wrong, channels are told at once, and a file says of what: not again before
`alerts.repeat_hours` are over.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import JSON, BigInteger, Column, Engine, Index, Integer, Table, Text, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from monitoring.channels import Channel, Message, logger
from monitoring.moments import spoken
from recloop.config import SEVERITIES, Alerting, Severity
from recloop.errors import DatabaseError, RecloopError
from recloop.files import read_json, write_json
from recloop.storage import metadata

alerts = Table(
    "alerts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("cause", Text, nullable=False),
    Column("severity", Text, nullable=False),  # the gravest it was found with
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("times", Integer, nullable=False),
    Column("sent_at", BigInteger),  # when it last was to be sent to all
    Column("waiting", JSON(none_as_null=True)),  # channels that are still to be told; null: none
    Column("told", JSON(none_as_null=True)),  # channels that have been, since it was last to be sent to all; null: none
    Column("sending_since", BigInteger),  # null: nobody is sending it
    Column("failed", Text),  # why channels are still to be told
    Column("resolved_at", BigInteger),  # null: it is open
)
OPEN = alerts.c.resolved_at.is_(None)
Index("ix_alerts_open_cause", alerts.c.cause, unique=True, sqlite_where=OPEN, postgresql_where=OPEN)

_INSERT: dict[str, Callable[[Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
HOUR = 3_600_000_000
GIVEN_UP = 300_000_000
"""µs after which whoever began to send an alert is taken to be dead: no channel takes as long."""
SLOW_SECONDS = 1.0
"""A channel that takes longer to fail stalls whoever raises alerts, and so is left alone for a while."""
PAUSE_SECONDS = 60.0

M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Alert:
    """Something is wrong."""

    cause: str
    """What, in words that stay the same as long as it is: `drift of version 7: unknown_items`"""
    severity: Severity
    title: str
    """A line, for people"""
    text: str
    """The figures, and what to do"""


@dataclass(frozen=True)
class OpenAlert(Message):
    """An alert whose cause is not known to be gone."""

    sent_at: int | None
    """When it was last sent, µs since 1970, UTC"""
    waiting: Sequence[str] | None
    """The channels that are still to be told; None: there are none"""
    failed: str | None
    """Why: what went wrong the last time"""

    def __str__(self) -> str:
        first, last = spoken(self.first_at), spoken(self.last_at)
        found = f"found {first}" if self.times == 1 else f"found {self.times:,} times, {first} to {last}"
        lines = [f"{self.severity}: {self.title}", *self.text.splitlines(), f"cause: {self.cause}", found]
        if self.waiting:
            lines.append(f"still to be sent to {', '.join(self.waiting)}{f' ({self.failed})' if self.failed else ''}")
        return "\n  ".join(lines)


class Alerts:
    """The alerts of one database. Nothing here raises but `open`: what is watched goes on without its watchman.

    Args:
        database: where the table is.
        settings: how often, and from which severity on.
        channels: who is told; `channels_of` makes those that are set up.
        unrecorded: the file that says what was told without the database; None: it is told each time.
        clock: seconds, from anywhere.
    """

    def __init__(
        self,
        database: Engine,
        settings: Alerting,
        channels: Sequence[Channel] = (),
        *,
        unrecorded: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._settings, self._unrecorded, self._clock = database, settings, unrecorded, clock
        self._channels = {channel.name: channel for channel in channels}
        self._paused: dict[str, float] = {}

    def raise_alert(self, alert: Alert, at: int) -> None:
        """Say that something is wrong, `at` µs since 1970 (UTC). Sent unless it has been; then `send` what waits."""
        try:
            self._record(alert, at)
        except DatabaseError as error:
            logger.error("the alert %r is not in the database: %s", alert.cause, error.message)
            self._tell_unrecorded(alert, at)
        else:
            self._is_back()
            self.send(at)

    def send(self, at: int) -> None:
        """Tell those who could not be told before. Worth calling from time to time, whatever is wrong or right."""
        try:
            with self._database.connect() as connection:
                rows = connection.execute(select(alerts).where(alerts.c.waiting.is_not(None)).order_by(alerts.c.id))
                found = [(row.id, row.waiting) for row in rows]
            for key, waiting in found:
                if self._ours(waiting):
                    self._send_one(key, at)
        except DatabaseError as error:
            logger.error("alerts are sent later: %s", error.message)

    def resolve(self, prefix: str, at: int, *, still: Collection[str] = ()) -> tuple[str, ...]:
        """Say that causes are gone; should one come back, it is a new alert.

        Args:
            prefix: of the causes: `drift of version 7: `. With the colon, lest version 70 be meant, too.
            at: when, µs since 1970, UTC.
            still: causes that are still there.

        Returns:
            The causes that were open.
        """
        begins = func.substr(alerts.c.cause, 1, len(prefix)) == prefix
        query = update(alerts).where(OPEN, begins, alerts.c.cause.not_in(still)).values(resolved_at=at)
        try:
            with self._database.begin() as connection:
                gone = tuple(sorted(connection.execute(query.returning(alerts.c.cause)).scalars()))
        except DatabaseError as error:
            logger.error("alerts stay open though their cause is gone (%s…): %s", prefix, error.message)
            return ()
        self._is_back()
        for cause in gone:
            logger.info("resolved: %s", cause)
        return gone

    def causes(self, prefix: str) -> tuple[str, ...]:
        """The open causes that begin so, the oldest first; none where the database does not answer."""
        begins = func.substr(alerts.c.cause, 1, len(prefix)) == prefix
        try:
            with self._database.connect() as connection:
                query = select(alerts.c.cause).where(OPEN, begins).order_by(alerts.c.id)
                return tuple(connection.execute(query).scalars())
        except DatabaseError as error:
            logger.error("which alerts are open is not known: %s", error.message)
            return ()

    def open(self) -> tuple[OpenAlert, ...]:
        """What is wrong at present, the oldest first.

        Raises:
            DatabaseError: the database does not answer.
        """
        with self._database.connect() as connection:
            rows = connection.execute(select(alerts).where(OPEN).order_by(alerts.c.id)).mappings()
            return tuple(_as(OpenAlert, row) for row in rows)

    def _record(self, alert: Alert, at: int) -> None:
        """Open it or count it up, and write down who is to be told."""
        new = vars(alert) | {"first_at": at, "last_at": at, "times": 1}
        counted = {"times": alerts.c.times + 1, "last_at": at}
        insert = _INSERT[self._database.dialect.name](alerts).values(new)
        query = insert.on_conflict_do_update(index_elements=[alerts.c.cause], index_where=OPEN, set_=counted)
        with self._database.begin() as connection:  # from the first statement on nobody else may write this row
            row = connection.execute(query.returning(alerts)).one()
            graver = _rank(alert.severity) > _rank(row.severity)
            severity = alert.severity if graver else row.severity
            values = vars(alert) | {"severity": severity}
            again = graver or row.sent_at is None or at - row.sent_at >= self._settings.repeat_hours * HOUR
            told = [] if again else row.told or []
            ours = [channel.name for channel in self._channels.values() if self._is_for(channel, severity)]
            waiting = dict.fromkeys(name for name in (*ours, *(row.waiting or [])) if name not in told)
            values |= {"waiting": list(waiting) or None}
            if again:
                values |= {"sent_at": at, "told": None}
            connection.execute(update(alerts).where(alerts.c.id == row.id).values(values))

    def _tell_unrecorded(self, alert: Alert, at: int) -> None:
        """Tell now each channel that the file does not say has been told."""
        before = self._told_unrecorded()
        heard = before.get(alert.cause, {})
        message = Message(**vars(alert), first_at=at, last_at=at, times=1)
        for name, channel in self._channels.items():
            due = at - heard.get(name, -math.inf) >= self._settings.repeat_hours * HOUR
            if due and self._is_for(channel, alert.severity) and self._tell(channel, message) is None:
                heard[name] = at
        if self._unrecorded is not None:
            try:
                write_json(self._unrecorded, before | {alert.cause: heard})
            except (RecloopError, OSError) as error:
                logger.error("the alert %r is told again the next time: %s", alert.cause, error)

    def _told_unrecorded(self) -> dict[str, dict[str, int]]:
        """Cause → channel → when it was told; nothing where there is no such file, or it is damaged."""
        if self._unrecorded is None or not self._unrecorded.exists():
            return {}
        try:
            return TypeAdapter(dict[str, dict[str, int]]).validate_python(
                read_json(self._unrecorded, remedy="delete it")
            )
        except (RecloopError, ValidationError):
            return {}

    def _is_back(self) -> None:
        """The database answers: what goes wrong with it next is another alert."""
        if self._unrecorded is not None:
            with suppress(OSError):
                self._unrecorded.unlink(missing_ok=True)

    def _is_for(self, channel: Channel, severity: Severity) -> bool:
        return channel.always or _rank(severity) >= _rank(self._settings.least)

    def _ours(self, waiting: Sequence[str]) -> list[str]:
        """Those of the channels that we can tell now."""
        now = self._clock()
        return [name for name in waiting if name in self._channels and self._paused.get(name, now) <= now]

    def _send_one(self, key: int, at: int) -> None:
        """Send one alert to those of our channels that wait for it, unless another process is at it."""
        idle = or_(alerts.c.sending_since.is_(None), alerts.c.sending_since <= at - GIVEN_UP)
        claim = update(alerts).where(alerts.c.id == key, alerts.c.waiting.is_not(None), idle)
        with self._database.begin() as connection:
            row = connection.execute(claim.values(sending_since=at).returning(alerts)).mappings().one_or_none()
        if row is None:
            return
        ours = self._ours(row["waiting"])
        message = _as(Message, row)
        if (over := row["resolved_at"]) is not None:  # before anybody could be told
            message = replace(message, text=f"{message.text}\nIt is over since {spoken(over)}.")
        whys = {name: why for name in ours if (why := self._tell(self._channels[name], message)) is not None}
        failed = "; ".join(f"{name}: {why}" for name, why in whys.items())
        told = [name for name in ours if name not in whys]
        of_it = alerts.c.id == key
        with self._database.begin() as connection:
            free = update(alerts).where(of_it).values(sending_since=None, failed=failed or None)
            now = connection.execute(free.returning(alerts)).mappings().one()
            # Where it was to be sent anew meanwhile, because it has become graver, all are to be told again.
            if now["sent_at"] == row["sent_at"]:
                waiting = [name for name in now["waiting"] or () if name not in told]
                known = [*(now["told"] or ()), *told]
                connection.execute(update(alerts).where(of_it).values(waiting=waiting or None, told=known or None))

    def _tell(self, channel: Channel, message: Message) -> str | None:
        """Why a channel could not be told; None if it was."""
        begun = self._clock()
        try:
            channel.tell(message)
        except Exception as error:  # a channel may be anything: none is to stop the others, or who raised the alert
            why = error.message if isinstance(error, RecloopError) else f"{type(error).__name__}: {error}"
            logger.error("alert %r could not be sent to %s: %s", message.cause, channel.name, why)
            if self._clock() - begun > SLOW_SECONDS:
                self._paused[channel.name] = self._clock() + PAUSE_SECONDS
            return why
        return None


def describe(found: Sequence[OpenAlert]) -> str:
    """Open alerts, for people."""
    return "\n".join(map(str, found)) or "no alert is open"


def _rank(severity: Severity) -> int:
    return SEVERITIES.index(severity)


def _as(kind: type[M], row: Mapping[Any, Any]) -> M:
    return kind(**{field.name: row[field.name] for field in fields(kind)})
