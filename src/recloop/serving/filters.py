"""Filters on items: the arithmetic of `Attributes.mask`, attribute by attribute.

A filter names attributes and what each must be: a value, a list of which it must be one, or a range with both ends
within it, of which one may be left out:

    {"brand": "Acme", "in_stock": True, "categories": ["Drama", "Crime"], "price": {"min": 5, "max": 20}}

An attribute with several values, such as `categories`, fits when any of its values does. Null never fits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recloop.errors import RequestError

Value = bool | int | float | str
Filters = Mapping[str, Value | Sequence[Value] | Mapping[Any, Value | None]]
Kind = Literal["text", "number", "flag", "time"]

TAKES: dict[Kind, str] = {
    "text": "a string",
    "number": "a number",
    "flag": "true or false",
    "time": "a time (ISO 8601, or seconds since 1970)",
}
EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
INT64 = 2**63
FURTHEST = 1e300
"""No attribute is held against a number beyond it, which JSON may name."""


@dataclass(frozen=True)
class Range:
    """Both ends are within it; None: open."""

    low: int | float | None
    high: int | float | None


Condition = frozenset[Value] | Range
"""What an attribute must be: one of some values, or within a range. Equal filters have equal conditions."""


@dataclass(frozen=True)
class Column:
    """An attribute in the form that it is compared in."""

    name: str
    kind: Kind
    values: pa.Array
    """Strings as a dictionary array, so that each is compared once; times in µs since 1970."""
    offsets: np.ndarray | None
    """int64 [items + 1]: which values are whose; None where an item has one"""

    @classmethod
    def of(cls, name: str, column: pa.Array) -> Column:
        """Take in a column of items.parquet.

        Raises:
            RequestError: its values are nothing that a filter can compare.
        """
        values, offsets, types = column, None, pa.types
        if is_list(column.type):
            values, offsets = column.flatten(), list_offsets(column)
        if types.is_dictionary(values.type):
            values = values.dictionary_decode()
        kind: Kind
        if types.is_string(values.type) or types.is_large_string(values.type):
            kind, values = "text", values.dictionary_encode()
        elif types.is_boolean(values.type):
            kind = "flag"
        elif types.is_timestamp(values.type) or types.is_date(values.type):
            kind = "time"
            zone = values.type.tz if types.is_timestamp(values.type) else None
            values = values.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64())
        elif types.is_integer(values.type) and values.type != pa.uint64():
            kind, values = "number", values.cast(pa.int64())
        elif types.is_integer(values.type) or types.is_floating(values.type) or types.is_decimal(values.type):
            width = values.type if types.is_float32(values.type) else pa.float64()
            kind, values = "number", pc.add(values.cast(width, safe=False), pa.scalar(0.0, width))
        else:
            raise RequestError(
                f"{name} holds {column.type}, and nothing can be compared with that",
                remedy="go by an attribute of strings, numbers, times, true and false, or lists of such",
            )
        return cls(name, kind, values, offsets)

    @cached_property
    def labels(self) -> np.ndarray:
        """int32 [values]: equal where the values are; -1: null"""
        labels: np.ndarray = self.values.dictionary_encode().indices.fill_null(-1).to_numpy()
        return labels

    def condition(self, given: Any) -> Condition:
        """What a filter says of this attribute.

        Raises:
            RequestError: the attribute cannot be that.
        """
        whole = pa.types.is_integer(self.values.type)
        if isinstance(given, Mapping):
            ends = {end: self._value(value) for end, value in self._ends(given).items()}
            if whole:  # an end between two whole numbers, or beyond all that the column can hold
                low = max(math.ceil(ends.get("min", -INT64)), -INT64)
                high = min(math.floor(ends.get("max", INT64 - 1)), INT64 - 1)
                return Range(low, high) if low <= high else frozenset()
            return Range(ends.get("min"), ends.get("max"))
        values = {self._value(value) for value in (given if isinstance(given, list | tuple) else [given])}
        if whole:
            return frozenset(int(value) for value in values if value % 1 == 0 and -INT64 <= value < INT64)
        return frozenset(values)

    def fits(self, condition: Condition) -> np.ndarray:
        """bool [items]: for which items the attribute is what the condition says."""
        values = self.values.dictionary if self.kind == "text" else self.values
        if isinstance(condition, Range):
            within = [
                compare(values, pa.scalar(end, values.type))
                for compare, end in ((pc.greater_equal, condition.low), (pc.less_equal, condition.high))
                if end is not None
            ]
            return self._any(pc.and_(*within) if len(within) == 2 else within[0])
        return self._any(pc.is_in(values, pa.array(list(condition), values.type)))

    def above(self, least: float) -> np.ndarray:
        """bool [items]: for which items the number is above `least`."""
        return self._any(pc.greater(self.values, pa.scalar(least)))

    def _any(self, fitting: pa.Array) -> np.ndarray:
        """From booleans for the values, or for each string once, to bool [items]."""
        flags: np.ndarray = fitting.fill_null(False).to_numpy(zero_copy_only=False)
        if self.kind == "text":
            flags = np.append(flags, False)[self.labels]  # null has the last one
        if self.offsets is None:
            return flags
        before = np.zeros(len(flags) + 1, np.int32)
        np.cumsum(flags, out=before[1:])
        counts: np.ndarray = np.diff(before[self.offsets])
        return counts > 0

    def _ends(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A range's ends that are not left open."""
        ends = {end: value for end, value in given.items() if value is not None}
        if self.kind not in ("number", "time"):
            raise RequestError(
                f"{self.name} takes {TAKES[self.kind]}, not a range: {_shown(given)}",
                remedy="give it one, or a list of which it is to be one; ranges are of numbers and of times",
            )
        if not ends or ends.keys() - {"min", "max"}:
            raise RequestError(
                f"the range of {self.name} is {_shown(given)}", remedy="give it min, max or both, and nothing else"
            )
        return ends

    def _value(self, given: Any) -> Any:
        """One value, checked; a time in µs since 1970. Numbers no further out than a column's type can be asked for."""
        number = isinstance(given, int | float) and not isinstance(given, bool)
        if self.kind == "number" and number:
            near = max(-FURTHEST, min(FURTHEST, given)) + 0  # -0.0 becomes 0.0, as in the column
            return near if pa.types.is_integer(self.values.type) else float(near)
        if self.kind == "time" and number:
            return round(max(-FURTHEST, min(FURTHEST, given * 1_000_000)))
        if self.kind == "time" and isinstance(given, str):
            with suppress(ValueError):
                moment = datetime.fromisoformat(given)
                return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // MICROSECOND
        if (self.kind == "text" and isinstance(given, str)) or (self.kind == "flag" and isinstance(given, bool)):
            return given
        raise RequestError(
            f"{self.name} takes {TAKES[self.kind]}, not {_shown(given)}",
            remedy="give it one, or a list of which it is to be one",
        )


def is_list(kind: pa.DataType) -> bool:
    """Whether a column has several values an item."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def list_offsets(lists: pa.Array) -> np.ndarray:
    """int64 [items + 1]: which of the flattened values are whose."""
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _shown(given: Any) -> str:
    shown = repr(given)
    return shown if len(shown) < 60 else shown[:57] + "…"
