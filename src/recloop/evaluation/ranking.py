"""Where a model ranks what came next, over the whole catalogue, a block of users at a time.

Memory is that of one block of scores, whatever the number of users.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recloop.data.prepared import Ragged
from recloop.errors import ModelError

if TYPE_CHECKING:
    import torch

    from recloop.models.base import Recommender

SCORES = 1 << 22
"""Scores held at once: 16 MiB of them."""
PLACES = 1 << 16
"""Events, padding counted, that a model looks at at once."""


@dataclass(frozen=True)
class Ranking:
    """What a model answered to each case."""

    ranks: np.ndarray
    """int64 [cases]: the target's place, 1 being the best; `lists.OUT_OF_REACH` where it could not be recommended"""
    lists: np.ndarray
    """int64 [cases, k]: the best items, best first; -1 where a list is shorter"""


def rank(
    model: Recommender,
    histories: Ragged,
    users: np.ndarray | None,
    *,
    targets: np.ndarray,
    k: int,
    exclude_seen: bool,
    seen: Ragged | None = None,
) -> Ranking:
    """Rank each case's target among all items.

    Ties in score go to the lower item code, so that a model that tells nothing apart gains nothing by it. With
    `exclude_seen`, items the user has seen cannot be recommended; a target among them is a miss.

    Args:
        model: ready to score, on any device.
        histories: what the model is shown.
        users: int32 [cases] user codes; None where they are not known.
        targets: int32 [cases] item codes.
        k: length of the lists.
        exclude_seen: whether items that were seen are left out.
        seen: what was seen, where that is more than the model is shown.

    Raises:
        ModelError: the model gives scores that are not numbers.
    """
    import torch

    from recloop.data.batches import RaggedTensor
    from recloop.evaluation.lists import exclude, rank_of, top

    seen = histories if seen is None else seen
    ranks = np.empty(len(targets), np.int64)
    lists = np.empty((len(targets), min(k, model.catalogue_size)), np.int64)
    lengths = np.diff(histories.offsets)
    order = np.argsort(lengths, kind="stable")
    model.eval()
    with torch.inference_mode():
        for block in _blocks(order, lengths, model.catalogue_size):
            codes = None if users is None else _tensor(users[block]).to(model.device)
            scores = model.score(RaggedTensor.of(_rows(histories, block), model.device), codes)
            if not bool(scores.isfinite().all()):
                raise ModelError(f"{model.name} gives scores that are not finite", remedy="train it again")
            if exclude_seen:
                exclude(scores, RaggedTensor.of(_rows(seen, block), model.device))
            ranks[block] = rank_of(scores, _tensor(targets[block]).to(model.device)).cpu().numpy()
            lists[block] = top(scores, k)[0].cpu().numpy()
    return Ranking(ranks, lists)


def _blocks(order: np.ndarray, lengths: np.ndarray, catalogue_size: int) -> Iterator[np.ndarray]:
    """Cases of like length together, as many as the limits allow; at least one."""
    most = max(1, SCORES // catalogue_size)
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and end - start < most and (end + 1 - start) * (lengths[order[end]] + 1) <= PLACES:
            end += 1
        yield order[start:end]
        start = end


def _rows(sequences: Ragged, rows: np.ndarray) -> Ragged:
    return Ragged.slices(sequences.values, sequences.offsets[rows], sequences.offsets[rows + 1])


def _tensor(codes: np.ndarray) -> torch.Tensor:
    import torch

    return torch.from_numpy(codes.astype(np.int64))
