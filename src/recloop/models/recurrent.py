"""Recurrent networks over the history, which carry what they know from event to event: `rnn`, `lstm` and `gru4rec`.

rnn: Finding Structure in Time, Elman, 1990. lstm: Long Short-Term Memory, Hochreiter and Schmidhuber, 1997. gru4rec:
Session-based Recommendations with Recurrent Neural Networks, Hidasi, Karatzoglou, Baltrunas and Tikk, 2016 (arXiv
1511.06939), trained by cross-entropy over the whole catalogue in place of the paper's sampled losses, and scored
against the item vectors it reads with, as is done since.

Ragged sequences are packed, not padded: a step of the network takes the tokens that stand at one place of every
sequence that is long enough.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from recloop.config import Positive
from recloop.data.batches import RaggedTensor
from recloop.models.sequence import SequenceConfig, SequenceModel


class RecurrentConfig(SequenceConfig):
    """Hyper-parameters of a recurrent network."""

    dim: Positive = 64
    """Length of an item's vector, and of what the network carries on."""
    layers: Positive = 1
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Of what goes into the network, from layer to layer, and out of it."""


class Recurrent(SequenceModel):
    """Item vectors, layers of one recurrent kind, and a linear map back among the item vectors."""

    Config = RecurrentConfig
    config: RecurrentConfig
    kind: ClassVar[type[nn.RNN | nn.LSTM | nn.GRU]]

    def __init__(self, config: RecurrentConfig, *, catalogue_size: int, user_count: int, max_history: int) -> None:
        super().__init__(
            config, dim=config.dim, catalogue_size=catalogue_size, user_count=user_count, max_history=max_history
        )
        between = config.dropout if config.layers > 1 else 0.0
        self.layers = self.kind(config.dim, config.dim, config.layers, dropout=between)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.dim, config.dim)

    def hidden(self, tokens: RaggedTensor) -> Tensor:
        packing = Packing(tokens)
        x = self.dropout(self.items(tokens.values) * self.config.dim**0.5)
        # Autocast would give cuDNN's recurrent kernels fp16, in which small gradients vanish.
        with torch.autocast(x.device.type, enabled=False):
            x = packing.unpack(self.layers(packing.pack(x))[0])
        output: Tensor = self.output(self.dropout(x))
        return output


class Rnn(Recurrent):
    """Elman's network: a layer carries on tanh of a linear map of what it is shown and of what it knew."""

    name = "rnn"
    kind = nn.RNN


class Lstm(Recurrent):
    """Long short-term memory: gates say what to take in, what to keep and what to tell."""

    name = "lstm"
    kind = nn.LSTM


class Gru4Rec(Recurrent):
    """Gated recurrent units: gates say what to take in, and how much of what was known to look at."""

    name = "gru4rec"
    kind = nn.GRU


class Packing:
    """Where each token of ragged sequences stands in torch's packed form: place by place, longer sequences first."""

    def __init__(self, tokens: RaggedTensor) -> None:
        by_length = tokens.lengths.argsort(descending=True, stable=True)
        self._order = (tokens.from_start * len(tokens) + by_length.argsort()[tokens.rows]).argsort()
        self._back = self._order.argsort()
        self._sizes = tokens.from_start.bincount().cpu()  # torch wants them there

    def pack(self, x: Tensor) -> PackedSequence:
        """From [tokens, width]."""
        return PackedSequence(x[self._order], self._sizes)

    def unpack(self, packed: PackedSequence) -> Tensor:
        """To [tokens, width]."""
        return packed.data[self._back]
