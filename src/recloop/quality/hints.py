"""What the rows in quarantine have in common: the values at fault, and the setting that may be wrong instead."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recloop.quality.quarantine import Division

MOST = 3
"""Values that are shown."""


def hints(log: pa.Table, division: Division) -> dict[str, str]:
    """Row rule of the interactions → the values that broke it most often, and where to look."""
    found = {}
    for number, rule in enumerate(division.rules):
        rows = log.take(pa.array(np.flatnonzero(division.broken == number)))
        if rows.num_rows and (hint := _hint(rule, rows)):
            found[rule] = hint
    return found


def _hint(rule: str, rows: pa.Table) -> str | None:
    match rule:
        case "event_known":
            return f"{_most(rows['event'])}; gate.events names those that may occur"
        case "value_range":
            text = pc.cast(rows["value"], pa.string())
            return f"{_most(pc.binary_join_element_wise(rows['event'], text, ' '))}; gate.events has the ranges"
        case "value_present":
            return f"no value for {_most(rows['event'])}"
        case "timestamp_range":
            ends = pc.min_max(rows["timestamp"]).as_py()
            return (
                f"{ends['min']:%Y-%m-%d} to {ends['max']:%Y-%m-%d}; gate.earliest, or is source.timestamp_unit right?"
            )
    return None


def _most(values: pa.ChunkedArray) -> str:
    """The most frequent values, ties in their order."""
    counted = sorted(
        ((entry["counts"], repr(entry["values"])) for entry in pc.value_counts(values).to_pylist()),
        key=lambda pair: (-pair[0], pair[1]),
    )
    shown = ", ".join(value for _, value in counted[:MOST])
    return shown + (f" and {len(counted) - MOST:,} more" if len(counted) > MOST else "")
