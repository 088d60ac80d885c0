"""Where data comes from. A source is a function from its section of `params.yaml` to the canonical tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recloop.config import MovieLens100K, Sequences, Synthetic, Table
from recloop.data.sources.canonical import Tables, write_stream
from recloop.errors import SourceError
from recloop.files import replace_folder

__all__ = ["IngestReport", "check", "check_folder", "ingest"]


@dataclass(frozen=True)
class IngestReport:
    """What a source gave."""

    kind: str
    rows: dict[str, int]
    """Rows of interactions, items and users."""
    target: Path
    notes: tuple[str, ...]

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} {name}" for name, count in self.rows.items())
        return "\n".join([f"{self.kind}: {counts} → {self.target}", *self.notes])


def ingest(source: MovieLens100K | Synthetic | Sequences | Table, target: Path, *, base: Path) -> IngestReport:
    """Read a source into the canonical tables, three Parquet files: interactions, items and users.

    Args:
        source: which, and how it is to be read.
        target: the folder of the tables; replaced as a whole, or left alone where the source cannot be read.
        base: what relative paths in `source` are relative to.

    Raises:
        SourceError: the source cannot be read, is not what it should be, or has no interactions.
    """
    tables = _read(source, base)
    rows: dict[str, int] = {}

    def fill(folder: Path) -> None:
        for name, stream in (
            ("interactions", tables.interactions),
            ("items", tables.items),
            ("users", tables.users),
        ):
            rows[name] = write_stream(stream, folder / f"{name}.parquet")
        if not rows["interactions"]:
            until = getattr(source, "until", None)
            raise SourceError(
                f"the source `{source.kind}` has no interactions"
                + (f" before {until:%Y-%m-%d %H:%M:%S}" if until else ""),
                remedy="check `source` in params.yaml",
            )

    replace_folder(target, fill)
    return IngestReport(source.kind, rows, target, tables.notes)


def check(source: MovieLens100K | Synthetic | Sequences | Table, base: Path) -> tuple[str, ...]:
    """Look at the user's own files without taking them in: folder, columns, and the first rows of each table.

    Returns:
        What a person should see of them: times that were read in a wrong unit are no fault, but of another century.

    Raises:
        SourceError: as `ingest`, as far as that shows.
    """
    check_folder(source, base)
    if isinstance(source, MovieLens100K | Synthetic):  # which come from elsewhere
        return ()
    tables = _read(source, base)
    first, *_ = [next(iter(stream.batches), None) for stream in (tables.interactions, tables.items, tables.users)]
    return _period(first) if isinstance(source, Table) and first is not None else ()


def _period(interactions: pa.RecordBatch) -> tuple[str, ...]:
    earliest, latest = pc.min_max(interactions.column("timestamp")).as_py().values()
    if earliest is None:
        return ()
    period = f"{earliest:%Y-%m-%d %H:%M:%S} to {latest:%Y-%m-%d %H:%M:%S} UTC"
    return (f"times of the first {interactions.num_rows:,} interactions: {period}",)


def check_folder(source: MovieLens100K | Synthetic | Sequences | Table, base: Path) -> None:
    """Make sure that DVC can watch the folder of the source.

    Raises:
        SourceError: it is missing, or holds the project, whose own outputs would count as changes of the source.
    """
    folder = (base / source.folder).resolve()
    if not folder.is_dir():
        raise SourceError(f"source.folder: there is no folder {folder}", remedy="correct source.folder in params.yaml")
    if base.resolve().is_relative_to(folder):
        raise SourceError(
            f"source.folder: {folder} holds the project itself, and its outputs with it",
            remedy="move the files into a folder of their own, and name that one",
        )


def _read(source: MovieLens100K | Synthetic | Sequences | Table, base: Path) -> Tables:
    match source:
        case MovieLens100K():
            from recloop.data.sources.movielens import read_movielens

            return read_movielens(source)
        case Synthetic():
            from recloop.data.sources.synthetic import read_synthetic

            return read_synthetic(source)
        case Sequences():
            from recloop.data.sources.sequences import read_sequences

            return read_sequences(base / source.folder / source.path)
        case Table():
            from recloop.data.sources.table import read_table

            return read_table(source, base / source.folder)
