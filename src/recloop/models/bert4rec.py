"""BERT4Rec: a Transformer that sees a history whole, learnt by filling in events that are hidden from it.

BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from Transformer, Sun et al., 2019
(arXiv 1904.06690). To recommend, a hidden event is put after the history. Positions are counted from the newest event,
so that this one always stands at the same place.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from pydantic import Field
from torch import Tensor, nn

from recloop.data.batches import Batch, RaggedTensor
from recloop.models.base import Predictions
from recloop.models.transformer import Attention, FeedForward, Residual, Transformer, TransformerConfig


class Bert4RecConfig(TransformerConfig):
    """Hyper-parameters of BERT4Rec."""

    masked: float = Field(default=0.3, gt=0, lt=1)
    """Share of the events that are hidden in training."""
    last_only: float = Field(default=0.5, ge=0, le=1)
    """Share of the histories of which the newest event alone is hidden, as it is when recommending."""


class Bert4Rec(Transformer):
    """A Transformer over the whole history. The start token of the other sequence models stands for a hidden event."""

    Config = Bert4RecConfig
    name = "bert4rec"
    config: Bert4RecConfig
    causal = False

    def __init__(self, config: Bert4RecConfig, *, catalogue_size: int, user_count: int, max_history: int) -> None:
        super().__init__(config, catalogue_size=catalogue_size, user_count=user_count, max_history=max_history)
        self.positions = nn.Embedding(max_history + 1, config.dim)
        """Row = events between this one and the newest."""
        nn.init.normal_(self.positions.weight, std=0.02)

    def block(self, distances: int) -> Iterable[nn.Module]:
        dim, heads, dropout = self.config.dim, self.config.heads, self.config.dropout
        yield Residual(Attention(dim, heads), dim, dropout)
        yield Residual(FeedForward(dim), dim, dropout)

    def embed(self, tokens: RaggedTensor) -> Tensor:
        from_end = tokens.lengths[tokens.rows] - 1 - tokens.from_start
        embedded: Tensor = super().embed(tokens) + self.positions(from_end) * self.config.dim**0.5
        return embedded

    def encode(self, histories: RaggedTensor, users: Tensor | None = None) -> Tensor:
        """The vector of a hidden event after the history. [batch, dim]; `users` do not matter here."""
        tokens = histories.last(self.max_history).ended(self.catalogue_size)
        return self.hidden(tokens)[tokens.offsets[1:] - 1]

    def predictions(self, batch: Batch) -> Predictions:
        """The hidden events, other ones each epoch, given those that are not. At least one of each window is.

        Those of a window together count as much as all its events.
        """
        targets, weights = batch.histories, batch.weights
        last = targets.offsets[1:] - 1
        # Below `last_only` the newest event's chance says that it alone is hidden; what is above is spread out anew.
        newest, chances = batch.chances[last], batch.chances.clone()
        alone = newest < self.config.last_only
        chances[last] = (newest - self.config.last_only) / max(1 - self.config.last_only, 1e-12)
        hide = (chances < self.config.masked) & ~alone[targets.rows]
        some = weights.new_zeros(len(batch)).index_add_(0, targets.rows, hide.float()) > 0
        hide[last] |= ~some
        tokens = RaggedTensor(batch.shown.masked_fill(hide, self.catalogue_size), targets.offsets, targets.times)
        hidden = hide.nonzero()[:, 0]
        whole, part = (
            weights.new_zeros(len(batch)).index_add_(0, targets.rows, each) for each in (weights, weights * hide)
        )
        share = torch.where(part > 0, whole / part, 0.0)[targets.rows[hidden]]
        return Predictions(self.hidden(tokens)[hidden], targets.values[hidden], weights[hidden] * share)
