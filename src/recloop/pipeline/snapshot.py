"""Taking the endpoint's events into `data/feedback`, as a version of the data like any other.

The table of events is exported whole and in order, so a snapshot needs no memory of the one before, and the
same events give the same bytes. DVC then records the file as the output of the stage `feedback`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Engine, func, select

from recloop.data.schema import INTERACTIONS, TIMESTAMP
from recloop.errors import PlatformError, SourceError
from recloop.files import replacing
from recloop.pipeline.champion import take_champion
from recloop.pipeline.command import run_dvc
from recloop.project import Project
from recloop.serving.events import events
from recloop.serving.tables import forgotten
from recloop.storage import connect

SCHEMA = pa.schema([*INTERACTIONS, pa.field("feedback_seq", pa.int64(), nullable=False)])
CHUNK = 100_000


@dataclass(frozen=True)
class SnapshotReport:
    """What a snapshot took."""

    events: int
    """All that the endpoint has taken so far."""
    new: int
    """Of them, not in the snapshot before."""
    watermark: int
    """Sequence of the last one; 0 if there is none."""
    champion: str | None = None
    """What became of the champion to begin from; None if nothing was to be done"""

    def __str__(self) -> str:
        if self.new:
            taken = f"{self.new:,} new events taken into data/feedback"
            text = f"{taken} ({self.events:,} in all, up to sequence {self.watermark})"
        else:
            text = f"no new events at the endpoint since the last snapshot ({self.events:,} in all)"
        return text if self.champion is None else f"{text}\n{self.champion}"


def snapshot(project: Project) -> SnapshotReport:
    """Export the endpoint's events to `data/feedback/interactions.parquet`, and let DVC record it.

    With `train.warm_start` the live champion is taken, too, for trainings to begin from (`champion.py`).

    Raises:
        RecloopError: the database does not answer.
        SourceError: the last snapshot is damaged, or holds more events than the database has.
        ServingError: the champion is to be taken, and is damaged.
        PlatformError: DVC would not record it.
    """
    database = connect(project.database_url)
    before = _rows(project.feedback)
    stored, deleted = _stored(database)
    if stored + deleted < before:
        raise SourceError(
            f"{project.feedback} holds {before:,} events, the database only {stored:,}, and {deleted:,} of people who "
            "asked to be forgotten: some would be lost",
            remedy="set RECLOOP_DATABASE_URL to where they came from, or delete the file to begin anew",
        )
    count, watermark = export(database, project.feedback)
    champion = take_champion(project, database)
    stages = ["feedback"] if champion is None else ["feedback", "warm"]
    done = run_dvc(project, ["commit", "--force", *stages], on_line=lambda _: None)
    if done.exit_code != 0:
        named = " ".join(stages)
        raise PlatformError(
            f"`dvc commit {named}` failed: {' '.join(done.lines[-2:])}",
            remedy=f"run `dvc commit --force {named}`; the events are in data/feedback already",
        )
    return SnapshotReport(count, max(0, count - before), watermark, champion)


def export(database: Engine, path: Path) -> tuple[int, int]:
    """Write all events, in the order they were taken, to `path`; their number and the last one's sequence.

    Rows are streamed: memory does not grow with their number.
    """
    columns = [
        events.c.user_id, events.c.item_id, events.c.event, events.c.value, events.c.timestamp, events.c.seq
    ]  # fmt: skip
    query = select(*columns).order_by(events.c.seq).execution_options(yield_per=CHUNK)
    count = watermark = 0
    with (
        replacing(path) as part,
        pq.ParquetWriter(part, SCHEMA, compression="zstd") as writer,
        database.connect() as connection,
    ):
        for rows in connection.execute(query).partitions():
            table = _table(rows)
            writer.write_table(table)
            count += len(rows)
            watermark = int(rows[-1].seq)
        if not count:
            writer.write_table(SCHEMA.empty_table())
    return count, watermark


def _stored(database: Engine) -> tuple[int, int]:
    """How many events there are, and how many were deleted because somebody asked to be forgotten."""
    with database.connect() as connection:
        there = connection.execute(select(func.count()).select_from(events)).scalar_one()
        gone = connection.execute(select(func.coalesce(func.sum(forgotten.c.events), 0))).scalar_one()
    return int(there), int(gone)


def _table(rows: Any) -> pa.Table:
    columns = list(zip(*rows, strict=True))
    arrays = [
        pa.array(column, pa.int64()).cast(TIMESTAMP) if field.type == TIMESTAMP else pa.array(column, field.type)
        for column, field in zip(columns, SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _rows(path: Path) -> int:
    if not path.exists():
        return 0
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(
            f"{path} is damaged: {error}", remedy="delete it; `recloop snapshot` writes it anew"
        ) from error
