"""Verdicts in the database: what the monitor found, and what came of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Engine, Integer, Table, Text, insert, select, update

from monitoring.moments import spoken
from monitoring.policy import Outcome, Signal
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
)

ASKED = "asked for retraining"
COOLING = "cooling down"


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
    """What came of it: `asked for retraining: …`, `cooling down since …`, or nothing yet"""

    @property
    def should_retrain(self) -> bool:
        """Whether somebody should ask for a retraining now, and then call `mark_asked`."""
        return self.verdict == "drift" and self.acted is None

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
    with database.connect() as connection:
        rows = connection.execute(select(verdicts).order_by(verdicts.c.id.desc()).limit(limit)).mappings().all()
    return tuple(_verdict(dict(row)) for row in rows)


def last_asked(database: Engine) -> Verdict | None:
    """The newest verdict that a retraining was asked for."""
    query = select(verdicts).where(verdicts.c.acted.startswith(ASKED)).order_by(verdicts.c.id.desc()).limit(1)
    with database.connect() as connection:
        row = connection.execute(query).mappings().first()
    return _verdict(dict(row)) if row else None


def mark_asked(database: Engine, verdict: Verdict, how: str) -> Verdict:
    """Note that a retraining was asked for because of `verdict`; from now on the cool-down runs.

    Args:
        database: where the verdict is.
        verdict: a stored one.
        how: e.g. the id of the event that was emitted.
    """
    acted = f"{ASKED}: {how}"
    with database.begin() as connection:
        connection.execute(update(verdicts).where(verdicts.c.id == verdict.id).values(acted=acted))
    return replace(verdict, acted=acted)


def cooling(asked: Verdict | None, now: int, hours: float) -> str | None:
    """`cooling down since …`, if a retraining was asked for less than `hours` before `now`."""
    if asked is None or now - asked.at >= hours * 3_600_000_000:
        return None
    return f"{COOLING} since {spoken(asked.at)}, when verdict {asked.id} {ASKED}"


def _verdict(row: dict[str, Any]) -> Verdict:
    signals = tuple(Signal(**signal) for signal in row["signals"])
    return Verdict(**{**row, "signals": signals, "reasons": tuple(row["reasons"])})
