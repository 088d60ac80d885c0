"""The gate: raw data and the endpoint's events in, and data fit to learn from out, or a stop.

A run that stops leaves `data/gated`, the quarantine and `reports/gate.json` as they were. A person finds what
is wrong in `reports/rejected`: Data Docs of the run that stopped, and the rows at fault.

What is written follows from the data and the params alone, with one exception: a row from the future, by the
clock of the run, goes to quarantine. Else clock and last good data decide only whether the run may go on.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from recloop import telemetry
from recloop.data.schema import SCHEMAS
from recloop.errors import GateError, StageError
from recloop.files import replace_folder, replacing, write_json
from recloop.project import Project
from recloop.quality.report import Count, GateReport
from recloop.quality.tables import TABLES, read_found

if TYPE_CHECKING:
    from recloop.quality.judgement import Judgement


def run_gate(project: Project, *, now: datetime | None = None) -> GateReport:
    """Judge `data/raw` and the endpoint's events; write `data/gated`, the quarantine and `reports/gate.json`.

    Args:
        now: the clock, UTC; the machine's by default.

    Raises:
        GateError: the data is not fit to learn from; the last good data was left as it was.
        StageError: an input is missing or damaged.
    """
    telemetry.silence()
    from recloop.quality.judgement import judge_found
    from recloop.quality.validation import Judge

    params, now = project.params, now or datetime.now(UTC)
    found = read_found(project.raw, project.feedback)
    judge = Judge(now)
    judgement = judge_found(
        judge,
        found,
        params.gate,
        earliest=None if params.source.kind == "sequences" else params.gate.earliest,
        now=now,
        last_good=_last_good_events(project.gated / "interactions.parquet"),
    )
    docs, rejected = project.reports / "data-docs", project.reports / "rejected"
    report = _report(judgement, docs.relative_to(project.root))
    if judgement.stops:
        judge.write_docs(rejected / "data-docs", _stopped(judgement))
        _write(judgement.rejected(), rejected / "rows.parquet")
        raise GateError(
            "\n    ".join(_stopped(judgement)),
            remedy=f"{rejected / 'data-docs' / 'index.html'} shows every rule, {rejected / 'rows.parquet'} the rows at "
            "fault. Mend the source; "
            "or, if the data is right, change the key in brackets, under `gate` in params.yaml",
        )
    judge.write_docs(docs, str(report).splitlines()[:-1])
    replace_folder(project.gated, lambda folder: _write_gated(judgement, folder))
    _write(judgement.quarantine(), project.quarantine)
    write_json(project.reports / "gate.json", report.to_json())
    shutil.rmtree(rejected, ignore_errors=True)
    return report


def _last_good_events(path: Path) -> pa.Table | None:
    """The events that last passed: what `event_mix` compares with."""
    if not path.exists():
        return None
    try:
        return pq.read_table(path, columns=["event"])
    except (pa.ArrowInvalid, OSError) as error:
        raise StageError(
            f"{path}, which passed before, is damaged: {error}",
            remedy="`dvc checkout --force data/gated` brings it back; or delete data/gated and go without",
        ) from error


def _report(judgement: Judgement, docs: Path) -> GateReport:
    log = judgement.divisions[0]
    return GateReport(
        tables={
            division.table: Count(len(division.broken), int((~division.passed).sum()))
            for division in judgement.divisions
        },
        feedback=Count(int(judgement.feedback.sum()), int((judgement.feedback & ~log.passed).sum())),
        rules={rule: count for division in judgement.divisions for rule, count in division.counts.items()},
        warnings=judgement.warnings,
        docs=docs,
    )


def _stopped(judgement: Judgement) -> list[str]:
    return [
        "the data is not fit to learn from; the last good data was left as it was",
        *map(str, judgement.stops),
        *(f"(warning) {breach}" for breach in judgement.warnings),
    ]


def _write_gated(judgement: Judgement, folder: Path) -> None:
    for table in TABLES:
        rows = judgement.passed(table)
        promised = {field.name: field for field in SCHEMAS[table]}
        schema = pa.schema([promised.get(field.name, field) for field in rows.schema])
        _write(rows.cast(schema), folder / f"{table}.parquet")


def _write(table: pa.Table, path: Path) -> None:
    with replacing(path) as part:
        pq.write_table(table.combine_chunks(), part, compression="zstd")
