"""What the Transformers share: attention over ragged sequences, and the layers around it.

Every layer but attention works on the tokens as they lie, end to end. Attention alone needs them padded; batches hold
sequences of like length, so that this costs a few per cent at most.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from contextlib import nullcontext
from functools import cached_property
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from recloop.config import Positive
from recloop.data.batches import RaggedTensor
from recloop.models.sequence import SequenceConfig, SequenceModel


class TransformerConfig(SequenceConfig):
    """Hyper-parameters that Transformers have in common."""

    dim: Positive = 64
    """Length of an item's vector."""
    blocks: Positive = 2
    heads: Positive = 1
    dropout: float = Field(default=0.2, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> TransformerConfig:
        if self.dim % self.heads:
            raise ValueError(f"dim must be a multiple of heads, and {self.dim} is not one of {self.heads}")
        return self


class Transformer(SequenceModel):
    """Item vectors, blocks of layers, and a normalisation. What a block is made of tells its kinds apart."""

    config: TransformerConfig
    causal: ClassVar[bool] = True
    """Whether an event sees only those before it and itself."""

    def __init__(self, config: TransformerConfig, *, catalogue_size: int, user_count: int, max_history: int) -> None:
        super().__init__(
            config, dim=config.dim, catalogue_size=catalogue_size, user_count=user_count, max_history=max_history
        )
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(layer for _ in range(config.blocks) for layer in self.block(max_history + 1))
        self.norm = nn.LayerNorm(config.dim)

    @abstractmethod
    def block(self, distances: int) -> Iterable[nn.Module]:
        """New layers of a block, each to be called with tokens and their places.

        Args:
            distances: how long sequences may be.
        """

    def embed(self, tokens: RaggedTensor) -> Tensor:
        """What the first layer reads: [tokens, dim]."""
        embedded: Tensor = self.items(tokens.values) * self.config.dim**0.5
        return embedded

    def places(self, tokens: RaggedTensor) -> Places:
        """Where the tokens stand, for the layers."""
        return Places(tokens, causal=self.causal)

    def hidden(self, tokens: RaggedTensor) -> Tensor:
        x = self.dropout(self.embed(tokens))
        places = self.places(tokens)
        for layer in self.layers:
            x = layer(x, places)
        normed: Tensor = self.norm(x)
        return normed


class Places:
    """Where each token of ragged sequences stands in a padded batch, and which tokens it may look at."""

    def __init__(self, tokens: RaggedTensor, *, causal: bool = True) -> None:
        """
        Args:
            tokens: at least one in each sequence.
            causal: whether a token sees only those before it and itself; if not, it sees its whole sequence.
        """
        self.shape = (len(tokens), tokens.longest)
        self.device = tokens.values.device
        whole = len(tokens.values) == len(tokens) * tokens.longest
        self._index = None if whole else tokens.rows * tokens.longest + tokens.from_start
        # Padding stands after every real token, and where no token looks ahead none sees it: causal is mask enough.
        self.causal = causal
        self._unseen: Tensor | None = None
        if not causal and not whole:
            place = torch.arange(tokens.longest, device=self.device)
            unseen = (place >= tokens.lengths[:, None])[:, None, None, :]
            self._unseen = torch.zeros(unseen.shape, device=self.device).masked_fill(unseen, -torch.inf)

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

    def mask(self, by_distance: Tensor | None) -> Tensor | None:
        """What is added to attention's logits: [batch or 1, heads or 1, longest, longest or 1], or None for nothing.

        Args:
            by_distance: [heads, distances]: what is added by how far back a token looks; only for causal ones.
        """
        if by_distance is None:
            return self._unseen
        return F.pad(by_distance, (0, 1), value=-torch.inf)[None, :, self._back]

    @cached_property
    def _back(self) -> Tensor:
        """int64 [longest, longest]: how far back a token looks for each; -1, the last distance, for one ahead of it."""
        place = torch.arange(self.shape[1], device=self.device)
        return (place[:, None] - place).clamp_(min=-1)


class Attention(nn.Module):
    """Attention with several heads. Where it knows distances, each head learns how much each counts.

    Positions that are distances, and not places, make what a token sees the same wherever the sequence ends
    (Self-Attention with Relative Position Representations, Shaw et al., 2018; a scalar a head and distance, as in T5).
    """

    def __init__(self, dim: int, heads: int, *, distances: int | None = None) -> None:
        """
        Args:
            dim: of a token's vector; a multiple of `heads`.
            heads: how many.
            distances: how long sequences may be; None: it knows nothing of where tokens stand.
        """
        super().__init__()
        self.heads = heads
        self.queries_keys_values = nn.Linear(dim, 3 * dim)
        self.mix = nn.Linear(dim, dim)
        self.by_distance = None if distances is None else nn.Parameter(torch.zeros(heads, distances))

    def forward(self, x: Tensor, places: Places) -> Tensor:
        """[tokens, dim] → [tokens, dim]"""
        padded = places.pad(self.queries_keys_values(x))
        query, key, value = padded.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mask = places.mask(self.by_distance)
        if mask is not None:
            mask = mask.to(query.dtype).expand(len(query), -1, places.shape[1], -1)
        # On a GPU the plain kernel is the one whose gradients are the same bits every time.
        with sdpa_kernel(SDPBackend.MATH) if x.is_cuda else nullcontext():
            attended = F.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, is_causal=mask is None and places.causal
            )
        mixed: Tensor = self.mix(places.pack(attended.transpose(1, 2).flatten(2)))
        return mixed


class FeedForward(nn.Module):
    """Two layers with GELU between them, four times as wide as a token."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.widen, self.narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor, _: Places) -> Tensor:
        """[tokens, dim] → [tokens, dim]"""
        narrowed: Tensor = self.narrow(F.gelu(self.widen(x)))
        return narrowed


class GatedFeedForward(nn.Module):
    """SwiGLU (GLU Variants Improve Transformer, Shazeer, 2020, arXiv 2002.05202), of as many weights."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.width = 8 * dim // 3
        self.widen, self.narrow = nn.Linear(dim, 2 * self.width), nn.Linear(self.width, dim)

    def forward(self, x: Tensor, _: Places) -> Tensor:
        """[tokens, dim] → [tokens, dim]"""
        gate, value = self.widen(x).split(self.width, -1)
        narrowed: Tensor = self.narrow(F.silu(gate) * value)
        return narrowed


class Residual(nn.Module):
    """A layer that adds to its input: normalisation, the layer, dropout, sum."""

    def __init__(self, layer: nn.Module, dim: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.layer, self.dropout = nn.LayerNorm(dim), layer, nn.Dropout(dropout)

    def forward(self, x: Tensor, places: Places) -> Tensor:
        """[tokens, dim] → [tokens, dim]"""
        added: Tensor = x + self.dropout(self.layer(self.norm(x), places))
        return added
