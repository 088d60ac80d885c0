"""NeuMF: how a user and an item match is itself learnt, by a product of factors and a perceptron side by side.

Neural Collaborative Filtering, He et al., 2017 (arXiv 1708.05031), with two changes beside another loss. The paper has
a vector for each user of the training; here a user is the bag of the history, each item with a vector for what its
having been taken says (FISM, Kabbur et al., 2013), so that users who came after the training get an answer, and what a
known user did since counts. And what is a product of two learnt things is learnt as one: the weights of the factors'
product go into the item vectors, and the perceptron's first layer, a matrix over the user's vector beside the item's,
is a sum of a part that the user brings and one that the item brings, so that neither is made anew for every pair.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from recloop.config import Loss, Positive
from recloop.data.batches import RaggedTensor
from recloop.models.bags import bags
from recloop.models.base import Overrides
from recloop.models.sequence import SequenceConfig, SequenceModel

PAIRS = 1 << 15
"""Pairs of user and item that go through the perceptron at once: some MiB, which stay near the processor."""


class NeumfConfig(SequenceConfig):
    """Hyper-parameters of NeuMF."""

    factors: Positive = 64
    """Length of the vectors whose product is one half of the score."""
    hidden: Annotated[tuple[Positive, ...], Field(min_length=1)] = (32, 16, 8)
    """Widths of the perceptron's hidden layers, which make the other half. Every pair of user and item goes through
    them: they decide what scoring costs."""
    init: Literal["cooccurrence", "random"] = "random"
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Of the user's vector."""
    train: Overrides = Overrides(loss=Loss(kind="sampled_softmax", negatives=256))
    """The paper's loss is `bce`. Over this many negatives it first spends epochs on pushing all scores down, and learns
    several times more slowly (measured on the densest part of Beauty)."""


class Neumf(SequenceModel):
    """A product of factors, and a perceptron, over the bag of what came before and an item."""

    Config = NeumfConfig
    name = "neumf"
    config: NeumfConfig
    by_product = False

    def __init__(self, config: NeumfConfig, *, catalogue_size: int, user_count: int, max_history: int) -> None:
        width = config.factors + config.hidden[0]
        super().__init__(
            config, dim=width, catalogue_size=catalogue_size, user_count=user_count, max_history=max_history
        )
        self.candidates = nn.Embedding(catalogue_size, width)
        nn.init.normal_(self.candidates.weight, std=0.02)
        self.dropout = nn.Dropout(config.dropout)
        layers: list[nn.Module] = [nn.ReLU()]
        for before, after in zip(config.hidden, (*config.hidden[1:], 1), strict=True):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.perceptron = nn.Sequential(*layers[:-1])

    @property
    def item_rows(self) -> tuple[str, ...]:
        return ("items.weight", "candidates.weight")

    def hidden(self, tokens: RaggedTensor) -> Tensor:
        """A user's factors, and what the user brings to the perceptron's first layer: [tokens, factors + hidden[0]]"""
        # A long history says more than a short one, but not in proportion: FISM's alpha of 0.5.
        root = (tokens.from_start + 1).sqrt()[:, None]
        vectors = self.shown(tokens) * self.items.embedding_dim**0.5
        dropped: Tensor = self.dropout(bags(vectors, tokens) / root)
        return dropped

    def item_matrix(self) -> Tensor:
        return self.candidates.weight

    def match(self, queries: Tensor, items: Tensor) -> Tensor:
        (user_factors, users), (item_factors, items) = self._halves(queries), self._halves(items)
        rows = max(1, PAIRS // len(items))
        deep = [self.perceptron(some[:, None] + items).squeeze(2) for some in users.split(rows)]
        return user_factors @ item_factors.T + torch.cat(deep)

    def match_each(self, queries: Tensor, items: Tensor) -> Tensor:
        (user_factors, users), (item_factors, items) = self._halves(queries), self._halves(items)
        deep: Tensor = self.perceptron(users + items).squeeze(1)
        return (user_factors * item_factors).sum(1) + deep

    def _halves(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        return vectors[:, : self.config.factors], vectors[:, self.config.factors :]
