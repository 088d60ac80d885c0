"""Caser: convolutions over the last few events, seen as an image of `window` rows, one an event.

Personalized Top-N Sequential Recommendation via Convolutional Sequence Embedding, Tang and Wang, 2018 (arXiv
1809.07426). A horizontal filter looks for a pattern of some events in a row, wherever in the window it occurs; a
vertical one weighs the window's events. As published, but for three things: it is trained by cross-entropy over the
whole catalogue, it is scored against the item vectors it reads with, and it has no user vectors, so that users who came
after the training get answers like any other.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from recloop.config import Positive
from recloop.data.batches import RaggedTensor
from recloop.models.sequence import SequenceConfig, SequenceModel


class CaserConfig(SequenceConfig):
    """Hyper-parameters of Caser."""

    dim: Positive = 64
    """Length of an item's vector."""
    window: Positive = 5
    """It looks at this many last events."""
    horizontal: Positive = 16
    """Filters of each height, 1 to `window`."""
    vertical: Positive = 4
    dropout: float = Field(default=0.2, ge=0, lt=1)


class Caser(SequenceModel):
    """Convolutions over the last few events."""

    Config = CaserConfig
    name = "caser"
    config: CaserConfig

    def __init__(self, config: CaserConfig, *, catalogue_size: int, user_count: int, max_history: int) -> None:
        super().__init__(
            config, dim=config.dim, catalogue_size=catalogue_size, user_count=user_count, max_history=max_history
        )
        heights = range(1, config.window + 1)
        self.horizontal = nn.ModuleList(nn.Conv1d(config.dim, config.horizontal, height) for height in heights)
        self.vertical = nn.Linear(config.window, config.vertical)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.horizontal * config.window + config.vertical * config.dim, config.dim)

    def encode(self, histories: RaggedTensor, users: Tensor | None = None) -> Tensor:
        """The newest token's vector. [batch, dim]; what is older than the window is not looked at."""
        return super().encode(histories.last(self.config.window), users)

    def hidden(self, tokens: RaggedTensor) -> Tensor:
        image = self.items(windows(tokens, self.config.window, self.catalogue_size)) * self.config.dim**0.5
        image = image.transpose(1, 2)  # [tokens, dim, window]
        patterns = [F.relu(filters(image)).amax(2) for filters in self.horizontal]
        x = self.dropout(torch.cat([*patterns, self.vertical(image).flatten(1)], 1))
        output: Tensor = self.output(x)
        return output


def windows(tokens: RaggedTensor, size: int, start: int) -> Tensor:
    """The last tokens up to and with each: int64 [tokens, size], oldest first; `start` where there are none."""
    back = torch.arange(size - 1, -1, -1, device=tokens.values.device)
    index = torch.arange(len(tokens.values), device=tokens.values.device)[:, None] - back
    return tokens.values[index.clamp(min=0)].masked_fill(tokens.from_start[:, None] < back, start)
