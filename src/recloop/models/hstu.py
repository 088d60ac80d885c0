"""HSTU: a Transformer that reads when things happened, and weighs events one by one instead of against each other.

Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for Generative Recommendations, Zhai et al.,
2024 (arXiv 2402.17152): attention by SiLU in place of a softmax, with what distance and time between two events add;
and a gate in place of a feed-forward layer. There, an event also sees how long after it the next one comes, the one to
be predicted. That cannot be known when recommending, and is not looked at here: times are between events that are read.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from recloop.data.batches import RaggedTensor
from recloop.models.transformer import Places, Transformer, TransformerConfig

GAPS = 40
"""Times between events are told apart by their power of two in seconds: up to 2^38 s."""


class HstuConfig(TransformerConfig):
    """Hyper-parameters of HSTU."""

    untimed: float = Field(default=0.1, ge=0, lt=1)
    """Share of the histories whose times are hidden in training, so that one without times can be answered too."""


class TimedPlaces(Places):
    """Places that also know how long before each token the others were."""

    def __init__(self, tokens: RaggedTensor, *, known: Tensor) -> None:
        """
        Args:
            tokens: of any times, or of none.
            known: bool [sequences]: whose times are looked at.
        """
        super().__init__(tokens)
        batch, longest = self.shape
        self.gaps = torch.zeros(batch, longest, longest, dtype=torch.int64, device=self.device)
        """[batch, longest, longest]: 0 for an unknown gap, else 1 + the power of two of its seconds"""
        if tokens.times is not None:
            times = self.pad(tokens.times[:, None])[:, :, 0]
            seconds = (times[:, :, None] - times[:, None, :]).clamp(min=0).double() / 1e6
            powers = 1 + (1 + seconds).log2().floor().long()
            self.gaps = torch.where(known[:, None, None], powers.clamp(max=GAPS - 1), self.gaps)


class Hstu(Transformer):
    """A causal Transformer over events and the times between them."""

    Config = HstuConfig
    name = "hstu"
    config: HstuConfig

    @property
    def reads_times(self) -> bool:
        return True

    def block(self, distances: int) -> Iterable[nn.Module]:
        yield Transducer(self.config.dim, self.config.heads, self.config.dropout, distances)

    def places(self, tokens: RaggedTensor) -> TimedPlaces:
        hidden = self.config.untimed if self.training else 0.0
        return TimedPlaces(tokens, known=torch.rand(len(tokens), device=tokens.values.device) >= hidden)


class Transducer(nn.Module):
    """One layer: what events say to each other, gated, and added to its input."""

    def __init__(self, dim: int, heads: int, dropout: float, distances: int) -> None:
        super().__init__()
        self.heads, self.distances = heads, distances
        self.norm, self.mixed_norm, self.dropout = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.Dropout(dropout)
        self.widen, self.narrow = nn.Linear(dim, 4 * dim), nn.Linear(dim, dim)
        self.by_distance = nn.Parameter(torch.zeros(heads, distances))
        self.by_gap = nn.Parameter(torch.zeros(GAPS, heads))

    def forward(self, x: Tensor, places: TimedPlaces) -> Tensor:
        """[tokens, dim] → [tokens, dim]"""
        gate, rest = F.silu(self.widen(self.norm(x))).split([x.shape[1], 3 * x.shape[1]], -1)
        query, key, value = places.pad(rest).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        added = places.mask(self.by_distance)
        assert added is not None  # noqa: S101 – it is given
        weights = query @ key.transpose(-1, -2) + F.embedding(places.gaps, self.by_gap).permute(0, 3, 1, 2)
        unseen = added == -torch.inf
        weights = F.silu(weights + added.masked_fill(unseen, 0)).masked_fill(unseen, 0) / self.distances
        mixed = places.pack((weights @ value).transpose(1, 2).flatten(2))
        out: Tensor = x + self.dropout(self.narrow(self.mixed_norm(mixed) * gate))
        return out
