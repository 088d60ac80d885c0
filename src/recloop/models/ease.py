"""EASE: each item from all others, by a ridge regression without the item itself, in closed form.

Embarrassingly Shallow Autoencoders for Sparse Data, Steck, 2019 (arXiv 1905.03375): with G the items' Gram matrix and
P = (G + ridge I)⁻¹, the weights are -P / diag(P), and 0 on the diagonal.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from recloop.config import Positive
from recloop.data.batches import RaggedTensor
from recloop.data.prepared import Prepared
from recloop.errors import ModelError
from recloop.models.base import ClosedForm, ModelConfig
from recloop.models.counts import gram_columns, once_each, user_item_matrix


class EaseConfig(ModelConfig):
    """Hyper-parameters of EASE."""

    ridge: float = Field(default=200.0, gt=0)
    """How strongly weights are held to 0."""
    max_items: Positive = 20_000
    """A larger catalogue is refused: the matrix, and what inverting it takes, grow with its square."""


class Ease(ClosedForm):
    """A weight for every pair of items."""

    Config = EaseConfig
    name = "ease"
    config: EaseConfig

    weights: Tensor
    """float32 [items, items]: what having row's item says for column's"""

    def __init__(self, config: EaseConfig, *, catalogue_size: int, user_count: int, max_history: int) -> None:
        super().__init__(config, catalogue_size=catalogue_size, user_count=user_count, max_history=max_history)
        if catalogue_size > config.max_items:
            raise ModelError(
                f"ease: {catalogue_size:,} items are too many: its matrix would take "
                f"{4 * catalogue_size**2 / 1e9:,.0f} GB, and training three times that",
                remedy=f"take ease out of the zoo, raise models.ease.max_items (now {config.max_items:,}), or drop "
                "rare items with prepare.min_item_events",
            )
        self.register_buffer("weights", torch.zeros(catalogue_size, catalogue_size))

    def fit(self, prepared: Prepared) -> None:
        gram = torch.empty_like(self.weights)
        for block, shared in gram_columns(user_item_matrix(prepared).to(self.device)):
            gram[:, block] = shared
        gram.diagonal().add_(self.config.ridge)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        del gram
        self.weights.copy_(inverse.div_(-inverse.diagonal().clone()))
        self.weights.fill_diagonal_(0)

    def _score(self, histories: RaggedTensor, users: Tensor | None, candidates: Tensor | None) -> Tensor:
        histories = once_each(histories.last(self.max_history), self.catalogue_size)
        weights = self.weights if candidates is None else self.weights[:, candidates]
        return F.embedding_bag(histories.values, weights, histories.offsets[:-1], mode="sum")
