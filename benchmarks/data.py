"""Benchmark data: a file in the `sequences` form, or MovieLens' ratings, prepared by the project's own stages."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

from recloop.config import Prepare, Sequences, Split, Table, TableFile, TimeTies
from recloop.data.prepare import prepare
from recloop.data.prepared import Prepared
from recloop.data.sources import ingest
from recloop.errors import RecloopError, SourceError

REMEDY = (
    "--data is to name a file with a line a user, `user item item …`, or MovieLens' ratings.csv (docs/benchmarks.md)"
)


def leave_one_out(path: Path, time_ties: TimeTies = "forward") -> Prepared:
    """The file at `path`, each user's last item the test, the one before it the validation.

    Args:
        path: a line a user: `user item item …`; or, where it ends in `.csv`, a line a rating, as MovieLens has them:
            `userId,movieId,rating,timestamp`, in seconds since 1970.
        time_ties: the order of a user's events at one time; the former has an order and no ties.

    Raises:
        SourceError: the file is missing, is not of that form, or leaves nothing to be judged on.
    """
    with tempfile.TemporaryDirectory(prefix="recloop-bench-") as folder:
        raw, prepared = Path(folder) / "raw", Path(folder) / "prepared"
        try:
            ingest(source_of(path), raw, base=path.parent)
            prepare(raw, prepared, Prepare(min_user_events=1, time_ties=time_ties), Split(kind="leave_one_out"))
        except RecloopError as error:  # its remedy is about params.yaml
            raise SourceError(error.message, remedy=REMEDY) from error
        return Prepared.load(prepared)


def has_times(path: Path) -> bool:
    """Whether the file says when things happened, not only in what order."""
    return path.suffix == ".csv"


def name_of(path: Path) -> str:
    """What the data is called: as its file, or, as every MovieLens' file is called `ratings.csv`, as its folder."""
    return path.resolve().parent.name if has_times(path) else path.stem


def source_of(path: Path) -> Sequences | Table:
    """The file as the project's own sources read it.

    Raises:
        SourceError: it is missing, or a table of another form.
    """
    if not path.is_file():
        raise SourceError(f"{path} is {'a folder' if path.is_dir() else 'missing'}")
    if not has_times(path):
        return Sequences(kind="sequences", folder=Path(), path=Path(path.name))
    columns = {"user_id": "userId", "item_id": "movieId", "value": "rating", "timestamp": "timestamp"}
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        found = next(csv.reader(file), [])
    if missing := [name for name in columns.values() if name not in found]:
        raise SourceError(f"{path} is not MovieLens' ratings.csv: it has no column {', '.join(missing)}")
    ratings = TableFile(path=Path(path.name), columns=columns, constants={"event": "rating"})
    return Table(kind="table", folder=Path(), interactions=ratings)
