"""Which loss, by the setting `train.loss`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from recloop.config import Loss
from recloop.models.base import Criterion, Learner, Predictions, Predictor
from recloop.training.losses.cross_entropy import catalogue_cross_entropy
from recloop.training.losses.sampled import (
    Negatives,
    bayesian_personalised_ranking,
    binary_cross_entropy,
    gbce_exponent,
    sampled_softmax,
)


def build_criterion(settings: Loss, model: Learner, counts: Tensor) -> Callable[[], Criterion]:
    """The loss that `model` is trained with, for one step each time it is called.

    Args:
        settings: which, and of how many negatives.
        model: to be trained.
        counts: [items]: events of the training period; the negatives are drawn by them.

    Returns:
        Gives a criterion with negatives of its own, drawn from torch's random generator.
    """
    if settings.kind == "cross_entropy":
        return lambda: _in_float32(_cross_entropy)
    negatives = Negatives(counts.to(model.device), number=settings.negatives, power=settings.popularity)
    exponent = 1.0
    if settings.kind == "gbce":
        exponent = gbce_exponent(settings.negatives, model.catalogue_size, settings.calibration)

    def drawn() -> Criterion:
        codes, log_expected = negatives.draw()

        def sampled(model: Predictor, asked: Predictions) -> Tensor:
            # One read of the item matrix, so that its gradient is written once.
            vectors = model.item_vectors(torch.cat([asked.targets, codes]))
            own, others = vectors[: len(asked.targets)], vectors[len(asked.targets) :]
            right = model.match_each(asked.queries, own)
            wrong = model.match(asked.queries, others).masked_fill(codes == asked.targets[:, None], -torch.inf)
            if settings.kind == "sampled_softmax":
                losses = sampled_softmax(right, wrong, log_expected)
            elif settings.kind == "bpr":
                losses = bayesian_personalised_ranking(right, wrong)
            else:
                losses = binary_cross_entropy(right, wrong, exponent)
            total = asked.weights.sum().clamp(min=torch.finfo(asked.weights.dtype).tiny)
            return (losses * asked.weights).sum() / total

        return _in_float32(sampled)

    return drawn


def _cross_entropy(model: Predictor, asked: Predictions) -> Tensor:
    return catalogue_cross_entropy(asked.queries, model.item_matrix(), asked.targets, asked.weights)


def _in_float32(criterion: Criterion) -> Criterion:
    """The same loss, computed in float32 whatever a model's layers are computed in."""

    def exact(model: Predictor, asked: Predictions) -> Tensor:
        with torch.autocast(asked.queries.device.type, enabled=False):
            return criterion(model, replace(asked, queries=asked.queries.float()))

    return exact
