"""item-kNN: items like those of the history, alike being taken by the same people.

Item-Based Collaborative Filtering Recommendation Algorithms, Sarwar et al., 2001; Item-Based Top-N Recommendation
Algorithms, Deshpande and Karypis, 2004: the cosine of two items' columns of the user-item matrix, and of each item only
the nearest neighbours. Shrinkage takes off what two items share by few people.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from recloop.config import Positive
from recloop.data.batches import RaggedTensor
from recloop.data.prepared import Prepared
from recloop.models.base import ClosedForm, ModelConfig
from recloop.models.counts import gram_columns, once_each, user_item_matrix


class ItemKnnConfig(ModelConfig):
    """Hyper-parameters of item-kNN."""

    neighbours: Positive = 100
    """Of each item, as many are kept."""
    shrink: float = Field(default=10.0, ge=0)
    """Added to what a cosine is divided by."""
    half_life: float | None = Field(default=3.0, gt=0)
    """An event this many events before the newest counts half; null: all count alike."""


class ItemKnn(ClosedForm):
    """The nearest neighbours of each item, and how near they are."""

    Config = ItemKnnConfig
    name = "item_knn"
    config: ItemKnnConfig

    neighbours: Tensor
    """int64 [items, neighbours]: item codes"""
    weights: Tensor
    """float32 [items, neighbours]: 0 where an item has fewer"""

    def __init__(self, config: ItemKnnConfig, *, catalogue_size: int, user_count: int, max_history: int) -> None:
        super().__init__(config, catalogue_size=catalogue_size, user_count=user_count, max_history=max_history)
        count = min(config.neighbours, catalogue_size)
        self.register_buffer("neighbours", torch.zeros(catalogue_size, count, dtype=torch.int64))
        self.register_buffer("weights", torch.zeros(catalogue_size, count))

    def fit(self, prepared: Prepared) -> None:
        taken = user_item_matrix(prepared).to(self.device)
        norms = torch.sparse.sum(taken, 0).to_dense().sqrt()
        for block, shared in gram_columns(taken):
            alike = shared / (norms[:, None] * norms[block] + self.config.shrink).clamp(min=1e-12)
            alike[block, torch.arange(len(block), device=self.device)] = 0
            self.weights[block], self.neighbours[block] = alike.T.contiguous().topk(self.neighbours.shape[1])

    def _score(self, histories: RaggedTensor, users: Tensor | None, candidates: Tensor | None) -> Tensor:
        histories = once_each(histories.last(self.max_history), self.catalogue_size)
        counts = torch.ones(len(histories.values), device=self.device)
        if self.config.half_life is not None:
            age = histories.lengths[histories.rows] - 1 - histories.from_start
            counts = 0.5 ** (age / self.config.half_life)
        scores = torch.zeros(len(histories) * self.catalogue_size, device=self.device)
        places = histories.rows[:, None] * self.catalogue_size + self.neighbours[histories.values]
        scores.index_add_(0, places.flatten(), (counts[:, None] * self.weights[histories.values]).flatten())
        scores = scores.view(len(histories), self.catalogue_size)
        return scores if candidates is None else scores[:, candidates]
