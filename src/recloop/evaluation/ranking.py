"""Where a model ranks what came next, over the whole catalogue, a block of users at a time.

Memory is that of one block of scores and of the lists, whatever users × items are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recloop.data.prepared import Ragged
from recloop.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from recloop.data.batches import RaggedTensor
    from recloop.models.base import Recommender

SCORES = 1 << 20
"""Scores held at once: 4 MiB of them, so that they stay in a processor's cache."""
SCORES_ON_GPU = 1 << 26
"""The same on a GPU, which has to be kept busy: 256 MiB."""
ROWS = 32
"""Cases at once where that is more: with fewer, reading the catalogue costs more than multiplying."""
PLACES = 1 << 16
"""Events, padding counted, that a model looks at at once."""


class NotFiniteScoresError(ModelError):
    """A model gives scores that are infinite, or no numbers."""


@dataclass(frozen=True)
class Ranking:
    """What a model answered to each case."""

    ranks: np.ndarray
    """int64 [targets]: a target's place, 1 being the best; `lists.OUT_OF_REACH` where it could not be recommended"""
    lists: np.ndarray
    """int64 [cases, k]: the best items, best first; -1 where a list is shorter"""


def rank(
    model: Recommender,
    histories: Ragged,
    users: np.ndarray | None,
    *,
    targets: np.ndarray | Ragged,
    k: int,
    exclude_seen: bool,
    seen: Ragged | None = None,
) -> Ranking:
    """Rank each case's targets among all items.

    Ties in score go to the lower item code, so that a model that tells nothing apart gains nothing by it. With
    `exclude_seen`, items the user has seen cannot be recommended; a target among them is a miss.

    Args:
        model: ready to score, on any device.
        histories: what the model is shown.
        users: int32 [cases] user codes; None where they are not known.
        targets: item codes: int32 [cases], or at least one a case.
        k: length of the lists; 0 for none, which is quicker.
        exclude_seen: whether items that were seen are left out.
        seen: what was seen, where that is more than the model is shown.

    Raises:
        ModelError: the model gives scores that are not numbers.
    """
    import torch

    from recloop.data.batches import RaggedTensor
    from recloop.evaluation.lists import exclude, top

    seen = histories if seen is None else seen
    targets = targets if isinstance(targets, Ragged) else Ragged(targets, np.arange(len(targets) + 1))
    places = Ragged(np.arange(len(targets.values)), targets.offsets)
    ranks = np.empty(len(targets.values), np.int64)
    lists = np.empty((len(histories), min(k, model.catalogue_size)), np.int64)
    lengths = np.diff(histories.offsets)
    order = np.argsort(lengths, kind="stable")
    model.eval()
    with torch.inference_mode():
        score = _scorer(model)
        limit = SCORES if model.device.type == "cpu" else SCORES_ON_GPU
        most = max(ROWS, limit // model.catalogue_size)
        for block in _blocks(order, lengths, most):
            codes = None if users is None else torch.from_numpy(users[block].astype(np.int64)).to(model.device)
            scores = score(RaggedTensor.of(histories.rows(block), model.device), codes)
            # One number that is not finite makes the sum not finite; so may finite ones, if they are huge.
            if not bool(scores.sum().isfinite()) and not bool(scores.isfinite().all()):
                raise NotFiniteScoresError(f"{model.name} gives scores that are not finite", remedy="train it again")
            if exclude_seen:
                exclude(scores, RaggedTensor.of(seen.rows(block), model.device))
            asked = RaggedTensor.of(targets.rows(block), model.device)
            ranks[places.rows(block).values] = _ranks(scores, asked).cpu().numpy()
            if k:
                lists[block] = top(scores, k)[0].cpu().numpy()
    return Ranking(ranks, lists)


def _scorer(model: Recommender) -> Callable[[RaggedTensor, Tensor | None], Tensor]:
    """`model.score`, with the items' vectors made only once."""
    from recloop.models.base import DualEncoder

    if not isinstance(model, DualEncoder):
        return model.score
    items = model.item_matrix()
    return lambda histories, users: model.match(model.encode(histories, users), items)


def _ranks(scores: Tensor, targets: RaggedTensor) -> Tensor:
    """int64 [targets]. Rows of `scores` are copied only where they have more than one target, few at a time."""
    import torch

    from recloop.evaluation.lists import rank_of

    count = len(scores)
    if len(targets.values) == count:
        return rank_of(scores, targets.values)
    few = [slice(start, start + count) for start in range(0, len(targets.values), count)]
    return torch.cat([rank_of(scores[targets.rows[part]], targets.values[part]) for part in few])


def _blocks(order: np.ndarray, lengths: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Cases of like length together, `most` at once, or fewer where they are long; at least one."""
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and end - start < most and (end + 1 - start) * (lengths[order[end]] + 1) <= PLACES:
            end += 1
        yield order[start:end]
        start = end
