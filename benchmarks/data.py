"""Benchmark data: a file in the `sequences` form, prepared by the project's own stages."""

from __future__ import annotations

import tempfile
from pathlib import Path

from recloop.config import Prepare, Sequences, Split
from recloop.data.prepare import prepare
from recloop.data.prepared import Prepared
from recloop.data.sources import ingest


def leave_one_out(path: Path) -> Prepared:
    """The file at `path` (a line a user: `user item item …`), each user's last item the test, the one before it the
    validation.

    Raises:
        SourceError: the file is missing, or not of that form.
    """
    with tempfile.TemporaryDirectory(prefix="recloop-bench-") as folder:
        raw, prepared = Path(folder) / "raw", Path(folder) / "prepared"
        ingest(Sequences(kind="sequences", folder=str(path.parent), path=path.name), raw, base=path.parent)
        prepare(raw, prepared, Prepare(min_user_events=1), Split(kind="leave_one_out"))
        return Prepared.load(prepared)
