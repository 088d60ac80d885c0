"""Matrix factorisation: users and items as vectors, an item's score their product plus the item's bias.

Learnt by cross-entropy over the whole catalogue (Matrix Factorization Techniques for Recommender Systems, Koren,
Bell and Volinsky, 2009, gives the model). Users are answered by folding in: the vector that explains their
history best. So a user who came after the training gets an answer like any other, and what a known user did since
then counts. (On MovieLens-100K it also does no worse for known users than the vectors they were trained with.)

The log-likelihood of a history of n items, taken to second order around the origin, where the catalogue's shares are
softmax(biases), makes folding in a ridge regression onto the item vectors, with a closed form:

    u = (n C + ridge I)⁻¹ n (mean vector of the history - m)

where m and C are mean and covariance of the item vectors under those shares. One eigendecomposition of C serves
every user. An empty history gives the origin: what everybody likes.
"""

from __future__ import annotations

from typing import Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from recloop.config import Positive
from recloop.data.batches import Batch, RaggedTensor
from recloop.models.base import LearnerConfig, Overrides, Predictions, Predictor


class MfConfig(LearnerConfig):
    """Hyper-parameters of matrix factorisation."""

    dim: Positive = 64
    """Length of a user's and an item's vector."""
    train: Overrides = Overrides(lr=0.01, epochs=60, patience=6)
    ridge: float = Field(default=50.0, gt=0)
    """How strongly a folded-in vector is held to the origin, counted in events of a history."""


class MatrixFactorisation(Predictor):
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
        self._space: tuple[tuple[int, int, torch.device], tuple[Tensor, Tensor, Tensor]] | None = None

    @property
    def reads_shown(self) -> bool:
        return False

    @property
    def item_rows(self) -> tuple[str, ...]:
        return ("items.weight", "biases")

    @property
    def user_rows(self) -> tuple[str, ...]:
        return ("users.weight",)

    def train(self, mode: bool = True) -> Self:
        self._space = None  # an optimiser's fused step changes weights without their version telling so
        return super().train(mode)

    def encode(self, histories: RaggedTensor, users: Tensor | None = None) -> Tensor:
        """The folded-in vector, and a one for the bias: [batch, dim + 1]. An empty history gives the origin."""
        histories = histories.last(self.max_history)
        events = histories.lengths.to(torch.float32)[:, None]
        expected, spread, axes = self._taste_space()
        mean = F.embedding_bag(histories.values, self.items.weight, histories.offsets[:-1], mode="mean")
        folded = ((events * (mean - expected)) @ axes / (events * spread + self.config.ridge)) @ axes.T
        return torch.cat([folded, torch.ones_like(events)], 1)

    def item_matrix(self) -> Tensor:
        return torch.cat([self.items.weight, self.biases[:, None]], 1)

    def item_vectors(self, codes: Tensor) -> Tensor:
        return torch.cat([self.items(codes), self.biases[codes, None]], 1)

    def predictions(self, batch: Batch) -> Predictions:
        """Every event of the windows, given who did it."""
        users = self.users(batch.users)
        users = torch.cat([users, users.new_ones(len(users), 1)], 1)
        return Predictions(users[batch.histories.rows], batch.histories.values, batch.weights)

    def _taste_space(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean [dim], and variances [dim] along axes [dim, dim], of the item vectors under the biases' softmax.

        It is computed again when the weights have changed, not for every request.
        """
        vectors, biases = self.items.weight, self.biases
        state = (vectors._version, biases._version, vectors.device)
        if self._space is None or self._space[0] != state:
            # Kept beyond this call, so it may be neither of an inference nor of a gradient.
            with torch.inference_mode(False), torch.no_grad():
                shares = biases.softmax(0)[:, None]
                mean = (shares * vectors).sum(0)
                spread, axes = torch.linalg.eigh((shares * (vectors - mean)).T @ (vectors - mean))
            self._space = (state, (mean, spread, axes))
        return self._space[1]
