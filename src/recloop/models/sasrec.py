"""SASRec: a causal Transformer over the history, scored against the item vectors it reads with.

Self-Attentive Sequential Recommendation, Kang and McAuley, 2018 (arXiv 1808.09781), with what was found since to
make it better: cross-entropy over the whole catalogue at every position (Turning Dross Into Gold Loss, Klenitskiy
and Vasilev, 2023, arXiv 2309.07602), normalisation before each layer, GELU.

Positions are counted from the newest event: position 0 is the one the next item follows.
"""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from recloop.config import Positive
from recloop.data.batches import RaggedTensor
from recloop.models.base import LearnerConfig
from recloop.models.sequence import SequenceModel


class SasrecConfig(LearnerConfig):
    """Hyper-parameters of SASRec."""

    dim: Positive = 64
    """Length of an item's vector."""
    blocks: Positive = 1
    heads: Positive = 1
    dropout: float = Field(default=0.2, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> SasrecConfig:
        if self.dim % self.heads:
            raise ValueError(f"dim must be a multiple of heads, and {self.dim} is not one of {self.heads}")
        return self


class Sasrec(SequenceModel):
    """A causal Transformer over the history."""

    Config = SasrecConfig
    name = "sasrec"
    config: SasrecConfig

    def __init__(self, config: SasrecConfig, *, catalogue_size: int, user_count: int, max_history: int) -> None:
        super().__init__(
            config, dim=config.dim, catalogue_size=catalogue_size, user_count=user_count, max_history=max_history
        )
        self.positions = nn.Embedding(max_history + 1, config.dim)
        """Row = tokens between this one and the newest."""
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.dim)
        nn.init.normal_(self.positions.weight, std=0.02)

    def hidden(self, tokens: RaggedTensor) -> Tensor:
        from_end = (tokens.offsets[1:] - 1)[tokens.rows] - torch.arange(len(tokens.values), device=tokens.values.device)
        x = self.dropout(self.items(tokens.values) * self.config.dim**0.5 + self.positions(from_end))
        places = Places(tokens)
        for block in self.blocks:
            x = block(x, places)
        normed: Tensor = self.norm(x)
        return normed


class Places:
    """Where each token of ragged sequences stands in a padded batch: attention alone needs it padded."""

    def __init__(self, tokens: RaggedTensor) -> None:
        self.shape = (len(tokens), tokens.longest)
        whole = len(tokens.values) == len(tokens) * tokens.longest
        self._index = None if whole else tokens.rows * tokens.longest + tokens.from_start

    def pad(self, x: Tensor) -> Tensor:
        """[tokens, width] → [batch, longest, width]; a sequence's padding comes after it."""
        batch, longest = self.shape
        if self._index is not None:
            x = x.new_zeros(batch * longest, x.shape[1]).index_copy(0, self._index, x)
        return x.view(batch, longest, x.shape[1])

    def pack(self, x: Tensor) -> Tensor:
        """[batch, longest, width] → [tokens, width]"""
        x = x.flatten(0, 1)
        return x if self._index is None else x[self._index]


class Block(nn.Module):
    """Attention to what came before, then a two-layer perceptron; each adds to its input."""

    def __init__(self, config: SasrecConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads, self.dropout = config.heads, config.dropout
        self.attention_norm, self.perceptron_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.queries_keys_values = nn.Linear(dim, 3 * dim)
        self.mix = nn.Linear(dim, dim)
        self.widen, self.narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor, places: Places) -> Tensor:
        """[tokens, dim] → [tokens, dim]"""
        x = x + self._drop(self.mix(self._attend(self.attention_norm(x), places)))
        return x + self._drop(self.narrow(F.gelu(self.widen(self.perceptron_norm(x)))))

    def _attend(self, x: Tensor, places: Places) -> Tensor:
        # Padding stands after every real token, and no token looks at what comes after it: causal is mask enough.
        padded = places.pad(self.queries_keys_values(x))
        query, key, value = padded.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # On a GPU the plain kernel is the one whose gradients are the same bits every time.
        with sdpa_kernel([SDPBackend.MATH] if x.is_cuda else [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
            attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return places.pack(attended.transpose(1, 2).flatten(2))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)
