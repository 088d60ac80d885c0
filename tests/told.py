"""A model that is told what to score, for tests of what is done with scores."""

from __future__ import annotations

import torch
from torch import Tensor

from recloop.data.batches import RaggedTensor
from recloop.models.base import DualEncoder, ModelConfig


class Told(DualEncoder):
    """A model that is told what to score: row = the last item of the history; -1, the last row, for an empty one."""

    Config = ModelConfig
    name = "told"

    def __init__(self, scores: Tensor) -> None:
        super().__init__(ModelConfig(), catalogue_size=scores.shape[1], user_count=0, max_history=100)
        self.register_buffer("scores", scores.float())
        self.batches: list[int] = []

    def encode(self, histories: RaggedTensor, users: Tensor | None = None) -> Tensor:
        self.batches.append(len(histories))
        padded = torch.cat([histories.values, torch.tensor([-1])])
        last = torch.where(histories.lengths > 0, padded[histories.offsets[1:] - 1], -1)
        return torch.nn.functional.one_hot(last % len(self.scores), len(self.scores)).float()

    def item_matrix(self) -> Tensor:
        scores = self.scores
        assert isinstance(scores, Tensor)
        return scores.T


def told(*rows: list[float]) -> Told:
    return Told(torch.tensor(rows))
