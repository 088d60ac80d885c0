"""Columns of the user's files as canonical types, or an error that shows the first value that cannot be one.

Nulls stay nulls: whether a value may be missing is for the gate to say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from recloop.data.schema import TIMESTAMP
from recloop.errors import SourceError

TimestampUnit = Literal["s", "ms", "us", "iso"]
UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}
MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
EARLIEST, LATEST = (pa.scalar(year, pa.int64()) for year in (-9_214_646_400_000_000, 9_214_646_400_000_000))
"""1678 and 2261: the years that fit 64 bits of nanoseconds, as pandas has it. A wrong unit ends outside."""


@dataclass(frozen=True)
class Place:
    """Where a column's values stand, for messages."""

    path: Path
    column: str
    first_row: int
    """Number of its first row in the file, from 1, the header not counted."""

    def refuse(self, values: pa.Array, index: int, expected: str, *, remedy: str | None = None) -> SourceError:
        return SourceError(
            f"{self.path}, column {self.column!r}, row {self.first_row + index}: "
            f"{values[index].as_py()!r} ({values.type}) where {expected} is expected",
            remedy=remedy or "correct the value, or map another column in `source` in params.yaml",
        )


def as_text(values: pa.Array, place: Place) -> pa.Array:
    """Strings; whole numbers as their digits (ids that a tool turned into floats, `12.0`, as `12`)."""
    if pa.types.is_floating(values.type):
        values = _cast(values, lambda part: part.cast(pa.int64()), place, "text or a whole number")
    return _cast(values, lambda part: part.cast(pa.string()), place, "text or a whole number")


def as_number(values: pa.Array, place: Place) -> pa.Array:
    """Numbers, as f32."""

    def cast(part: pa.Array) -> pa.Array:
        return (_trimmed(part).cast(pa.float64()) if _is_text(part.type) else part).cast(pa.float32(), safe=False)

    return _cast(values, cast, place, "a number")


def as_names(values: pa.Array, place: Place) -> pa.Array:
    """Lists of strings, from lists or from text separated by `|`."""
    if _is_text(values.type):
        values = pc.split_pattern(pc.if_else(pc.equal(values, ""), None, values), "|")
    return _cast(values, lambda part: part.cast(pa.list_(pa.string())), place, "a list, or text separated by `|`,")


def as_kind(values: pa.Array, place: Place, kind: pa.DataType) -> pa.Array:
    """Values of the type `kind`."""
    return _cast(values, lambda part: part.cast(kind), place, str(kind))


def as_time(values: pa.Array, place: Place, unit: TimestampUnit) -> pa.Array:
    """UTC microseconds, from numbers or text in `unit`, or from times and dates. No zone means UTC."""
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        read, expected = _from_time, "a time"
    elif unit == "iso":
        read, expected = _from_iso, "a time such as 2024-05-01T12:30:00Z"
    else:
        read = partial(_from_number, factor=MICROSECONDS[unit])
        expected = f"{UNITS[unit]} since 1970"

    def cast(part: pa.Array) -> pa.Array:
        micros = read(part).cast(pa.int64())
        if pc.any(pc.or_(pc.less(micros, EARLIEST), pc.greater(micros, LATEST))).as_py():
            raise pa.ArrowInvalid("out of range")
        return micros.cast(TIMESTAMP)

    other = "s, ms or us" if unit == "iso" else "iso for text such as 2024-05-01T12:30:00Z, else s, ms or us"
    remedy = f"is `source.timestamp_unit: {unit}` in params.yaml right? ({other})"
    return _cast(values, cast, place, f"{expected} (in the years 1678 to 2261)", remedy)


def _from_time(part: pa.Array) -> pa.Array:
    zone = part.type.tz if pa.types.is_timestamp(part.type) else None
    return part.cast(pa.timestamp("us", tz=zone), safe=False)


def _from_iso(part: pa.Array) -> pa.Array:
    text = _trimmed(part.cast(pa.string()))
    text = pc.replace_substring_regex(text, r"^(\d{4}-\d\d-\d\d)$", r"\1T00:00:00")
    text = pc.replace_substring_regex(text, r"(\.\d{6})\d+", r"\1")
    zoned = pc.match_substring_regex(text, r"(Z|[+-]\d\d(:?\d\d)?)$")
    return pc.if_else(zoned, text, pc.binary_join_element_wise(text, "Z", "")).cast(TIMESTAMP)


def _from_number(part: pa.Array, factor: int) -> pa.Array:
    if _is_text(part.type):
        part = _trimmed(part)
        try:
            part = part.cast(pa.int64())
        except pa.ArrowInvalid:
            part = part.cast(pa.float64())
    if pa.types.is_integer(part.type):
        return pc.multiply_checked(part.cast(pa.int64()), factor)
    return pc.round(pc.multiply(part.cast(pa.float64()), float(factor))).cast(pa.int64())


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _trimmed(text: pa.Array) -> pa.Array:
    return pc.utf8_trim_whitespace(text)


def _cast(
    values: pa.Array,
    cast: Callable[[pa.Array], pa.Array],
    place: Place,
    expected: str,
    remedy: str | None = None,
) -> pa.Array:
    try:
        return cast(values)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise place.refuse(values, _first_fault(values, cast), expected, remedy=remedy) from error


def _first_fault(values: pa.Array, cast: Callable[[pa.Array], pa.Array]) -> int:
    """Index of the first value that cannot be cast, where some value cannot."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            cast(values[low:middle])
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            high = middle
        else:
            low = middle
    return low
