"""iALS: matrix factorisation by alternating least squares, with a small weight on all that was not taken.

Collaborative Filtering for Implicit Feedback Datasets, Hu, Koren and Volinsky, 2008; with the regularisation of
Revisiting the Performance of iALS on Item Recommendation Benchmarks, Rendle et al., 2021 (arXiv 2110.14037), which
grows with how much a user or item has. A user with the items h of vectors V_h gets

    (V_hᵀ V_h + unobserved VᵀV + λ_h I)⁻¹ V_hᵀ 1,    λ_h = ridge (|h| + unobserved |V|)^exponent,    exponent = 1

and items likewise. A user is answered by that same step, from the history: somebody new like anybody else.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from recloop.config import Positive
from recloop.data.batches import RaggedTensor
from recloop.data.prepared import Prepared
from recloop.models.base import ClosedForm, DualEncoder, ModelConfig
from recloop.models.counts import once_each, user_item_matrix

NUMBERS = 1 << 23
"""Of the systems that are solved at once: 32 MiB of them."""


class IalsConfig(ModelConfig):
    """Hyper-parameters of iALS."""

    dim: Positive = 64
    """Length of a user's and an item's vector."""
    unobserved: float = Field(default=0.1, gt=0)
    """How much it counts that something was not taken, beside 1 for what was."""
    ridge: float = Field(default=0.003, gt=0)
    """How strongly vectors are held to 0."""
    iterations: Positive = 16


class Ials(DualEncoder, ClosedForm):
    """Item vectors."""

    Config = IalsConfig
    name = "ials"
    config: IalsConfig

    vectors: Tensor
    """float32 [items, dim]"""

    def __init__(self, config: IalsConfig, *, catalogue_size: int, user_count: int, max_history: int) -> None:
        super().__init__(config, catalogue_size=catalogue_size, user_count=user_count, max_history=max_history)
        self.register_buffer("vectors", torch.zeros(catalogue_size, config.dim))

    def fit(self, prepared: Prepared) -> None:
        taken = user_item_matrix(prepared).coalesce()
        of_users = _rows(taken, self.device)
        of_items = _rows(taken.transpose(0, 1).coalesce(), self.device)
        vectors = 0.1 / self.config.dim**0.5 * torch.randn(self.catalogue_size, self.config.dim)
        vectors = vectors.to(self.device)
        for _ in range(self.config.iterations):
            vectors = self._solved(of_items, self._solved(of_users, vectors))
        self.vectors.copy_(vectors)

    def encode(self, histories: RaggedTensor, users: Tensor | None = None) -> Tensor:
        """The step of the training that is the user's. An empty history gives the origin."""
        return self._solved(once_each(histories.last(self.max_history), self.catalogue_size), self.vectors)

    def item_matrix(self) -> Tensor:
        return self.vectors

    def _solved(self, sets: RaggedTensor, vectors: Tensor) -> Tensor:
        """A vector for each set of rows of `vectors`: [sets, dim]."""
        dim, unobserved = self.config.dim, self.config.unobserved
        everything = unobserved * vectors.T @ vectors
        found = vectors.new_zeros(len(sets), dim)
        ridges = self.config.ridge * (sets.lengths + unobserved * len(vectors))
        longest_first = sets.lengths.argsort(descending=True, stable=True)
        start = 0
        while start < len(sets):
            # As many sets as fit, padded to the longest of them.
            longest = max(1, int(sets.lengths[longest_first[start]]))
            some = longest_first[start : start + max(1, NUMBERS // (dim * max(dim, longest)))]
            part, _ = sets.take(some)
            padded = vectors.new_zeros(len(some) * longest, dim)
            padded[part.rows * longest + part.from_start] = vectors[part.values]
            padded = padded.view(len(some), longest, dim)
            left = padded.transpose(1, 2) @ padded + everything
            left.diagonal(dim1=1, dim2=2).add_(ridges[some, None])
            found[some] = torch.linalg.solve(left, padded.sum(1))
            start += len(some)
        return found


def _rows(matrix: Tensor, device: torch.device) -> RaggedTensor:
    """The columns of each row that are not 0."""
    rows, columns = matrix.indices()
    counts = torch.bincount(rows, minlength=matrix.shape[0])
    return RaggedTensor(columns.to(device), torch.nn.functional.pad(counts.cumsum(0), (1, 0)).to(device))
