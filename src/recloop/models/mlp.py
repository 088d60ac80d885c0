"""A multi-layer perceptron over the user's history, from a bag of items to scores over the catalogue.

The textbook network: the history as one input an item, hidden layers, one output an item, cross-entropy over the
outputs (as in Deep Neural Networks for YouTube Recommendations, Covington, Adams and Sargin, 2016). The first layer
over ones and zeros is exactly a sum of vectors, one an item of the history, so it is computed as one, and an input of
a million items costs no more than the history is long. The start token's vector is that layer's bias.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from recloop.config import Positive
from recloop.data.batches import RaggedTensor
from recloop.models.bags import bags
from recloop.models.sequence import SequenceConfig, SequenceModel

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


class MlpConfig(SequenceConfig):
    """Hyper-parameters of the perceptron."""

    hidden: Annotated[tuple[Positive, ...], Field(min_length=1)] = (100, 100)
    """Widths of the hidden layers; the last is the length of an item's vector."""
    activation: Literal["relu", "gelu", "tanh"] = "relu"
    init: Literal["cooccurrence", "random"] = "random"
    dropout: float = Field(default=0.2, ge=0, lt=1)


class Mlp(SequenceModel):
    """A perceptron over the bag of what came before."""

    Config = MlpConfig
    name = "mlp"
    config: MlpConfig

    def __init__(self, config: MlpConfig, *, catalogue_size: int, user_count: int, max_history: int) -> None:
        widths = config.hidden
        super().__init__(
            config, dim=widths[0], catalogue_size=catalogue_size, user_count=user_count, max_history=max_history
        )
        activation = ACTIVATIONS[config.activation]
        layers = [activation(), nn.Dropout(config.dropout)]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), activation(), nn.Dropout(config.dropout)]
        self.layers = nn.Sequential(*layers)
        self.output = nn.Linear(widths[-1], catalogue_size)
        # Layers that keep values as large as they come, and scores that begin at none: plain SGD at 0.01 learns from
        # these, and next to nothing from torch's own.
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    @property
    def item_rows(self) -> tuple[str, ...]:
        return ("items.weight", "output.weight", "output.bias")

    def hidden(self, tokens: RaggedTensor) -> Tensor:
        """The last hidden layer, and a one for the bias of each output: [tokens, width + 1]"""
        x = self.layers(bags(self.shown(tokens) * self.config.hidden[0] ** 0.5, tokens))
        return torch.cat([x, x.new_ones(len(x), 1)], 1)

    def item_matrix(self) -> Tensor:
        return torch.cat([self.output.weight, self.output.bias[:, None]], 1)

    def item_vectors(self, codes: Tensor) -> Tensor:
        return torch.cat([self.output.weight[codes], self.output.bias[codes, None]], 1)
