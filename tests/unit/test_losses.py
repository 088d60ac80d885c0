"""The losses, against references in float64 that hold everything at once."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from recloop.config import Loss
from recloop.data.batches import Batch
from recloop.models.base import LearnerConfig, Predictions, Predictor
from recloop.training.losses import build_criterion
from recloop.training.losses.cross_entropy import catalogue_cross_entropy
from recloop.training.losses.sampled import Negatives, gbce_exponent

ITEMS, DIM, POSITIONS = 9, 4, 10


class Fixed(Predictor):
    """A model that is nothing but an item matrix."""

    name = "fixed"

    def __init__(self, matrix: Tensor) -> None:
        super().__init__(LearnerConfig(), catalogue_size=len(matrix), user_count=1, max_history=5)
        self.matrix = torch.nn.Parameter(matrix)

    def encode(self, *_: Any) -> Tensor:
        raise NotImplementedError

    def item_matrix(self) -> Tensor:
        return self.matrix

    def predictions(self, batch: Batch) -> Predictions:
        raise NotImplementedError


def case(items: int = ITEMS, positions: int = POSITIONS, scale: float = 1.0) -> tuple[Fixed, Predictions]:
    """A model, and predictions with weights among which one is 0."""
    torch.manual_seed(0)
    weights = torch.rand(positions)
    weights[1] = 0
    queries = (scale * torch.randn(positions, DIM)).requires_grad_()
    return Fixed(torch.randn(items, DIM)), Predictions(queries, torch.randint(items, (positions,)), weights)


def reference(asked: Predictions, model: Fixed) -> tuple[Tensor, Tensor]:
    """float64 logits of everything, and the weights' shares."""
    return asked.queries.double() @ model.matrix.double().T, asked.weights.double() / asked.weights.double().sum()


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_the_blockwise_cross_entropy_is_exact_with_its_gradients(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    monkeypatch.setattr("recloop.training.losses.cross_entropy.BLOCK", 3 * ITEMS)  # the last block is short
    model, asked = case(scale=scale)
    logits, shares = reference(asked, model)
    plain = (shares * F.cross_entropy(logits, asked.targets, reduction="none")).sum()
    wanted = torch.autograd.grad(3 * plain, (asked.queries, model.matrix))
    ours = build_criterion(Loss(), model, torch.ones(ITEMS))()(model, asked)
    found = torch.autograd.grad(3 * ours, (asked.queries, model.matrix))
    assert ours.item() == pytest.approx(plain.item(), rel=1e-5)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-5 * scale)


def test_the_cross_entropy_stays_finite_where_logits_are_huge() -> None:
    queries, items = torch.tensor([[1000.0]], requires_grad=True), torch.tensor([[1.0], [-1.0]])
    loss = catalogue_cross_entropy(queries, items, torch.tensor([1]), torch.ones(1))
    assert loss.item() == 2000


def test_the_cross_entropy_of_events_that_weigh_nothing_is_zero() -> None:
    model, asked = case()
    loss = catalogue_cross_entropy(asked.queries, model.matrix, asked.targets, torch.zeros(POSITIONS))
    loss.backward()
    assert loss.item() == 0
    assert model.matrix.grad is not None
    assert not model.matrix.grad.any()


def drawn(monkeypatch: pytest.MonkeyPatch, codes: list[int], counts: Tensor, loss: Loss) -> Tensor:
    """Have these negatives drawn. Returns the log of how often each is drawn on average, float64 [negatives]."""
    shares = counts.double().pow(loss.popularity)
    logs = (shares / shares.sum()).log() + math.log(len(codes))
    real = Negatives.draw

    def draw(self: Negatives) -> tuple[Tensor, Tensor]:
        assert len(real(self)[0]) == loss.negatives
        return torch.tensor(codes), logs[codes].float()

    monkeypatch.setattr(Negatives, "draw", draw)
    return logs[codes]


