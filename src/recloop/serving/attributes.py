"""What is known of a package's items: which of them fit a filter, what to show of them, and how alike they are."""

from __future__ import annotations

import difflib
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recloop.errors import RequestError, ServingError
from recloop.serving.filters import Column, Filters, is_list, list_offsets

KEPT_MASKS = 64
"""Masks that are remembered: a byte an item each"""
WIDTH = 128
"""Of content vectors. For two items with nothing in common the product is 0 give or take 1/√128, which is 0.09."""
BLOCKS = 4
"""A word stands at one place in each quarter of a content vector."""
AT_ONCE = 8192
"""Items that are projected in one go: 8 MB"""


class Attributes:
    """The items' attributes. Safe to use from several threads.

    Args:
        table: row = item code.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._columns: dict[str, Column] = {}
        self._masks: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """The attributes that there are."""
        return tuple(self._table.column_names)

    def mask(self, filters: Filters) -> np.ndarray:
        """bool [items], read-only: which items fit all of `filters`; the same array for the same filters.

        Raises:
            RequestError: there is no such attribute, or it cannot be what the filter says.
        """
        conditions = frozenset((name, self._column(name).condition(given)) for name, given in filters.items())

        def fitting() -> np.ndarray:
            mask = np.ones(self._table.num_rows, bool)
            for name, condition in conditions:
                mask &= self._column(name).fits(condition)
            return mask

        return self._remembered(conditions, fitting)

    def within(self, name: str, most: float) -> np.ndarray:
        """bool [items], read-only: whose number is not above `most`, those without one included.

        Raises:
            RequestError: there is no such attribute, or it is not one number an item.
        """
        column = self._column(name)
        if column.kind != "number" or column.offsets is not None:
            raise RequestError(f"{name} is to be one number an item, not {self._table[name].type}")
        return self._remembered((name, most), lambda: ~column.above(most))

    def values(self, name: str, codes: Sequence[int] | np.ndarray) -> list[Any]:
        """An attribute of some items, to show.

        Raises:
            RequestError: there is no such attribute.
        """
        self._demand(name)
        values: list[Any] = self._table[name].take(pa.array(codes, pa.int64())).to_pylist()
        return values

    def labels(self, name: str, codes: Sequence[int] | np.ndarray) -> list[set[int]]:
        """An attribute's values for some items, as numbers that are equal where the values are; null has none.

        Raises:
            RequestError: there is no such attribute, or it cannot be compared.
        """
        column, codes = self._column(name), np.asarray(codes, np.int64)
        if column.offsets is None:
            return [{label} - {-1} for label in column.labels[codes].tolist()]
        starts, ends = column.offsets[codes].tolist(), column.offsets[codes + 1].tolist()
        return [set(column.labels[start:end].tolist()) - {-1} for start, end in zip(starts, ends, strict=True)]

    def _remembered(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        with self._lock:
            if key in self._masks:
                self._masks.move_to_end(key)
                return self._masks[key]
        mask = make()
        mask.setflags(write=False)
        with self._lock:
            mask = self._masks.setdefault(key, mask)
            if len(self._masks) > KEPT_MASKS:
                self._masks.popitem(last=False)
        return mask

    def _demand(self, name: str) -> None:
        if name not in self.names:
            close = difflib.get_close_matches(name, self.names, n=1)
            hint = f"; did you mean `{close[0]}`?" if close else ""
            raise RequestError(f"items have no attribute {name!r}{hint}", remedy=f"they have: {', '.join(self.names)}")

    def _column(self, name: str) -> Column:
        if name not in self._columns:
            self._demand(name)
            self._columns[name] = Column.of(name, self._table[name].combine_chunks())
        return self._columns[name]


def content_vectors(table: pa.Table) -> np.ndarray:
    """float32 [items, WIDTH]: unit vectors whose products say how alike items' contents are; zeros where there is none.

    Three kinds of content count alike: categories, the words of the title, and each column `emb_…` of vectors. Of words
    and categories the rare ones weigh more. They are projected as their hashes say (Kane & Nelson, "Sparser
    Johnson-Lindenstrauss transforms", JACM 2014), so that the width is the same for every catalogue, and a word's
    vector in every process.

    Args:
        table: row = item code.

    Raises:
        ServingError: a column `emb_…` has vectors of different lengths.
    """
    vectors = np.zeros((table.num_rows, WIDTH), np.float32)
    for name, kind in zip(table.column_names, table.schema.types, strict=True):
        column = table[name].combine_chunks()
        inner = kind.value_type if is_list(kind) else None
        if name == "title" and pa.types.is_string(kind):
            words = pc.split_pattern_regex(pc.utf8_lower(column), r"[^\p{L}\p{N}]+")
            _add_words(vectors, name, words)
        elif name == "categories" and inner is not None and pa.types.is_string(inner):
            _add_words(vectors, name, column)
        elif name.startswith("emb_") and inner is not None and pa.types.is_floating(inner):
            _add_embeddings(vectors, name, column)
    for rows in _blocks(len(vectors)):
        vectors[rows] = _units(vectors[rows])
    return vectors


def _add_words(vectors: np.ndarray, name: str, lists: pa.Array) -> None:
    """Add to each item's vector the unit vector of its words. Of the n items' words, one that occurs f times weighs
    log(1 + n / f)."""
    encoded = lists.flatten().dictionary_encode()
    known = encoded.dictionary.to_pylist()
    if not known:
        return
    words = encoded.indices.fill_null(0).to_numpy()
    occurrences = np.bincount(words, minlength=len(known))
    weights = np.log1p(len(lists) / np.maximum(occurrences, 1))
    # Nothing stands before a title's first sign or after its last, where that is no letter; and it is no word.
    weights *= [bool(word) for word in known]
    weights_of = np.where(encoded.is_valid().to_numpy(zero_copy_only=False), weights[words], 0.0)
    places, signs = _projection(f"{name}\0{word}" for word in known)
    offsets = list_offsets(lists)
    for rows in _blocks(len(lists)):
        entries = slice(offsets[rows.start], offsets[rows.stop])
        row = np.repeat(np.arange(rows.stop - rows.start), np.diff(offsets[rows.start : rows.stop + 1]))
        at = row[:, None] * WIDTH + places[words[entries]]
        amounts = signs[words[entries]] * weights_of[entries, None]
        sums = np.bincount(at.ravel(), amounts.ravel(), minlength=(rows.stop - rows.start) * WIDTH)
        vectors[rows] += _units(sums.reshape(-1, WIDTH))


def _add_embeddings(vectors: np.ndarray, name: str, lists: pa.Array) -> None:
    """Add to each item's vector its embedding, projected, as a unit vector."""
    offsets = list_offsets(lists)
    lengths = np.diff(offsets)
    widths = np.unique(lengths[lengths > 0])
    if len(widths) > 1:
        raise ServingError(
            f"the items' {name} are of {widths[0]} and of {widths[-1]} numbers",
            remedy="give all of them one length, or the column a name that does not begin with emb_",
        )
    if not len(widths):
        return
    numbers = lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, widths[0])
    places, signs = _projection(f"{name}\0{index}" for index in range(widths[0]))
    matrix = np.zeros((widths[0], WIDTH), np.float32)
    np.put_along_axis(matrix, places, signs.astype(np.float32), axis=1)
    items = np.flatnonzero(lengths)
    for rows in _blocks(len(items)):
        whole = np.where(np.isfinite(numbers[rows]).all(1, keepdims=True), numbers[rows], 0.0)
        vectors[items[rows]] += _units(whole.astype(np.float32) @ matrix)


def _projection(names: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """Where each name stands in a vector, and with which signs: int64 and int8 [names, BLOCKS], once in each block."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=BLOCKS).digest() for name in names)
    bits = np.frombuffer(digests, np.uint8).reshape(-1, BLOCKS).astype(np.int64)
    size = WIDTH // BLOCKS
    return bits % size + size * np.arange(BLOCKS), np.where(bits < 128, 1, -1).astype(np.int8)


def _units(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: np.ndarray = vectors / np.where(lengths > 0, lengths, 1.0)
    return units


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(start, min(rows, start + AT_ONCE)) for start in range(0, rows, AT_ONCE))
