"""Benchmark data: a file in the `sequences` form, or MovieLens' ratings, prepared by the project's own stages."""

from __future__ import annotations

import tempfile
from pathlib import Path

from recloop.config import Prepare, Sequences, Split, Table, TableFile, TimeTies
from recloop.data.prepare import prepare
from recloop.data.prepared import Prepared
from recloop.data.sources import ingest


def leave_one_out(path: Path, time_ties: TimeTies = "forward") -> Prepared:
    """The file at `path`, each user's last item the test, the one before it the validation.

    Args:
        path: a line a user: `user item item …`; or, where it ends in `.csv`, a line a rating, as MovieLens has them:
            `userId,movieId,rating,timestamp`, in seconds since 1970.
        time_ties: the order of a user's events at one time; the former has an order and no ties.

    Raises:
        SourceError: the file is missing, or not of that form.
    """
    with tempfile.TemporaryDirectory(prefix="recloop-bench-") as folder:
        raw, prepared = Path(folder) / "raw", Path(folder) / "prepared"
        ingest(_source(path), raw, base=path.parent)
        prepare(raw, prepared, Prepare(min_user_events=1, time_ties=time_ties), Split(kind="leave_one_out"))
        return Prepared.load(prepared)


def has_times(path: Path) -> bool:
    """Whether the file says when things happened, not only in what order."""
    return path.suffix == ".csv"


def name_of(path: Path) -> str:
    """What the data is called: as its file, or, as every MovieLens' file is called `ratings.csv`, as its folder."""
    return path.resolve().parent.name if has_times(path) else path.stem


def _source(path: Path) -> Sequences | Table:
    if not has_times(path):
        return Sequences(kind="sequences", folder=Path(), path=Path(path.name))
    columns = {"user_id": "userId", "item_id": "movieId", "value": "rating", "timestamp": "timestamp"}
    ratings = TableFile(path=Path(path.name), columns=columns, constants={"event": "rating"})
    return Table(kind="table", folder=Path(), interactions=ratings)
