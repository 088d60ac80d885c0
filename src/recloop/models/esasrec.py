"""eSASRec: SASRec with gated layers.

eSASRec: Enhancing Transformer-based Recommendations in a Modular Fashion, Tikhonovich et al., 2025 (arXiv 2508.06450),
which puts together what held up in comparison: SASRec's task, the gated layers of LiGR (From Features to Transformers,
Hertel et al., 2025, arXiv 2502.03417), and a softmax loss; there over sampled items, here over the catalogue, which the
blockwise loss makes as cheap. The feed-forward layers are SwiGLU.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from recloop.models.transformer import Attention, GatedFeedForward, Places, Transformer, TransformerConfig


class ESasrecConfig(TransformerConfig):
    """Hyper-parameters of eSASRec."""


class ESasrec(Transformer):
    """A causal Transformer over the history, each layer of which decides how much of itself to add."""

    Config = ESasrecConfig
    name = "esasrec"

    def block(self, distances: int) -> Iterable[nn.Module]:
        dim, heads, dropout = self.config.dim, self.config.heads, self.config.dropout
        yield GatedResidual(Attention(dim, heads, distances=distances), dim, dropout)
        yield GatedResidual(GatedFeedForward(dim), dim, dropout)


class GatedResidual(nn.Module):
    """A layer that adds to its input as much as a gate, made from the input, lets through (LiGR)."""

    def __init__(self, layer: nn.Module, dim: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.layer, self.dropout = nn.LayerNorm(dim), layer, nn.Dropout(dropout)
        self.gate = nn.Linear(dim, dim)

    def forward(self, x: Tensor, places: Places) -> Tensor:
        """[tokens, dim] → [tokens, dim]"""
        normed = self.norm(x)
        added: Tensor = x + self.dropout(self.layer(normed, places) * self.gate(normed).sigmoid())
        return added