COUNTS = torch.tensor([1, 5, 2, 8, 1, 1, 30, 4, 2])
CODES = [6, 3, 6, 0]


@pytest.mark.parametrize("kind", ["sampled_softmax", "bce", "gbce", "bpr"])
@pytest.mark.parametrize("popularity", [0.0, 1.0])
def test_the_sampled_losses_are_what_they_are_written_to_be(
    monkeypatch: pytest.MonkeyPatch, kind: Any, popularity: float
) -> None:
    settings = Loss(kind=kind, negatives=4, popularity=popularity, calibration=0.5)
    model, asked = case()
    log_expected = drawn(monkeypatch, CODES, COUNTS, settings)
    logits, shares = reference(asked, model)
    losses = []
    for position, target in enumerate(asked.targets.tolist()):
        right = logits[position, target]
        wrong = [(logits[position, code], log_expected[place]) for place, code in enumerate(CODES) if code != target]
        if kind == "sampled_softmax":
            losses.append(-(right.exp() / (right.exp() + sum((score - log).exp() for score, log in wrong))).log())
        elif kind == "bpr":
            losses.append(sum(-torch.sigmoid(right - score).log() for score, _ in wrong) / len(wrong))
        else:
            # gBCE's beta with alpha = negatives / (items - 1) = 1/2, t = 1/2: 1/2 * (1/2 * (1 - 2) + 2) = 3/4.
            beta = 0.75 if kind == "gbce" else 1.0
            losses.append(
                -(beta * torch.sigmoid(right).log() + sum((1 - torch.sigmoid(s)).log() for s, _ in wrong)) / 5
            )
    plain = (shares * torch.stack(losses)).sum()
    wanted = torch.autograd.grad(plain, (asked.queries, model.matrix))
    ours = build_criterion(settings, model, COUNTS)()(model, asked)
    found = torch.autograd.grad(ours, (asked.queries, model.matrix))
    assert ours.item() == pytest.approx(plain.item(), rel=1e-5)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("popularity", [0.0, 0.5, 1.0])
def test_the_sampled_softmax_estimates_the_sum_over_the_catalogue_without_bias(popularity: float) -> None:
    torch.manual_seed(1)
    scores = torch.randn(ITEMS).double()
    negatives = Negatives(COUNTS, number=5, power=popularity)
    sums = []
    for _ in range(4000):
        codes, log_expected = negatives.draw()
        sums.append((scores[codes] - log_expected).exp().sum())
    found, wanted = torch.stack(sums), scores.exp().sum()
    assert abs(found.mean() - wanted) < 4 * found.std() / len(sums) ** 0.5


def test_negatives_are_drawn_by_popularity_to_a_power() -> None:
    torch.manual_seed(1)
    codes, log_expected = Negatives(COUNTS, number=100_000, power=0.5).draw()
    wanted = COUNTS.sqrt() / COUNTS.sqrt().sum()
    assert torch.allclose(torch.bincount(codes, minlength=ITEMS) / 100_000, wanted, atol=0.005)
    assert torch.allclose(log_expected.exp(), 100_000 * wanted[codes])


def test_gbce_without_calibration_is_bce() -> None:
    assert gbce_exponent(4, 1000, 0.0) == pytest.approx(1)
    assert gbce_exponent(4, 1000, 1.0) == pytest.approx(4 / 999)
    assert gbce_exponent(256, 1, 0.5) == pytest.approx(1)  # a catalogue of one item


@pytest.mark.parametrize("kind", ["cross_entropy", "sampled_softmax", "bce", "gbce", "bpr"])
def test_a_catalogue_of_one_item_gives_a_finite_loss(kind: Any) -> None:
    model, asked = case(items=1)
    loss = build_criterion(Loss(kind=kind), model, torch.tensor([7]))()(model, asked)
    loss.backward()
    assert loss.isfinite()
    assert asked.queries.grad is not None
    assert asked.queries.grad.isfinite().all()
