"""Verdicts in the database: what the monitor found, and what came of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Engine,
    Integer,
    Select,
    Table,
    Text,
    func,
    insert,
    or_,
    select,
    update,
)

from monitoring.moments import spoken
from monitoring.policy import RETRAIN, UNJUDGED, Outcome, Signal
from recloop.storage import metadata

verdicts = Table(
    "verdicts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("window_from", BigInteger, nullable=False),
    Column("window_to", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("events", Integer, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("signals", JSON, nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("report", Text),
    Column("acted", Text),
    Column("quality", JSON(none_as_null=True)),
    Column("asked_at", BigInteger),
    Column("taken", Text),
    Column("ended", Text),
)

ASKED = "asked for retraining"
IN_PLACE = f"{ASKED} in another's place"
COOLING = "cooling down"
FAILED = "the training failed"
CANCELLED = "a person cancelled the training"


@dataclass(frozen=True)
class Verdict:
    """What the monitor found in one window. Times are µs since 1970, UTC."""

    id: int
    """0 until it is stored"""
    at: int
    window_from: int
    window_to: int
    version: int
    """The model that was live"""
    events: int
    """Events in the window"""
    verdict: Outcome
    signals: tuple[Signal, ...]
    reasons: tuple[str, ...]
    report: str | None
    """Path of the HTML report, relative to the project; None where there was too little to report on"""
    acted: str | None = None
    """What came of it: `asked for retraining: …`, `the training failed: …`, `rolled back: …`, why it waits (`cooling
    down since …`, `quiet hours until …`), or nothing yet"""
    quality: dict[str, Any] | None = None
    """What users made of the lists whose time for feedback ended in the window; None: there were too few"""
    asked_at: int | None = None
    """When a retraining was asked for because of it"""
    taken: str | None = None
    """The training that took it up"""
    ended: str | None = None
    """What came of that"""

    @property
    def wants_training(self) -> bool:
        """Whether it is a reason to retrain that no training has taken up."""
        return self.verdict in RETRAIN and self.taken is None

    @property
    def failed(self) -> bool:
        """Whether the training that took it up came to nothing."""
        return self.acted is not None and self.acted.startswith(FAILED)

    @property
    def should_retrain(self) -> bool:
        """Whether somebody should ask for a retraining now, and then call `mark_asked`."""
        return self.wants_training and self.acted is None

    def summary(self) -> str:
        """The verdict, its window and its reasons: a line each."""
        first = (
            f"{self.verdict}: {self.events:,} events received {spoken(self.window_from)} to "
            f"{spoken(self.window_to)}, under model version {self.version}"
        )
        return "\n".join([first, *self.reasons, *([self.acted] if self.acted else [])])

    def __str__(self) -> str:
        lines = [f"verdict {self.id}: {self.summary()}", *([f"report: {self.report}"] if self.report else [])]
        return "\n  ".join("\n".join(lines).splitlines())


def store(database: Engine, verdict: Verdict) -> Verdict:
    """Append `verdict`; returns it with its id."""
    row = asdict(verdict)
    del row["id"]
    with database.begin() as connection:
        (key,) = connection.execute(insert(verdicts).values(row)).inserted_primary_key or (0,)
    return replace(verdict, id=int(key))


def latest(database: Engine, limit: int = 1) -> tuple[Verdict, ...]:
    """The newest verdicts, newest first."""
    return _found(database, select(verdicts), limit)


def judged(database: Engine, version: int, since: int, until: int, limit: int) -> tuple[Verdict, ...]:
    """The newest verdicts on windows that had enough in them, of a version since it went live, newest first.

    One that ends after `until` is of a clock that went ahead: it would keep what comes in from being judged.
    """
    half_way = (verdicts.c.verdict == "worse") & verdicts.c.quality.is_(None)  # found on probation: the window goes on
    query = select(verdicts).where(*_of(version, since), verdicts.c.verdict.not_in(UNJUDGED), ~half_way)
    return _found(database, query.where(verdicts.c.window_to <= until), limit)


def concluded(database: Engine, version: int, since: int) -> Verdict | None:
    """The newest verdict on a version since it went live that says anything, be its window over or not."""
    query = select(verdicts).where(*_of(version, since), verdicts.c.verdict.not_in(UNJUDGED))
    return next(iter(_found(database, query, 1)), None)


def last_asked(database: Engine, at: int, lost_after: int) -> Verdict | None:
    """The verdict that a retraining was last asked for: none whose event was lost, and none of a clock that went ahead.

    Args:
        database: where the verdicts are.
        at: the time in µs since 1970.
        lost_after: what no training has taken up by then was lost, in µs.
    """
    known = or_(verdicts.c.taken.is_not(None), verdicts.c.asked_at > at - lost_after)
    query = select(verdicts).where(verdicts.c.asked_at <= at, known)
    return next(iter(_found(database, query.order_by(verdicts.c.asked_at.desc()), 1)), None)


def in_vain(database: Engine, version: int, since: int) -> tuple[Verdict, ...]:
    """Verdicts on a version since it went live of which a training came that did not take its place, newest first: one
    of each training, and none that a person has cancelled."""
    came = (verdicts.c.ended.is_not(None), verdicts.c.ended != CANCELLED)
    found = _found(database, select(verdicts).where(*_of(version, since), *came), 100)
    return tuple({verdict.taken: verdict for verdict in reversed(found)}.values())[::-1]


def open_verdict(database: Engine, version: int, since: int) -> Verdict | None:
    """The newest verdict on a version since it went live that is a reason to retrain, where nothing came of it yet."""
    query = select(verdicts).where(*_of(version, since), verdicts.c.verdict.in_(RETRAIN))
    newest = next(iter(_found(database, query, 1)), None)
    return newest if newest is not None and newest.ended is None else None


def note(database: Engine, verdict: Verdict, **values: Any) -> Verdict:
    """Change columns of a stored verdict."""
    with database.begin() as connection:
        connection.execute(update(verdicts).where(verdicts.c.id == verdict.id).values(values))
    return replace(verdict, **values)


def mark_asked(database: Engine, verdict: Verdict, how: str, at: int) -> Verdict:
    """Note that a retraining was asked for because of `verdict`; from now on the cool-down runs.

    Args:
        database: where the verdict is.
        verdict: a stored one.
        how: e.g. the id of the event that was emitted.
        at: when, in µs since 1970.
    """
    return note(database, verdict, acted=f"{ASKED}: {how}", asked_at=at)


def version_of(database: Engine, verdict_id: int) -> int | None:
    """The version that a verdict is on; None: there is no such verdict."""
    with database.connect() as connection:
        return connection.execute(select(verdicts.c.version).where(verdicts.c.id == verdict_id)).scalar_one_or_none()


def take(database: Engine, verdict_id: int, training: str) -> bool:
    """Note that a training has taken up a verdict. False: another one has, so that there is nothing to do.

    Args:
        database: where the verdict is.
        verdict_id: of a stored one; of one that is not there anybody may take.
        training: which; it may take the same verdict again, as one does that was interrupted.
    """
    free = or_(verdicts.c.taken.is_(None), verdicts.c.taken == training)
    with database.begin() as connection:
        connection.execute(update(verdicts).where(verdicts.c.id == verdict_id, free).values(taken=training))
        found = connection.execute(select(verdicts.c.taken).where(verdicts.c.id == verdict_id)).scalar_one_or_none()
    return found is None or found == training


def end(database: Engine, training: str, how: str) -> None:
    """Note what came of a training in all verdicts that it has taken up."""
    _note_taken(database, training, ended=how)


def fail(database: Engine, training: str, why: str) -> None:
    """Note why a training failed. The verdicts that it has taken up stay open: the newest one is asked for again."""
    _note_taken(database, training, acted=f"{FAILED}: {why}")


def cancel(database: Engine, training: str) -> None:
    """Note that a person has cancelled a training: what it was asked for is not asked for again. Where it had begun for
    another reason, what it has taken up is free."""
    in_place = func.coalesce(verdicts.c.acted, "").startswith(IN_PLACE)
    of_its_own = select(verdicts).where(verdicts.c.taken == training, ~in_place)
    if _found(database, of_its_own, 1):
        end(database, training, CANCELLED)
    else:
        _note_taken(database, training, taken=None, acted=None, asked_at=None)


def cooling(asked: Verdict | None, now: int, hours: float) -> str | None:
    """`cooling down since …`, if a retraining was asked for less than `hours` before `now`.

    A moment that is yet to come is one of a clock that went ahead: it keeps nobody waiting until then.
    """
    if asked is None or asked.asked_at is None or not 0 <= now - asked.asked_at < hours * 3_600_000_000:
        return None
    return f"{COOLING} since {spoken(asked.asked_at)}, when verdict {asked.id} {ASKED}"


def _of(version: int, since: int) -> tuple[ColumnElement[bool], ...]:
    return verdicts.c.version == version, verdicts.c.window_from >= since


def _note_taken(database: Engine, training: str, **values: Any) -> None:
    """Change columns of what a training has taken up, and not said the end of."""
    taken = (verdicts.c.taken == training) & verdicts.c.ended.is_(None)
    with database.begin() as connection:
        connection.execute(update(verdicts).where(taken).values(values))


def _found(database: Engine, query: Select[Any], limit: int) -> tuple[Verdict, ...]:
    with database.connect() as connection:
        rows = connection.execute(query.order_by(verdicts.c.id.desc()).limit(limit)).mappings().all()
    return tuple(_verdict(dict(row)) for row in rows)


def _verdict(row: dict[str, Any]) -> Verdict:
    signals = tuple(Signal(**signal) for signal in row["signals"])
    return Verdict(**{**row, "signals": signals, "reasons": tuple(row["reasons"])})
