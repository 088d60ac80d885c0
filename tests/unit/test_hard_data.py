"""Data as it also comes: every model learns from it, or says why not, and answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from recloop.config import Evaluate, Train
from recloop.data.prepared import Prepared
from recloop.models.catalogue import CATALOGUE
from recloop.training import FitResult, fit
from tests.histories import prepared_of
from tests.zoo import SMALL, ragged

QUICK = {"lr": 0.01, "epochs": 2, "patience": 2, "batch_tokens": 64, "max_history": 8}

HARD = {
    "users of one event": prepared_of([[0, 1, 2], [1], [2], [3], [0]], items=5, least=3),
    "one item": prepared_of([[0] * 6, [0] * 5, [0] * 4], items=1),
    "nothing but repeats": prepared_of([[3] * 9, [1] * 7, [2] * 5], items=5),
    "all at once": prepared_of([[0, 1, 2, 3, 4], [4, 3, 2, 1]], items=5, days=[[7] * 5, [7] * 4]),
    "backwards in time": prepared_of([[0, 1, 2, 3, 4]] * 3, items=5, days=[[5, 4, 3, 2, 1]] * 3),
    "one user": prepared_of([[0, 1, 2, 3, 4, 2, 1]], items=5),
}


def trained(name: str, prepared: Prepared, **changes: Any) -> FitResult:
    return fit(
        name, prepared, Train(**QUICK | changes), Evaluate(exclude_seen=False), SMALL[name], progress=False, warn=print
    )


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("kind", HARD)
def test_every_model_takes_what_comes(name: str, kind: str) -> None:
    prepared = HARD[kind]
    result = trained(name, prepared)
    scores = result.model.score(ragged([], [0], [0, 0, 0]))
    assert scores.shape == (3, prepared.item_count)
    assert scores.isfinite().all()
    assert all(0 <= value <= 1 for value in result.valid.values())


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_history_a_thousand_times_the_usual_is_learnt_from_and_answered(name: str) -> None:
    rng = np.random.default_rng(0)
    long = rng.integers(12, size=8000).tolist()
    prepared = prepared_of([long, *(rng.integers(12, size=8).tolist() for _ in range(20))], items=12)
    result = trained(name, prepared, batch_tokens=1024)
    assert result.model.score(ragged(long, [1, 2])).isfinite().all()


@pytest.mark.parametrize("name", ["sasrec", "mf"])
@pytest.mark.parametrize("augment", [{"crop": 1.0, "mask": 0.5, "reorder": 1.0, "substitute": 0.5}])
def test_augmentation_takes_what_comes(name: str, augment: dict[str, float]) -> None:
    for prepared in HARD.values():
        assert torch.isfinite(torch.tensor(trained(name, prepared, augment=augment).curve[-1].loss))
