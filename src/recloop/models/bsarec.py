"""BSARec: attention beside a filter that keeps a history's slow movements apart from its quick ones.

An Attentive Inductive Bias for Sequential Recommendation beyond the Self-Attention, Shin et al., 2024 (arXiv
2312.10325). There the slow part is made by a Fourier transform over a history padded to full length; here by a causal
moving average whose weights by distance are learnt, which needs no padding and lets every event be predicted in one
pass. What remains is the quick part, which each channel takes more or less of.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from pydantic import Field
from torch import Tensor, nn

from recloop.models.transformer import Attention, FeedForward, Places, Residual, Transformer, TransformerConfig


class BsarecConfig(TransformerConfig):
    """Hyper-parameters of BSARec."""

    filtered: float = Field(default=0.7, ge=0, le=1)
    """How much the filter counts beside attention: alpha in the paper."""


class Bsarec(Transformer):
    """A causal Transformer over the history, with filters beside its attention."""

    Config = BsarecConfig
    name = "bsarec"
    config: BsarecConfig

    def block(self, distances: int) -> Iterable[nn.Module]:
        dim, dropout = self.config.dim, self.config.dropout
        yield Residual(FilteredAttention(self.config, distances), dim, dropout)
        yield Residual(FeedForward(dim), dim, dropout)


class FilteredAttention(nn.Module):
    """Attention and the filter, each with its share."""

    def __init__(self, config: BsarecConfig, distances: int) -> None:
        super().__init__()
        self.share = config.filtered
        self.attention = Attention(config.dim, config.heads, distances=distances)
        self.by_distance = nn.Parameter(torch.zeros(1, distances))
        self.quick = nn.Parameter(torch.randn(config.dim))

    def forward(self, x: Tensor, places: Places) -> Tensor:
        """[tokens, dim] → [tokens, dim]"""
        by_distance = places.mask(self.by_distance)
        assert by_distance is not None  # noqa: S101 – it is given
        slow = places.pack(by_distance[0].softmax(-1) @ places.pad(x))
        filtered = slow + self.quick.square() * (x - slow)
        mixed: Tensor = self.share * filtered + (1 - self.share) * self.attention(x, places)
        return mixed
