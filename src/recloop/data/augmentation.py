"""Histories as they might also have been: more to learn from where there is little.

crop and reorder change what happened (as in CL4SRec, Xie et al., 2020, arXiv 2010.14395); mask and substitute change
only what a model is shown of it, and what is to be predicted stays (substitution by co-occurring items: CoSeRec, Liu
et al., 2021, arXiv 2108.06479).
"""

from __future__ import annotations

import numpy as np

from recloop.config import Augment
from recloop.data.cooccurrence import cooccurrences
from recloop.data.prepared import Prepared

NEAR = 3
"""Items that stand at most so many events apart in a history occur near each other."""
SIMILAR = 10
"""So many similar items of each are kept."""


class Augmentation:
    """Changes windows of histories at random."""

    def __init__(self, settings: Augment, prepared: Prepared) -> None:
        self._settings = settings
        self._nothing = prepared.item_count
        self._similar = similar_items(prepared) if settings.substitute else None

    def cropped(self, starts: np.ndarray, ends: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """First and past-the-last rows of windows, some cut down to a stretch at least half as long."""
        lengths = ends - starts
        kept = np.ceil(lengths * (0.5 + 0.5 * rng.random(len(lengths)))).astype(np.int64)
        kept = np.where(rng.random(len(lengths)) < self._settings.crop, kept, lengths)
        first = starts + np.floor((lengths - kept + 1) * rng.random(len(lengths))).astype(np.int64)
        return first, first + kept

    def reordered(self, rows: np.ndarray, offsets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rows of the long table, in some windows a stretch of a quarter in another order.

        Args:
            rows: int64 [events], window by window.
            offsets: int64 [windows + 1]
        """
        lengths = np.diff(offsets)
        stretch = np.where(rng.random(len(lengths)) < self._settings.reorder, np.maximum(2, lengths // 4), 0)
        stretch = np.minimum(stretch, lengths)
        first = offsets[:-1] + np.floor((lengths - stretch + 1) * rng.random(len(lengths))).astype(np.int64)
        place = np.arange(len(rows))
        window = np.repeat(np.arange(len(lengths)), lengths)
        inside = (place >= first[window]) & (place < (first + stretch)[window])
        # Sorted by where they stand, those inside by chance within their stretch.
        key = np.where(inside, first[window] + stretch[window] * rng.random(len(rows)), place)
        return rows[np.argsort(key, kind="stable")]

    def shown(self, items: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What a model is shown of these events: int32 [events]; the catalogue's size stands for nothing."""
        shown = items
        if self._similar is not None:
            other = self._similar[items, rng.integers(SIMILAR, size=len(items))]
            shown = np.where((rng.random(len(items)) < self._settings.substitute) & (other >= 0), other, shown)
        if self._settings.mask:
            shown = np.where(rng.random(len(items)) < self._settings.mask, self._nothing, shown)
        return shown


def similar_items(prepared: Prepared) -> np.ndarray:
    """Items that most often occur near each item in the training period, relative to how common they are.

    Returns:
        int32 [items, SIMILAR], by the cosine of how often they occur near each other; a row with fewer repeats them,
        and one with none is -1.
    """
    count = prepared.item_count
    pairs = cooccurrences(prepared, NEAR)
    common = np.maximum(prepared.train_counts, 1)
    alike = pairs.weights / np.sqrt(common[pairs.one] * common[pairs.other])
    order = np.lexsort((pairs.other, -alike, pairs.one))
    one, other = pairs.one[order], pairs.other[order]
    found = np.bincount(one, minlength=count)
    first = np.cumsum(found) - found
    place = np.arange(SIMILAR)[None, :] % np.maximum(found, 1)[:, None]
    similar = np.full((count, SIMILAR), -1, np.int32)
    some = found > 0
    similar[some] = other[(first[:, None] + place)[some]]
    return similar
