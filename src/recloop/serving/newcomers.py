"""Items that nobody had dealt with when the model was trained: they get the vector of what is like them.

A model knows nothing of an item without training events, and its vector is what chance left there. Where such an
item has content, it stands instead where the items with the most similar content stand (their mean), so that it is
found beside them. An item without content, or without anything like it, keeps its vector.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from recloop.serving.attributes import content_vectors

NEIGHBOURS = 20
AT_ONCE = 1024
"""Newcomers that are compared with the catalogue in one product."""


def with_newcomers(vectors: np.ndarray, items: pa.Table) -> np.ndarray:
    """float32 [items, width]: `vectors`, with those of newcomers replaced.

    Args:
        vectors: float32 [items, width]
        items: row = item code; `train_count` says how many training events an item has, and without that column
            none is a newcomer.
    """
    if "train_count" not in items.column_names:
        return vectors
    counts = items["train_count"].to_numpy()
    newcomers, known = np.flatnonzero(counts == 0), np.flatnonzero(counts > 0)
    if not len(newcomers) or not len(known):
        return vectors
    content = content_vectors(items)
    newcomers = newcomers[np.abs(content[newcomers]).sum(1) > 0]
    vectors = vectors.copy()
    for start in range(0, len(newcomers), AT_ONCE):
        rows = newcomers[start : start + AT_ONCE]
        alike = content[rows] @ content[known].T
        nearest = np.argpartition(-alike, min(NEIGHBOURS, len(known)) - 1, axis=1)[:, :NEIGHBOURS]
        weights = np.maximum(np.take_along_axis(alike, nearest, 1), 0.0)
        total = weights.sum(1, keepdims=True)
        mean = np.einsum("nk,nkw->nw", weights / np.maximum(total, 1e-12), vectors[known[nearest]])
        vectors[rows] = np.where(total > 0, mean, vectors[rows])
    return vectors
