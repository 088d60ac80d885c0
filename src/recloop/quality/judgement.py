"""The verdict on tables as found: which rows broke a row rule, and which batch rules are broken."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa

from recloop.config import Gate
from recloop.data.schema import TableName
from recloop.quality import frames, suites
from recloop.quality.breaches import breaches
from recloop.quality.hints import hints
from recloop.quality.quarantine import Division, described, quarantine_table
from recloop.quality.report import Breach
from recloop.quality.tables import TABLES, Found
from recloop.quality.validation import Finding, Judge

AS_FOUND, PASSED = "rows as found", "rows that passed"


@dataclass(frozen=True)
class Judgement:
    """What the rules say of `found`."""

    found: Found
    divisions: tuple[Division, ...]
    """Of interactions, items and users."""
    feedback: np.ndarray
    """bool [interactions]: which rows were taken at the endpoint"""
    breaches: tuple[Breach, ...]
    """The broken batch rules."""
    suspects: tuple[tuple[str, np.ndarray], ...]
    """Batch rule that stops the run → positions of the interactions that broke it."""

    @property
    def stops(self) -> tuple[Breach, ...]:
        return tuple(breach for breach in self.breaches if breach.severity == "stop")

    @property
    def warnings(self) -> tuple[Breach, ...]:
        return tuple(breach for breach in self.breaches if breach.severity == "warn")

    def passed(self, table: TableName) -> pa.Table:
        """The rows of a table that broke no row rule, in their order."""
        return self.found[table].filter(pa.array(self.divisions[TABLES.index(table)].passed, pa.bool_()))

    def quarantine(self) -> pa.Table:
        """The rows that broke a row rule."""
        return quarantine_table(self.found, self.divisions)

    def rejected(self) -> pa.Table:
        """The rows for which the run stops: those of the quarantine, and those that broke a batch rule."""
        names = np.empty(self.found.interactions.num_rows, dtype=object)
        parts = [self.quarantine()]
        for rule, positions in self.suspects:
            names[positions] = rule
            parts.append(described(self.found, "interactions", positions, names))
        return pa.concat_tables(parts)


def judge_found(
    judge: Judge,
    found: Found,
    gate: Gate,
    *,
    earliest: datetime | None,
    now: datetime,
    last_good: pa.Table | None,
) -> Judgement:
    """Ask every rule.

    Args:
        earliest: a time before this is a fault; None where times are not times.
        now: the clock.
        last_good: column `event` of the interactions that last passed; None where there are none yet.

    Raises:
        GateError: a rule could not be evaluated.
    """
    divisions = tuple(_divide(judge, table, found, gate, earliest, now) for table in TABLES)
    feedback = frames.is_feedback(found.interactions)
    judged = frames.judged_frame(divisions, feedback)
    batches = [*TABLES, *(["feedback"] if feedback.sum() >= gate.min_feedback_rows else [])]
    findings = judge.examine(suites.quarantine_suite(gate, batches), judged, stage=AS_FOUND)

    places = np.flatnonzero(divisions[0].passed)
    passed = found.interactions.take(pa.array(places, pa.int64()))
    whole, mix = _examine_whole(judge, passed, found.items, gate, now, last_good)
    broken = breaches([*findings, *whole], gate, judged=judged, mix=mix, hints=hints(found.interactions, divisions[0]))
    if not len(places):  # whatever the settings, nothing at all never takes the place of the last good data
        broken = tuple(replace(breach, severity="stop") for breach in broken)
    suspects = tuple(
        (finding.rule, places[finding.broken])
        for finding in whole
        if finding.rule in ("duplicates", "unknown_items") and not finding.kept and finding.severity == "stop"
    )
    return Judgement(found, divisions, feedback, broken, suspects)


def _divide(
    judge: Judge, table: TableName, found: Found, gate: Gate, earliest: datetime | None, now: datetime
) -> Division:
    suite = suites.row_suite(table, gate, earliest=earliest, now=now)
    if table == "interactions":
        frame = frames.interactions_frame(found.interactions)
    else:
        frame = frames.ids_frame(found[table], {"items": "item_id", "users": "user_id"}[table])
    return Division.of(table, len(frame), judge.examine(suite, frame, stage=AS_FOUND))


def _examine_whole(
    judge: Judge, passed: pa.Table, items: pa.Table, gate: Gate, now: datetime, last_good: pa.Table | None
) -> tuple[list[Finding], pd.DataFrame | None]:
    suite = suites.batch_suite(gate, now=now if passed.num_rows else None, with_items=items.num_rows > 0)
    findings = judge.examine(suite, frames.passed_frame(passed, items), stage=PASSED)
    if last_good is None or not last_good.num_rows or not passed.num_rows:
        return findings, None
    mix = frames.event_mix_frame(passed, last_good)
    return [*findings, *judge.examine(suites.event_mix_suite(gate), mix, stage=PASSED)], mix
