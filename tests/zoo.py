"""Small models of every kind, all their numbers drawn at random, and what the contract's tests put to them."""

from __future__ import annotations

from typing import Any

import torch

from recloop.data.batches import Batch, RaggedTensor
from recloop.data.prepared import Ragged
from recloop.models.base import Predictor, Recommender
from recloop.models.catalogue import build
from recloop.training.losses.cross_entropy import catalogue_cross_entropy

SMALL: dict[str, dict[str, Any]] = {
    "popularity": {},
    "item_knn": {"neighbours": 3},
    "ease": {"ridge": 1.0},
    "ials": {"dim": 4, "iterations": 3},
    "bpr_mf": {"dim": 4},
    "mf": {"dim": 4},
    "sasrec": {"dim": 8, "blocks": 2, "heads": 2},
    "bert4rec": {"dim": 8, "blocks": 2, "heads": 2},
    "esasrec": {"dim": 8, "blocks": 2, "heads": 2},
    "bsarec": {"dim": 8, "blocks": 2, "heads": 2},
    "hstu": {"dim": 8, "blocks": 2, "heads": 2},
    "ensemble": {"members": [{"model": "sasrec", "dim": 8}, {"model": "mf", "dim": 4}]},
    "rnn": {"dim": 8},
    "lstm": {"dim": 8, "layers": 2},
    "gru4rec": {"dim": 8},
    "caser": {"dim": 4, "window": 3, "horizontal": 2, "vertical": 1},
    "mlp": {"hidden": [8, 6]},
    "neumf": {"factors": 4, "hidden": [6, 3]},
}
"""Every model of the catalogue, small."""


def ragged(*sequences: list[int]) -> RaggedTensor:
    return RaggedTensor.of(Ragged.of(list(sequences)))


def batch_of(*histories: list[int], weights: list[float] | None = None, users: list[int] | None = None) -> Batch:
    """A batch of these windows. By default every event weighs 1, and row i is user i."""
    windows = ragged(*histories)
    return Batch(
        histories=windows,
        shown=windows.values,
        weights=torch.ones(len(windows.values)) if weights is None else torch.tensor(weights, dtype=torch.float32),
        users=torch.arange(len(histories)) if users is None else torch.tensor(users),
        chances=torch.linspace(0.05, 0.95, len(windows.values)),
        seed=11,
    )


def some_model(name: str, *, items: int = 12, users: int = 5, max_history: int = 6) -> Recommender:
    """A model whose numbers are drawn at random, every one of them."""
    torch.manual_seed(3)
    model = build(name, SMALL[name], catalogue_size=items, user_count=users, max_history=max_history)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.normal_()
    return model.eval()


def loss_of(model: Recommender, batch: Batch) -> float:
    """The cross-entropy over the catalogue of what the batch asks of the model."""
    assert isinstance(model, Predictor)
    asked = model.predictions(batch)
    with torch.no_grad():
        return catalogue_cross_entropy(asked.queries, model.item_matrix(), asked.targets, asked.weights).item()
