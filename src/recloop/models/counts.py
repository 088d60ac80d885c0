"""What the models in closed form are computed from: who took what in the training period."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from recloop.data.batches import RaggedTensor
from recloop.data.prepared import Prepared

NUMBERS = 1 << 23
"""Held at once where a matrix is taken block by block: 32 MiB of them."""


def user_item_matrix(prepared: Prepared) -> Tensor:
    """Sparse float32 [users, items]: 1 where a user took an item in the training period, by any event of any weight."""
    learnt = (prepared.periods == 0) & (prepared.weights > 0)
    users = np.repeat(np.arange(prepared.user_count), prepared.ends - prepared.starts)[learnt]
    pairs = np.unique(users * prepared.item_count + prepared.items[learnt])
    places = torch.from_numpy(np.stack([pairs // prepared.item_count, pairs % prepared.item_count]))
    size = (prepared.user_count, prepared.item_count)
    return torch.sparse_coo_tensor(places, torch.ones(len(pairs)), size, is_coalesced=True, check_invariants=False)


def once_each(histories: RaggedTensor, catalogue_size: int) -> RaggedTensor:
    """The same histories with each item only once, where it stands last: as a user counts in the matrix."""
    pairs = histories.rows * catalogue_size + histories.values
    found, place = pairs.unique(return_inverse=True)
    if len(found) == len(pairs):
        return histories
    order = torch.arange(len(pairs), device=pairs.device)
    newest = torch.zeros_like(found).scatter_reduce_(0, place, order, "amax", include_self=False).sort().values
    counts = torch.bincount(histories.rows[newest], minlength=len(histories))
    return RaggedTensor(histories.values[newest], torch.nn.functional.pad(counts.cumsum(0), (1, 0)))


def gram_columns(taken: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """How many users any two items share, a block of columns at a time.

    Args:
        taken: sparse [users, items], of ones.

    Yields:
        Item codes, int64 [block], and float32 [items, block].
    """
    users, count = taken.shape
    items = taken.transpose(0, 1)
    size = max(1, NUMBERS // max(users, count))
    for block in torch.arange(count, device=taken.device).split(size):
        yield block, torch.mm(items, taken.index_select(1, block).to_dense())
