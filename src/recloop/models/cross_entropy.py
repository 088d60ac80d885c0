"""Softmax cross-entropy over the whole catalogue, without the logits of a whole batch in memory.

The logits of [positions × items] are by far the largest thing in training. Here they are made a block of positions
at a time; the block's gradients are taken at once, in place, and the block is forgotten (the idea of "Cut Your
Losses in Large-Vocabulary Language Models", arXiv 2411.09009, and of Liger's fused linear cross-entropy). The
result is exact. On two CPU cores it is about four times as fast as `F.cross_entropy`, and memory stays flat.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BLOCK = 1 << 22
"""Logits held at once: 16 MiB of them."""


def catalogue_cross_entropy(queries: Tensor, items: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The mean of -log softmax(queries · items)[target], each position counting by its weight.

    Args:
        queries: float32 [positions, dim]
        items: float32 [items, dim]
        targets: int64 [positions]
        weights: float32 [positions]; where all are zero, so is the loss.

    Returns:
        A scalar. Gradients go to `queries` and `items`.
    """
    result: Tensor = _CrossEntropy.apply(queries, items, targets, weights)
    return result


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, items: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        rows = max(1, BLOCK // len(items))
        shares = weights / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)
        query_gradient, item_gradient = torch.empty_like(queries), torch.zeros_like(items)
        loss = queries.new_zeros(())
        for start in range(0, len(queries), rows):
            block = slice(start, start + rows)
            share, target = shares[block, None], targets[block, None]
            logits = queries[block] @ items.T
            top = logits.amax(1, keepdim=True)
            hit = logits.gather(1, target)
            total = logits.sub_(top).exp_().sum(1, keepdim=True)
            loss += (share * (total.log() + top - hit)).sum()
            # From here on `logits` holds the gradient: softmax minus one at the target, times the share.
            logits.mul_(share / total).scatter_add_(1, target, -share)
            query_gradient[block] = logits @ items
            item_gradient.addmm_(logits.T, queries[block])
        ctx.save_for_backward(query_gradient, item_gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        query_gradient, item_gradient = ctx.saved_tensors
        return query_gradient * gradients[0], item_gradient * gradients[0], None, None
