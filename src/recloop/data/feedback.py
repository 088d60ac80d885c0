"""The table of events taken at the endpoint: empty at first, filled by `recloop snapshot`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recloop.data.schema import INTERACTIONS
from recloop.errors import StageError
from recloop.files import replacing

FEEDBACK = INTERACTIONS.append(pa.field("feedback_seq", pa.int64(), nullable=False))
"""The canonical interactions, and each event's number in the database."""
REMEDY = "`dvc checkout feedback` brings the last snapshot back; `recloop snapshot` takes a new one"


@dataclass(frozen=True)
class FeedbackReport:
    """What the table holds."""

    events: int
    path: Path
    made: bool

    def __str__(self) -> str:
        if self.made:
            return f"no events from the endpoint yet: an empty table → {self.path}"
        return f"{self.events:,} events from the endpoint in {self.path}, left as they are"


def ensure_feedback(path: Path) -> FeedbackReport:
    """Write the empty table where there is none; leave one that is there alone.

    Raises:
        StageError: the table that is there is damaged.
    """
    if not path.exists():
        with replacing(path) as part:
            pq.write_table(FEEDBACK.empty_table(), part, compression="zstd")
        return FeedbackReport(0, path, made=True)
    try:
        metadata = pq.read_metadata(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise StageError(f"{path} is damaged: {error}", remedy=REMEDY) from error
    found = metadata.schema.to_arrow_schema()
    if pa.schema([field.with_nullable(False) for field in found]) != FEEDBACK:
        raise StageError(f"{path} is not a table of events: its columns are {', '.join(found.names)}", remedy=REMEDY)
    return FeedbackReport(metadata.num_rows, path, made=False)
