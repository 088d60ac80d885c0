"""The models that are computed at once, against the formulas they document, worked out another way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from recloop.config import Evaluate, Train
from recloop.data.prepared import Prepared
from recloop.errors import ModelError
from recloop.evaluation.bootstrap import paired
from recloop.evaluation.examination import evaluate
from recloop.models.base import ClosedForm
from recloop.models.catalogue import build
from recloop.models.ials import Ials
from recloop.models.item_knn import ItemKnn
from recloop.training import fit
from tests.histories import prepared_of
from tests.zoo import ragged

HISTORIES = [[0, 1, 1, 2, 9, 9], [0, 1, 9, 9], [1, 2, 3, 9, 9], [0, 3, 9, 9], [4, 0, 9, 9]]
"""All but the last two events are learnt from; item 9 is never."""


def computed(name: str, params: dict[str, Any], prepared: Prepared | None = None) -> ClosedForm:
    prepared = prepared_of(HISTORIES, items=10) if prepared is None else prepared
    torch.manual_seed(0)
    users = prepared.user_count
    model = build(name, params, catalogue_size=prepared.item_count, user_count=users, max_history=20)
    assert isinstance(model, ClosedForm)
    model.fit(prepared)
    return model


def taken() -> np.ndarray:
    """float64 [users, items]: 1 where a user took an item."""
    matrix = np.zeros((len(HISTORIES), 10))
    for user, history in enumerate(HISTORIES):
        matrix[user, history[:-2]] = 1
    return matrix


@pytest.mark.parametrize("shrink", [0.0, 5.0])
def test_item_knn_adds_up_the_cosines_of_the_nearest(shrink: float) -> None:
    model = computed("item_knn", {"neighbours": 2, "shrink": shrink, "half_life": None})
    matrix = taken()
    shared, norms = matrix.T @ matrix, np.sqrt(matrix.sum(0))
    wanted = np.zeros((10, 10))
    for item in range(10):
        for other in range(10):
            if item != other and shared[item, other]:
                wanted[item, other] = shared[item, other] / (norms[item] * norms[other] + shrink)
        wanted[item, np.argsort(-wanted[item], kind="stable")[2:]] = 0
    scores = model.score(ragged([0, 2], [1], [9])).numpy()
    # Which of equally near neighbours is kept is open: what is kept is worth the same.
    for row, history in enumerate(([0, 2], [1], [9])):
        assert scores[row].sum() == pytest.approx(wanted[history].sum(), rel=1e-5)
        assert scores[row].max() == pytest.approx(wanted[history].sum(0).max(), rel=1e-5)


def test_item_knn_counts_an_older_event_less() -> None:
    model = computed("item_knn", {"half_life": 2.0, "shrink": 0.0})
    rows = model.score(ragged([0], [1], [3], [3, 1, 0]))
    assert torch.allclose(rows[3], rows[0] + 0.5**0.5 * rows[1] + 0.5 * rows[2], atol=1e-6)


def test_item_knn_does_not_depend_on_the_size_of_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = computed("item_knn", {})
    monkeypatch.setattr("recloop.models.counts.NUMBERS", 30)  # three columns at a time
    pieces = computed("item_knn", {})
    assert isinstance(whole, ItemKnn)
    assert isinstance(pieces, ItemKnn)
    assert torch.equal(whole.weights, pieces.weights)


def test_ease_is_the_regression_it_documents() -> None:
    model = computed("ease", {"ridge": 3.0})
    matrix = taken()
    wanted = np.zeros((10, 10))
    for item in range(10):  # each item from the others, by the normal equations
        others = [other for other in range(10) if other != item]
        left = matrix[:, others].T @ matrix[:, others] + 3.0 * np.eye(9)
        wanted[others, item] = np.linalg.solve(left, matrix[:, others].T @ matrix[:, item])
    for history in ([0, 1], [3], [4, 2, 9]):
        assert np.allclose(model.score(ragged(history))[0].numpy(), wanted[history].sum(0), atol=1e-5)


def test_ease_refuses_a_catalogue_that_its_matrix_does_not_fit() -> None:
    with pytest.raises(ModelError, match=r"ease: 1,000,000 items are too many.*4,000 GB.*\n.*models\.ease\.max_items"):
        build("ease", {}, catalogue_size=1_000_000, user_count=1, max_history=5)


def test_ials_answers_by_the_least_squares_it_documents() -> None:
    params = {"dim": 3, "unobserved": 0.2, "ridge": 0.05}
    model = computed("ials", params)
    assert isinstance(model, Ials)
    vectors = model.vectors.double().numpy()
    for history in ([0, 1, 3], [2], []):
        weights = np.full(10, 0.2)
        weights[history] += 1  # what was taken counts beside its share of what was not
        ridge = 0.05 * (len(history) + 0.2 * 10)
        left = vectors.T @ np.diag(weights) @ vectors + ridge * np.eye(3)
        wanted = np.linalg.solve(left, vectors[history].sum(0))
        assert np.allclose(model.encode(ragged(history))[0].numpy(), wanted, atol=1e-4)


def test_ials_gets_nearer_with_every_iteration() -> None:
    matrix = taken()

    def objective(iterations: int) -> float:
        model = computed("ials", {"dim": 2, "iterations": iterations})
        assert isinstance(model, Ials)
        users = model.encode(ragged(*(sorted(set(history[:-2])) for history in HISTORIES))).double().numpy()
        vectors = model.vectors.double().numpy()
        error = np.where(matrix > 0, (1 - users @ vectors.T) ** 2, 0.1 * (users @ vectors.T) ** 2).sum()
        ridge = 0.003 * (matrix.sum(1) + 0.1 * 10) @ (users**2).sum(1)
        return float(error + ridge + 0.003 * (matrix.sum(0) + 0.1 * 5) @ (vectors**2).sum(1))

    values = [objective(iterations) for iterations in (1, 2, 4, 8, 16)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("name", ["item_knn", "ease", "ials", "bpr_mf"])
def test_what_is_taken_together_is_recommended_together(name: str) -> None:
    """Two tastes of ten items, popular and rare alike: better than popularity beyond chance."""
    rng = np.random.default_rng(0)
    histories = [(rng.permutation(10)[:6] + 10 * (user % 2)).tolist() for user in range(120)]
    prepared = prepared_of(histories, items=20)
    judged = Evaluate()
    train = Train(epochs=15, patience=15, batch_tokens=128, max_history=10)
    params = {"ridge": 1.0} if name == "bpr_mf" else {}
    model, popular = (
        fit(each, prepared, train, judged, params if each == name else {}, progress=False).model
        for each in (name, "popularity")
    )
    found, floor = (evaluate(each, prepared, "test", judged, 10).per_user["recall_at_5"] for each in (model, popular))
    assert paired(found, floor, samples=500, confidence=0.95, seed=0).low > 0
    best = model.score(ragged([0, 3])).topk(6).indices[0].tolist()
    assert sum(item < 10 for item in best) == 6


@pytest.mark.parametrize("name", ["item_knn", "ease", "ials"])
def test_an_item_counts_once_from_where_it_stands_last(name: str) -> None:
    model = computed(name, {})
    again = model.score(ragged([1, 2, 1], [], [0, 0, 3, 0]))
    assert torch.equal(again, model.score(ragged([2, 1], [], [3, 0])))
    assert torch.equal(again, model.score(ragged([2, 2, 1], [], [0, 3, 3, 0])))


def test_equations_that_have_no_solution_name_the_mend() -> None:
    prepared = prepared_of([[0, 1, 2, 2, 2]] * 50, items=3)
    with pytest.raises(
        ModelError, match=r"ease: its equations have no solution in 32 bits.*\n.*raise models\.ease\.ridge"
    ):
        fit("ease", prepared, Train(), Evaluate(), {"ridge": 1e-12}, progress=False)
