"""Softmax cross-entropy over the whole catalogue, without the logits of a whole batch in memory.

The logits of [positions × items] are by far the largest thing in training. Here they are made a block of positions
at a time; the block's gradients are taken at once, and the block is forgotten (the idea of "Cut Your Losses in
Large-Vocabulary Language Models", arXiv 2411.09009, and of Liger's fused linear cross-entropy). The result is exact.

A block is read and written as seldom as can be: once by the product that makes it, once by the exponential, once by
the sum, and once by each of the two products of its gradients. What a row is scaled by is put on the narrow side of
those products, and the target, one entry a row, is added apart.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BLOCK = 1 << 21
"""Logits held at once: 8 MiB of them, which stay in a processor's cache."""
BLOCK_ON_GPU = 1 << 26
"""The same on a GPU, which has to be kept busy: 256 MiB."""
ROWS = 32
"""Positions at once where that is more: with fewer, reading a large catalogue costs more than multiplying."""
SAFE = 60.0
"""No float32 sum of exponentials overflows below this, nor does a product of it with gradients."""


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
        on_cpu = queries.device.type == "cpu"
        rows = max(1, min(len(queries), max(ROWS, (BLOCK if on_cpu else BLOCK_ON_GPU) // len(items))))
        shares = weights / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)
        held = queries.new_empty(rows, len(items))
        # No logit is larger than this: where it is small, the largest need not be looked for. A GPU would have to wait.
        small = on_cpu and bool(queries.norm(dim=1).amax() * items.norm(dim=1).amax() < SAFE) if len(queries) else True
        hits = (queries * items[targets]).sum(1)
        query_gradient, item_gradient = torch.empty_like(queries), torch.zeros_like(items)
        logs = torch.empty_like(hits)
        for start in range(0, len(queries), rows):
            block = slice(start, start + rows)
            query = queries[block]
            logits = torch.mm(query, items.T, out=held[: len(query)])
            top = None if small else logits.amax(1, keepdim=True)
            total = (logits if top is None else logits.sub_(top)).exp_().sum(1)
            logs[block] = total.log() if top is None else total.log() + top[:, 0]
            scale = (shares[block] / total)[:, None]
            torch.mm(logits, items, out=query_gradient[block]).mul_(scale)
            item_gradient.addmm_(logits.T, query * scale)
        query_gradient.addcmul_(items[targets], shares[:, None], value=-1)
        item_gradient.index_add_(0, targets, queries * shares[:, None], alpha=-1)
        ctx.save_for_backward(query_gradient, item_gradient)
        return (shares * (logs - hits)).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        query_gradient, item_gradient = ctx.saved_tensors
        # In place: nobody else has them, and a copy of the catalogue's gradient is as large as the catalogue.
        return query_gradient.mul_(gradients[0]), item_gradient.mul_(gradients[0]), None, None
