"""A running mean of the weights over the steps of a training: quieter than the weights of any one step, and better.

Acceleration of Stochastic Approximation by Averaging, Polyak and Juditsky, 1992; with exponential weights, as is usual.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from recloop.models.base import Learner

Tensors = tuple[Tensor, ...] | list[Tensor]


class Average:
    """The mean of a model's weights so far, the latest counting most."""

    def __init__(self, model: Learner, share: float) -> None:
        """
        Args:
            model: in training.
            share: of the mean that stays at each step; at the first steps less, so that the start is forgotten.
        """

        def blend(means: Tensors, weights: Tensors, steps: Tensor | int) -> None:
            kept = min(share, (1 + int(steps)) / (10 + int(steps)))
            torch._foreach_lerp_(list(means), list(weights), 1 - kept)

        self.averaged = AveragedModel(model, multi_avg_fn=blend)

    def update(self, model: Learner) -> None:
        """Take in the weights after a step."""
        self.averaged.update_parameters(model)

    @property
    def model(self) -> Learner:
        """The model with the mean weights."""
        found = self.averaged.module
        assert isinstance(found, Learner)  # noqa: S101 – a copy of the one it was made of
        return found
