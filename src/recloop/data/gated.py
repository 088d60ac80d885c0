"""The gated tables, opened for preparation: checked, and in a DuckDB that lives as long as it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from recloop.data.cleaning import count
from recloop.data.schema import INTERACTIONS, SCHEMAS, TableName
from recloop.errors import StageError

if TYPE_CHECKING:
    from ibis.expr.types import Table

REMEDY = "`dvc repro gate` makes it anew"


@contextmanager
def gated_interactions(folder: Path, *, spill: Path) -> Iterator[Table]:
    """The gated interactions, in DuckDB; what does not fit into memory meanwhile goes to the folder `spill`.

    Raises:
        StageError: a gated table is missing or damaged; or, while in use, memory and the disk are full.
    """
    import duckdb
    import ibis

    for name in SCHEMAS:
        _check(folder / f"{name}.parquet", name)
    path = folder / "interactions.parquet"
    connection = ibis.duckdb.connect(temp_directory=str(spill))
    try:
        log = connection.read_parquet(path)
        unknown = ibis.or_(*(log[name].isnull() for name in INTERACTIONS.names))
        if nulls := count(log.filter(unknown)):
            raise StageError(f"{path} has nulls in {nulls:,} rows", remedy=REMEDY)
        yield log
    except (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException):
        raise  # Not the data's fault but ours.
    except duckdb.OutOfMemoryException as error:
        raise StageError(
            f"memory is full, and so is the disk that stands in for it: {error}",
            remedy="free some space and run the command again",
        ) from error
    except duckdb.Error as error:
        raise StageError(f"{path} is damaged: {error}", remedy=REMEDY) from error
    finally:
        connection.disconnect()


def watermark(log: Table) -> int:
    """The number of the last event from the endpoint that is in here; 0 where there is none."""
    if "feedback_seq" not in log.columns:
        return 0
    return log["feedback_seq"].max().to_pyarrow().as_py() or 0


def _check(path: Path, name: TableName) -> None:
    """Whether a table is there, readable, and has the canonical columns."""
    try:
        schema = pq.read_schema(path)
    except FileNotFoundError as error:
        raise StageError(f"{path} is missing", remedy=REMEDY) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise StageError(f"{path} is damaged: {error}", remedy=REMEDY) from error
    for field in SCHEMAS[name]:
        found = schema.field(field.name).type if field.name in schema.names else "missing"
        if found != field.type:
            raise StageError(f"{path}: column {field.name} is {found}, expected {field.type}", remedy=REMEDY)
