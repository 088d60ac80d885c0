"""What the gate says: of one broken rule, and of a whole run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recloop.data.schema import TableName

ASIDE = frozenset({"freshness", "event_mix"})
"""Rules whose verdict depends on the clock or on what was there before; kept out of the stage's output."""


@dataclass(frozen=True)
class Breach:
    """A batch rule that was broken."""

    rule: str
    severity: str
    """`stop` or `warn`"""
    message: str
    """The figures and the limit, and the key of params.yaml that sets it."""

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"


@dataclass(frozen=True)
class Count:
    """Rows of a table."""

    rows: int
    quarantined: int

    @property
    def passed(self) -> int:
        return self.rows - self.quarantined


@dataclass(frozen=True)
class GateReport:
    """A run that the gate let through."""

    tables: Mapping[TableName, Count]
    feedback: Count
    """The part of `tables["interactions"]` that was taken at the endpoint."""
    rules: Mapping[str, int]
    """Rows in quarantine by the rule they broke, every row rule included."""
    warnings: tuple[Breach, ...]
    docs: Path

    def to_json(self) -> dict[str, Any]:
        """`reports/gate.json`: what follows from data and params alone, and so is the same each time."""
        log = self.tables["interactions"]
        return {
            "rows": log.rows,
            "passed": log.passed,
            "quarantined": log.quarantined,
            "feedback": {"rows": self.feedback.rows, "quarantined": self.feedback.quarantined},
            "items": {"rows": self.tables["items"].rows, "quarantined": self.tables["items"].quarantined},
            "users": {"rows": self.tables["users"].rows, "quarantined": self.tables["users"].quarantined},
            "rules": dict(self.rules),
            "warnings": [str(breach) for breach in self.warnings if breach.rule not in ASIDE],
        }

    def __str__(self) -> str:
        log = self.tables["interactions"]
        lines = [
            f"gate: {log.passed:,} of {log.rows:,} interactions passed, {log.quarantined:,} in quarantine"
            + (f" ({percent(log.quarantined, log.rows)})" if log.quarantined else "")
        ]
        if self.feedback.rows:
            lines.append(f"  from the endpoint: {self.feedback.passed:,} of {self.feedback.rows:,}")
        lines += [
            f"  {table}: {self.tables[table].passed:,} of {self.tables[table].rows:,}"
            for table in ("items", "users")
            if self.tables[table].quarantined
        ]
        width = max(map(len, self.rules))
        lines += [f"    {rule:<{width}}  {count:>9,}" for rule, count in self.rules.items() if count]
        lines += [f"  warning: {breach}" for breach in self.warnings]
        return "\n".join([*lines, f"  Data Docs: {self.docs / 'index.html'}"])


def percent(part: float, whole: float = 1.0) -> str:
    """`part` of `whole`, with as many digits as tell 2% from 2.001%."""
    return f"{100 * part / whole:.4g}%"
