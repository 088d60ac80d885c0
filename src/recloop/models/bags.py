"""What models of a history as a bag share: the sum of the vectors of what came before, at every place of a history."""

from __future__ import annotations

import torch
from torch import Tensor

from recloop.data.batches import RaggedTensor


def bags(vectors: Tensor, tokens: RaggedTensor) -> Tensor:
    """The sum of a sequence's vectors up to and with each token.

    Sums are doubled in reach until they reach the start: no sum runs over more than one sequence, as a cumulative sum
    of the whole batch would, and every step gives the same bits every time, on a GPU too.

    Args:
        vectors: float32 [tokens, width]
        tokens: the sequences they stand in.

    Returns:
        float32 [tokens, width]
    """
    reach = 1
    while reach < tokens.longest:
        inside = (tokens.from_start >= reach)[:, None]
        vectors = vectors + torch.where(inside, vectors.roll(reach, 0), 0.0)
        reach *= 2
    return vectors
