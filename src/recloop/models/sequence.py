"""What models of a history's order share: the item vectors they read and are scored against, and the start token.

Every sequence begins with a learnt start token, which stands for "nothing is known before this". So an empty history
is a sequence of one token, and what to recommend then is learnt like the rest. The same token stands where an event is
not to be shown.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from recloop.data.batches import Batch, RaggedTensor
from recloop.data.cooccurrence import cooccurrence_vectors
from recloop.data.prepared import Prepared
from recloop.models.base import LearnerConfig, Predictions, Predictor

STD = 0.02
"""Of the numbers that item vectors begin with."""


class SequenceConfig(LearnerConfig):
    """Hyper-parameters that models of a history's order have in common."""

    init: Literal["cooccurrence", "random"] = "cooccurrence"
    """What item vectors begin as: what the items they occur near say of them, or nothing."""


class SequenceModel(Predictor):
    """Reads a history event by event, and has a vector of what is to come after each."""

    config: SequenceConfig

    def __init__(
        self, config: SequenceConfig, *, dim: int, catalogue_size: int, user_count: int, max_history: int
    ) -> None:
        super().__init__(config, catalogue_size=catalogue_size, user_count=user_count, max_history=max_history)
        self.items = nn.Embedding(catalogue_size + 1, dim)
        """Row = item code; the last row is the start token."""
        nn.init.normal_(self.items.weight, std=STD)

    def begin(self, prepared: Prepared) -> None:
        if self.config.init == "cooccurrence":
            vectors = cooccurrence_vectors(prepared, self.items.embedding_dim, std=STD)
            with torch.no_grad():
                self.items.weight[:-1] = vectors.to(self.device)

    def shown(self, tokens: RaggedTensor) -> Tensor:
        """The tokens' vectors, [tokens, dim], for a model of bags: an event that is not shown adds nothing to one."""
        hidden = (tokens.values == self.catalogue_size) & (tokens.from_start > 0)
        vectors: Tensor = self.items(tokens.values).masked_fill(hidden[:, None], 0.0)
        return vectors

    @abstractmethod
    def hidden(self, tokens: RaggedTensor) -> Tensor:
        """A vector a token, made from it and those before it: [tokens, dim].

        Args:
            tokens: rows of `items`; each sequence is 1 to max_history + 1 long.
        """

    def encode(self, histories: RaggedTensor, users: Tensor | None = None) -> Tensor:
        """The newest token's vector. [batch, dim]; `users` do not matter here."""
        tokens = histories.last(self.max_history).started(self.catalogue_size)
        return self.hidden(tokens)[tokens.offsets[1:] - 1]

    def item_matrix(self) -> Tensor:
        return self.items.weight[:-1]

    def predictions(self, batch: Batch) -> Predictions:
        """Every event of the windows, given the events before it in its window."""
        targets = batch.histories
        shifted = batch.shown.roll(1)
        first = targets.offsets[:-1]
        shifted[first] = self.catalogue_size
        times = None
        if targets.times is not None:
            times = targets.times.roll(1)
            times[first] = targets.times[first]
        return Predictions(self.hidden(RaggedTensor(shifted, targets.offsets, times)), targets.values, batch.weights)
