"""From scores to ranks and lists: what is left out, and who comes first in a tie."""

from __future__ import annotations

import torch
from torch import Tensor

from recloop.data.batches import RaggedTensor

OUT_OF_REACH = 1 << 40
"""The rank of what cannot be recommended: beyond every list, also one that is longer than the catalogue."""


def exclude(scores: Tensor, seen: RaggedTensor) -> None:
    """Set the score of every item that its row's user has seen to -inf, in place.

    Args:
        scores: [batch, items]
        seen: item codes of each row's user
    """
    scores[seen.rows, seen.values] = -torch.inf


def top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best items of each row, best first; of items with one score, the lower code first.

    Args:
        scores: [batch, items]; an item at -inf is never listed.
        k: length of a list; shorter where the catalogue is.

    Returns:
        Item codes, int64 [batch, min(k, items)], and their scores. Where fewer items than that can be recommended,
        the list ends in -1 with a score of -inf.
    """
    k = min(k, scores.shape[1])
    best, codes = scores.topk(k)
    # topk takes any of the items that tie for the last place. Where there are more of them than places, sort the row.
    crowded = torch.ge(scores, best[:, -1:], out=_marks(scores)).sum(1) > k
    # Of the items found, the lower code first; then by score, a tie keeping that order.
    codes, by_code = codes.sort(1)
    best, by_score = best.gather(1, by_code).sort(dim=1, descending=True, stable=True)
    codes = codes.gather(1, by_score)
    if bool(crowded.any()):
        values, order = scores[crowded].sort(dim=1, descending=True, stable=True)
        best[crowded], codes[crowded] = values[:, :k], order[:, :k]
    return codes.masked_fill(best == -torch.inf, -1), best


def rank_of(scores: Tensor, targets: Tensor) -> Tensor:
    """The place of each row's target in the list of all items: 1 is the best; of equals, the lower code first.

    Args:
        scores: [batch, items]
        targets: int64 [batch] item codes

    Returns:
        int64 [batch]. A target at -inf cannot be recommended: its rank is OUT_OF_REACH.
    """
    target = targets[:, None]
    own = scores.gather(1, target)
    marks = _marks(scores)
    ahead = torch.gt(scores, own, out=marks).sum(1)
    ties = torch.eq(scores, own, out=marks)
    tied = (ties.sum(1) > 1).nonzero()[:, 0]
    if len(tied):
        lower = torch.arange(scores.shape[1], device=scores.device) < target[tied]
        ahead[tied] += (ties[tied] * lower).sum(1)
    return torch.where(own[:, 0] == -torch.inf, OUT_OF_REACH, ahead.long() + 1)


def _marks(scores: Tensor) -> Tensor:
    """Room for a comparison of `scores`, as ones and zeros. Torch adds up floats several times as fast as booleans, and
    just as exactly, up to 2^24."""
    return torch.empty_like(scores, dtype=torch.float32)
