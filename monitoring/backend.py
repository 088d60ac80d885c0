"""The engine under the Ibis expressions: DuckDB in this process, which spills to disk what does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend


@contextmanager
def duckdb() -> Iterator[Backend]:
    """A DuckDB of its own; tables made in it are gone at the end."""
    import ibis

    with TemporaryDirectory(prefix="recloop-monitor-") as spill:
        backend = ibis.duckdb.connect(temp_directory=spill)
        try:
            yield backend
        finally:
            backend.disconnect()
