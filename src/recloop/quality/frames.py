"""Frames for Great Expectations: the columns a suite asks of, and those that it cannot work out by itself.

Text stays in Arrow's memory; a frame's index is the row's position in its table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recloop.quality.quarantine import PASSED, Division
from recloop.quality.tables import SEQ

ARROW_TEXT = pd.ArrowDtype(pa.string())


def interactions_frame(log: pa.Table) -> pd.DataFrame:
    """What the row rules look at: the canonical columns, `value` as f64, where a null is NaN."""
    frame = _frame(log, ["user_id", "item_id", "event", "value", "timestamp"])
    frame["value"] = frame["value"].astype("float64")
    return frame


def ids_frame(table: pa.Table, column: str) -> pd.DataFrame:
    """The ids, and how often each has occurred up to and with its row: 1 is the first."""
    frame = _frame(table, [column])
    occurrence = frame.groupby(column, sort=False).cumcount() + 1
    frame["occurrence"] = occurrence.where(frame[column].notna(), 1).astype("int64")
    return frame


def passed_frame(log: pa.Table, items: pa.Table) -> pd.DataFrame:
    """What the batch rules look at, with `item_known`: whether the row's item is in the items table."""
    frame = _frame(log, ["user_id", "item_id", "event", "timestamp"])
    known = pc.is_in(log["item_id"], value_set=items["item_id"].combine_chunks())
    frame["item_known"] = known.to_numpy()
    return frame


def judged_frame(divisions: Sequence[Division], feedback: np.ndarray) -> pd.DataFrame:
    """Every row found, as `batch` and the `rule` it broke; null where it broke none.

    Args:
        feedback: bool [interactions]: which are of the endpoint, and so a batch of their own.
    """
    rules = [rule for division in divisions for rule in division.rules]
    batches = ["source", "feedback", "items", "users"]
    batch_codes, rule_codes = [], []
    for division in divisions:
        if division.table == "interactions":
            batch_codes.append(np.where(feedback, batches.index("feedback"), batches.index("source")))
        else:
            batch_codes.append(np.full(len(division.broken), batches.index(division.table)))
        first = rules.index(division.rules[0])
        rule_codes.append(np.where(division.passed, PASSED, division.broken + first))
    return pd.DataFrame({"batch": _categories(batch_codes, batches), "rule": _categories(rule_codes, rules)})


def _categories(codes: list[np.ndarray], names: list[str]) -> pd.Categorical[str]:
    return pd.Categorical.from_codes(np.concatenate(codes).astype(np.int64), categories=pd.Index(names))


def event_mix_frame(now: pa.Table, before: pa.Table) -> pd.DataFrame:
    """Each event's share of the rows, now and before, and the change."""
    shares = [pd.Series(_shares(table), dtype="float64") for table in (before, now)]
    frame = pd.concat(shares, axis=1, keys=["before", "share"]).fillna(0.0).sort_index()
    # Rounded: 0.9 - 0.7 is more than 0.2 in floats, and what is just at the limit would fail.
    frame["change"] = (frame["share"] - frame["before"]).round(9)
    return frame.rename_axis("event").reset_index()


def _shares(log: pa.Table) -> dict[str, float]:
    counts: Any = pc.value_counts(log["event"])
    return {entry["values"]: entry["counts"] / log.num_rows for entry in counts.to_pylist()}


def _frame(table: pa.Table, columns: list[str]) -> pd.DataFrame:
    return table.select(columns).to_pandas(types_mapper=lambda kind: ARROW_TEXT if kind == pa.string() else None)


def is_feedback(log: pa.Table) -> np.ndarray:
    """bool [rows]: whether a row was taken at the endpoint."""
    return np.asarray(pc.is_valid(log[SEQ]).to_numpy())
