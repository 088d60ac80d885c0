"""Matrix factorisation: users and items as vectors, an item's score their product plus the item's bias.

Learnt by cross-entropy over the whole catalogue (Matrix Factorization Techniques for Recommender Systems, Koren,
Bell and Volinsky, 2009, gives the model). Users are answered by folding in: the vector that explains their
history best, by ridge regression against what the items' popularity alone would explain. So a user who came after
the training gets an answer like any other, and what a known user did since then counts.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from recloop.config import Positive
from recloop.data.batches import Batch, RaggedTensor
from recloop.models.base import Learner, LearnerConfig


class MfConfig(LearnerConfig):
    """Hyper-parameters of matrix factorisation."""

    dim: Positive = 64
    """Length of a user's and an item's vector."""
    ridge: float = Field(default=1.0, gt=0)
    """How much evidence a history must give before a folded-in vector leaves the origin."""


class MatrixFactorisation(Learner):
    """User vectors, item vectors and item biases."""

    Config = MfConfig
    name = "mf"
    config: MfConfig

    def __init__(self, config: MfConfig, *, catalogue_size: int, user_count: int, max_history: int) -> None:
        super().__init__(config, catalogue_size=catalogue_size, user_count=user_count, max_history=max_history)
        self.users = nn.Embedding(user_count, config.dim)
        self.items = nn.Embedding(catalogue_size, config.dim)
        self.biases = nn.Parameter(torch.zeros(catalogue_size))
        nn.init.zeros_(self.users.weight)
        nn.init.normal_(self.items.weight, std=0.1)

    def encode(self, histories: RaggedTensor, users: Tensor | None = None) -> Tensor:
        """The folded-in vector, and a one for the bias: [batch, dim + 1]. An empty history gives the origin."""
        histories = histories.last(self.max_history)
        events = histories.lengths.to(torch.float32)[:, None]
        share = self.biases.softmax(0)
        expected = share @ self.items.weight
        covariance = (self.items.weight * share[:, None]).T @ self.items.weight - expected[:, None] * expected
        spread, axes = torch.linalg.eigh(covariance)
        mean = F.embedding_bag(histories.values, self.items.weight, histories.offsets[:-1], mode="mean")
        folded = ((events * (mean - expected)) @ axes / (events * spread + self.config.ridge)) @ axes.T
        folded = torch.where(events > 0, folded, torch.zeros_like(folded))
        return torch.cat([folded, torch.ones_like(events)], 1)

    def item_matrix(self) -> Tensor:
        return torch.cat([self.items.weight, self.biases[:, None]], 1)

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of every event of the windows, given who did it."""
        logits = self.users(batch.users) @ self.items.weight.T + self.biases
        rows = batch.histories.rows
        entropy = logits.logsumexp(1)[rows] - logits[rows, batch.histories.values]
        loss: Tensor = (batch.weights * entropy).sum() / batch.weights.sum()
        return loss
