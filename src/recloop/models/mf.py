"""Matrix factorisation: a user's taste and an item's nature as vectors, and how liked an item is by itself.

Learnt by softmax cross-entropy: for each user of the training period, the catalogue's scores u·v + b are to give the
items the user took (the multinomial likelihood of collaborative filtering, e.g. Liang et al. 2018, arXiv 1802.05814).
Items are drawn towards zero by `l2`, users by `ridge`.

Somebody new, or somebody known who has gone on since, is folded in: the user vector is computed from the history. The
likelihood of a history of n items, taken to second order around u = 0 (where the softmax is that of the biases
alone), makes that a ridge regression onto the item vectors, with a closed form:

    u = (n C + ridge I)⁻¹ n (mean of the history's vectors - m)

where m and C are the mean and covariance of item vectors under softmax(b). One eigendecomposition of C serves all
users. An empty history gives u = 0: what is liked by everybody.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F

from recloop.config import Positive
from recloop.models.base import Learner, LearnerConfig


class MfConfig(LearnerConfig):
    """Hyper-parameters of matrix factorisation."""

    dim: Positive = 64
    """Length of a user's and an item's vector."""
    l2: float = Field(default=0.0, ge=0)
    ridge: float = Field(default=1.0, gt=0)
    mode: str = "fold"
    prior: bool = False
    scale: float = 0.1


class MatrixFactorisation(Learner):
    """User vectors, item vectors and item biases."""

    Config = MfConfig
    name = "mf"
    config: MfConfig

    def __init__(self, config: MfConfig, *, catalogue_size: int, user_count: int, max_history: int) -> None:
        super().__init__(
            config, catalogue_size=catalogue_size, user_count=user_count, max_history=max_history
        )
        self.users = nn.Embedding(user_count, config.dim)
        self.items = nn.Embedding(catalogue_size, config.dim)
        self.biases = nn.Parameter(torch.zeros(catalogue_size))
        nn.init.zeros_(self.users.weight)
        nn.init.normal_(self.items.weight, std=config.scale)
        self._c = None

    def train(self, mode=True):
        self._c = None
        return super().train(mode)

    def encode(self, histories, users=None):
        histories = histories.last(self.max_history)
        n = histories.lengths.to(torch.float32)[:, None]
        if self._c is None:
            p = self.biases.softmax(0)
            m = p @ self.items.weight
            V = self.items.weight
            cov = (V * p[:, None]).T @ V - m[:, None] * m
            s, Q = torch.linalg.eigh(cov)
            self._c = (m, s, Q)
        m, s, Q = self._c
        mean = F.embedding_bag(histories.values, self.items.weight, histories.offsets[:-1], mode="mean")
        u = ((n * (mean - m)) @ Q / (n * s + self.config.ridge)) @ Q.T
        u = torch.where(n > 0, u, 0)
        mode = self.config.mode
        if mode != "fold" and users is not None:
            known = self.users.weight[users.clamp(min=0)] * (users >= 0)[:, None]
            isk = (known.abs().sum(1) > 0)[:, None]
            if mode == "user":
                u = torch.where(isk, known, u)
            if mode == "mix":
                u = torch.where(isk, (known + u) / 2, u)
        return torch.cat([u, torch.ones_like(n)], 1)

    def item_matrix(self):
        return torch.cat([self.items.weight, self.biases[:, None]], 1)

    def loss(self, batch):
        u = self.users(batch.users)
        logits = u @ self.items.weight.T + self.biases
        lse = logits.logsumexp(1)
        rows = batch.histories.rows
        ce = lse[rows] - logits[rows, batch.histories.values]
        w = batch.weights
        l = (w * ce).sum() / w.sum()
        if self.config.prior:
            l = l + self.config.ridge / 2 * u.square().sum() / w.sum()
        if self.config.l2:
            l = (
                l
                + self.config.l2
                / 2
                * (w * self.items.weight[batch.histories.values].square().sum(1)).sum()
                / w.sum()
            )
        return l
