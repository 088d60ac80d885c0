"""The user's own files, read in batches: one CSV or Parquet file, or a folder or pattern of parts.

A CSV's cells come as strings, and an empty one as null, so that nothing is guessed: `007` stays `007`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from recloop.errors import SourceError

SEPARATORS = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t"}
SUFFIXES = (*SEPARATORS, ".parquet")
BATCH_ROWS = 1 << 17
CSV_BLOCK_BYTES = 8 << 20
PATH_REMEDY = "correct the path in `source` in params.yaml"


@dataclass(frozen=True)
class Part:
    """One file of a table."""

    path: Path
    schema: pa.Schema

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Its rows in their order, with these columns in this order.

        Raises:
            SourceError: the file is damaged.
        """
        with _readable(self.path):
            if self.path.suffix == ".parquet":
                with pq.ParquetFile(self.path) as file:
                    for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
                        yield batch.select(columns)
            else:
                with _open_csv(self.path, self.schema, columns) as reader:
                    yield from reader


def open_parts(path: Path) -> list[Part]:
    """The parts of a table, in the order of their names.

    Args:
        path: a file, a folder, or a path whose last component is a pattern with `*`, `?` or `[`.

    Raises:
        SourceError: there is no such file, its suffix is none of SUFFIXES, or it is damaged.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and file.name.endswith(SUFFIXES))
    elif path.exists():
        files = [path]
    else:
        try:
            files = sorted(file for file in path.parent.glob(path.name) if file.is_file())
        except ValueError as error:
            raise SourceError(f"{path} is no pattern of file names: {error}", remedy=PATH_REMEDY) from error
    if not files:
        known = (
            f"there is nothing at {path} that ends in {', '.join(SUFFIXES)}" if path.is_dir() else f"{path} is missing"
        )
        raise SourceError(known, remedy=PATH_REMEDY)
    return [Part(file, _schema(file)) for file in files]


def _schema(path: Path) -> pa.Schema:
    if not path.name.endswith(SUFFIXES):
        raise SourceError(
            f"{path} has none of the suffixes that can be read: {', '.join(SUFFIXES)}",
            remedy="rename it after what it holds, or save it as one of those",
        )
    if path.stat().st_size == 0:
        raise SourceError(f"{path} is empty", remedy="write it anew, or take it out of `source` in params.yaml")
    with _readable(path):
        if path.suffix == ".parquet":
            schema = pq.read_schema(path)
        else:
            with _open_csv(path) as reader:
                schema = pa.schema([(name, pa.string()) for name in reader.schema.names])
    twice = [name for name, times in Counter(schema.names).items() if times > 1]
    if twice:
        raise SourceError(
            f"{path} has more than one column called {', '.join(map(repr, twice))}", remedy="rename all but one of them"
        )
    return schema


def _open_csv(path: Path, schema: pa.Schema | None = None, columns: Sequence[str] = ()) -> csv.CSVStreamingReader:
    return csv.open_csv(
        path,
        read_options=csv.ReadOptions(block_size=CSV_BLOCK_BYTES),
        parse_options=csv.ParseOptions(
            delimiter=next(mark for suffix, mark in SEPARATORS.items() if path.name.endswith(suffix)),
            newlines_in_values=True,
        ),
        convert_options=csv.ConvertOptions(
            column_types=schema, include_columns=list(columns), strings_can_be_null=True, null_values=[""]
        ),
    )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What Arrow says about a file that it cannot read, as a SourceError that names the file."""
    try:
        yield
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        text = isinstance(error, UnicodeDecodeError) or "invalid UTF8" in str(error)
        raise SourceError(
            f"{path} cannot be read: {'it is not text in UTF-8' if text else error}",
            remedy="save it as UTF-8"
            if text
            else "it may be cut off, or of another kind than its suffix says: make it anew",
        ) from error
