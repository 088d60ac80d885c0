"""SASRec: a causal Transformer over the history, scored against the item vectors it reads with.

Self-Attentive Sequential Recommendation, Kang and McAuley, 2018 (arXiv 1808.09781), with what was found since to
make it better: cross-entropy over the whole catalogue at every position (Turning Dross Into Gold Loss, Klenitskiy
and Vasilev, 2023, arXiv 2309.07602), normalisation before each layer, GELU, and distances in place of positions, so
that a history that ends at any event is read as it would be if that event were the newest.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from recloop.models.transformer import Attention, FeedForward, Residual, Transformer, TransformerConfig


class SasrecConfig(TransformerConfig):
    """Hyper-parameters of SASRec."""


class Sasrec(Transformer):
    """A causal Transformer over the history."""

    Config = SasrecConfig
    name = "sasrec"

    def block(self, distances: int) -> Iterable[nn.Module]:
        dim, heads, dropout = self.config.dim, self.config.heads, self.config.dropout
        yield Residual(Attention(dim, heads, distances=distances), dim, dropout)
        yield Residual(FeedForward(dim), dim, dropout)
