"""Rows divided into those that go on and those that do not, each of the latter with the rule it broke."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from recloop.data.schema import TableName
from recloop.quality.tables import SEQ, Found
from recloop.quality.validation import Finding

PASSED = -1


@dataclass(frozen=True)
class Division:
    """A table's rows, judged by its row rules."""

    table: TableName
    rules: tuple[str, ...]
    """The table's row rules, in suite order."""
    broken: np.ndarray
    """int16 [rows]: index into `rules` of the first rule a row broke; -1 where it broke none"""

    @classmethod
    def of(cls, table: TableName, rows: int, findings: Sequence[Finding]) -> Division:
        """From the findings of the table's suite, in suite order."""
        rules = tuple(dict.fromkeys(finding.rule for finding in findings))
        broken = np.full(rows, PASSED, dtype=np.int16)
        for finding in findings:
            positions = finding.broken[broken[finding.broken] == PASSED]
            broken[positions] = rules.index(finding.rule)
        return cls(table, rules, broken)

    @property
    def passed(self) -> np.ndarray:
        """bool [rows]"""
        return np.asarray(self.broken == PASSED)

    @property
    def names(self) -> np.ndarray:
        """object [rows]: name of the rule a row broke, None where it broke none"""
        names: np.ndarray = np.asarray([*self.rules, None], dtype=object)
        return np.asarray(names[self.broken])

    @property
    def counts(self) -> dict[str, int]:
        """Rows in quarantine by rule; a rule that nothing broke has 0."""
        return {rule: int(np.count_nonzero(self.broken == index)) for index, rule in enumerate(self.rules)}


def quarantine_table(found: Found, divisions: Sequence[Division]) -> pa.Table:
    """The rows that broke a row rule, as found, table after table.

    Columns: those of the interactions, then `rule`, `table` and `row`: the row's place in its file, which is
    where the rest of an item or a user is found.
    """
    return pa.concat_tables(
        [described(found, division.table, np.flatnonzero(~division.passed), division.names) for division in divisions]
    )


def described(found: Found, table: TableName, positions: np.ndarray, rules: np.ndarray) -> pa.Table:
    """Rows of a table in the form of the quarantine. `rules` has a name for each of the table's rows."""
    rows = found[table].take(pa.array(positions))
    own = {"interactions": rows.column_names, "items": ["item_id"], "users": ["user_id"]}[table]
    columns: dict[str, Any] = {
        field.name: rows[field.name] if field.name in own else pa.nulls(len(positions), field.type)
        for field in found.interactions.schema
    }
    # Rows of the endpoint stand behind those of the source, but have a file of their own.
    source = found.interactions[SEQ].null_count if table == "interactions" else len(found[table])
    columns["rule"] = pa.array(rules[positions], pa.string())
    columns["table"] = pa.array([table] * len(positions), pa.string())
    columns["row"] = pa.array(np.where(positions < source, positions, positions - source), pa.int64())
    return pa.table(columns)
