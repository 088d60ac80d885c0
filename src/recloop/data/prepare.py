"""From gated tables to what models learn from: cleaned, encoded, split. Ibis expressions, run by DuckDB.

Only users who did something, and items that something was done with, are prepared: an item of the catalogue
without events is not in `items.parquet`. What is written depends neither on the number of threads nor on the
order of the rows that are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from recloop.config import Prepare, Split
from recloop.data.cleaning import Step, clean, count
from recloop.data.encoding import codes, encode, with_attributes
from recloop.data.gated import gated_interactions, watermark
from recloop.data.prepared import PERIODS
from recloop.data.schema import TIMESTAMP
from recloop.data.splits import cuts, predicted, with_periods
from recloop.errors import StageError
from recloop.files import replace_folder, write_json

if TYPE_CHECKING:
    from ibis.expr.types import Table

LOG = pa.schema(
    [
        ("user", pa.int32()),
        ("item", pa.int32()),
        ("event", pa.string()),
        ("value", pa.float32()),
        ("weight", pa.float32()),
        ("timestamp", TIMESTAMP),
        ("period", pa.int8()),
    ]
)
USERS = pa.schema([("user_id", pa.string()), ("start", pa.int64()), ("end", pa.int64())])
ITEMS = pa.schema([("item_id", pa.string()), ("train_count", pa.int64())])
CASES = pa.schema([("period", pa.int8()), ("user", pa.int32()), ("position", pa.int64())])


@dataclass(frozen=True)
class PrepareReport:
    """What was prepared."""

    users: int
    items: int
    interactions: int
    steps: tuple[Step, ...]
    events: dict[str, int]
    """Events in each period."""
    cases: dict[str, int]
    """What is predicted, in each period after the first."""

    def __str__(self) -> str:
        dropped = ", ".join(f"{step.dropped:,} {step.name}" for step in self.steps if step.dropped)
        return (
            f"prepared {self.interactions:,} interactions of {self.users:,} users and {self.items:,} items\n"
            f"dropped: {dropped or 'nothing'}\n"
            f"events: {_listed(self.events)}; to predict: {_listed(self.cases)}"
        )


def prepare(gated: Path, target: Path, how: Prepare, split: Split) -> PrepareReport:
    """Clean, encode and split the gated tables into `data/prepared/` (its files: see `data/prepared.py`).

    Args:
        gated: folder of the gated tables.
        target: replaced as a whole, or left alone where anything fails.
        how: what is kept.
        split: how it is cut into periods.

    Raises:
        StageError: a gated table is missing or damaged, or too little is left to learn from.
    """
    reports = []

    def fill(folder: Path) -> None:
        with gated_interactions(gated, spill=folder.parent / "spill") as log:
            tables, meta, report = _prepared(log, gated, how, split)
        for name, table in tables.items():
            pq.write_table(table.combine_chunks(), folder / f"{name}.parquet", compression="zstd")
        write_json(folder / "meta.json", meta)
        reports.append(report)

    replace_folder(target, fill)
    return reports[0]


def _prepared(
    source: Table, gated: Path, how: Prepare, split: Split
) -> tuple[dict[str, pa.Table], dict[str, int | str | None], PrepareReport]:
    """The tables to write, `meta.json`, and the report."""
    import ibis

    cleaned = clean(source, how)
    users, items = codes(cleaned.log, "user_id", "user"), codes(cleaned.log, "item_id", "item")
    user_count, item_count = count(users), count(items)
    if not user_count or item_count < 2:
        raise _too_little_left(count(source), cleaned.steps, user_count, item_count)

    log = encode(cleaned.log, users, items, how.events, how.time_ties)
    at = cuts(log, split, cleaned.steps[-1].left)
    log = with_periods(log, split, at)
    cases = predicted(log, split).to_pyarrow().cast(CASES)
    report = PrepareReport(
        users=user_count,
        items=item_count,
        interactions=cleaned.steps[-1].left,
        steps=cleaned.steps,
        events=_by_period(log.select("period").to_pyarrow()),
        cases={period: n for period, n in _by_period(cases).items() if period != "train"},
    )
    _demand_every_period(report, split)

    learnt = log.filter(log["period"] == 0).group_by("item").agg(train_count=ibis._.count())
    counted = items.left_join(learnt, "item").order_by("item").fill_null({"train_count": 0})
    user_table = users.order_by("user").select(*USERS.names).to_pyarrow().cast(USERS)
    item_table = counted.select(*ITEMS.names).to_pyarrow().cast(ITEMS)
    tables = {
        "interactions": log.order_by("position").select(*LOG.names).to_pyarrow().cast(LOG),
        "users": with_attributes(user_table, gated / "users.parquet"),
        "items": with_attributes(item_table, gated / "items.parquet"),
        "cases": cases,
    }
    meta = {
        "users": report.users,
        "items": report.items,
        "interactions": report.interactions,
        "split": split.kind,
        "train_until": _iso(at.train_until),
        "valid_until": _iso(at.valid_until),
        "newest": _iso(log["timestamp"].max().to_pyarrow().as_py()),
        "feedback_watermark": watermark(source),
    }
    return tables, meta, report


def _too_little_left(rows: int, steps: tuple[Step, ...], users: int, items: int) -> StageError:
    lines = [f"too little is left to learn from: {users:,} users and {items:,} items"]
    lines += [f"  {rows:,} interactions passed the gate"]
    lines += [f"  {step.left:,} were left without {step.dropped:,} {step.name}" for step in steps]
    worst = max(steps, key=lambda step: step.dropped)
    remedy = f"loosen {worst.key} in params.yaml" if worst.dropped and worst.key else "more data"
    return StageError("\n".join(lines), remedy=remedy)


def _demand_every_period(report: PrepareReport, split: Split) -> None:
    key = "split.kind" if split.kind == "leave_one_out" else "split.valid_share and split.test_share"
    for period, events in report.events.items():
        if not events or not report.cases.get(period, 1):
            raise StageError(
                f"{report.interactions:,} interactions of {report.users:,} users leave nothing to "
                f"{'learn from' if period == 'train' else f'predict in the {period} period'}: "
                f"events: {_listed(report.events)}; to predict: {_listed(report.cases)}",
                remedy=f"more data, or other values of {key} in params.yaml"
                + ("" if split.kind == "leave_one_out" else " (ties in time go to the later period)"),
            )


def _by_period(table: pa.Table) -> dict[str, int]:
    counts = {entry["values"]: entry["counts"] for entry in table["period"].value_counts().to_pylist()}
    return {name: counts.get(code, 0) for code, name in enumerate(PERIODS)}


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="microseconds")


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
