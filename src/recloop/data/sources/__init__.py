"""Where data comes from. A source is a function from its section of `params.yaml` to the canonical tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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


def check(source: MovieLens100K | Synthetic | Sequences | Table, base: Path) -> None:
    """Look at the user's own files without taking them in: folder, columns, and the first rows of each table.

    Raises:
        SourceError: as `ingest`, as far as that shows.
    """
    check_folder(source, base)
    if not isinstance(source, MovieLens100K | Synthetic):  # which come from elsewhere
        tables = _read(source, base)
        for stream in (tables.interactions, tables.items, tables.users):
            next(iter(stream.batches), None)


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
