"""Popularity: what was taken most in training, recent events counting more if asked. The same for everybody."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from recloop.data.batches import RaggedTensor
from recloop.data.prepared import Prepared
from recloop.models.base import ClosedForm, ModelConfig

DAY = 86_400_000_000
"""In microseconds."""


class PopularityConfig(ModelConfig):
    """Hyper-parameters of popularity."""

    half_life_days: float | None = Field(default=60.0, gt=0)
    """An event this much older than the newest of training counts half; null: age does not matter."""


class Popularity(ClosedForm):
    """The weighted count of an item's events."""

    Config = PopularityConfig
    name = "popularity"
    config: PopularityConfig

    counts: Tensor
    """float32 [items]"""

    def __init__(self, config: PopularityConfig, *, catalogue_size: int, user_count: int, max_history: int) -> None:
        super().__init__(config, catalogue_size=catalogue_size, user_count=user_count, max_history=max_history)
        self.register_buffer("counts", torch.zeros(catalogue_size))

    def fit(self, prepared: Prepared) -> None:
        """Count the training period's events, each by its weight, halved with every half-life of age."""
        train = prepared.periods == 0
        weights = prepared.weights[train].astype(np.float64)
        if self.config.half_life_days is not None and len(weights):
            times = prepared.timestamps[train]
            weights *= 0.5 ** ((times.max() - times) / (self.config.half_life_days * DAY))
        counts = np.bincount(prepared.items[train], weights, minlength=self.catalogue_size)
        self.counts.copy_(torch.from_numpy(counts))

    def _score(self, histories: RaggedTensor, users: Tensor | None, candidates: Tensor | None) -> Tensor:
        """The same for everybody."""
        counts = self.counts if candidates is None else self.counts[candidates]
        return counts.repeat(len(histories), 1)
