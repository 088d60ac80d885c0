"""The losses, against references in float64 that hold everything at once."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from recloop.training.losses.cross_entropy import catalogue_cross_entropy

# The loss over the whole catalogue.


def test_the_blockwise_cross_entropy_is_torchs_with_its_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recloop.training.losses.cross_entropy.BLOCK", 3 * 7)  # the last block is short
    torch.manual_seed(0)
    queries, items = torch.randn(10, 4, requires_grad=True), torch.randn(7, 4, requires_grad=True)
    targets, weights = torch.randint(7, (10,)), torch.rand(10)
    plain = (weights * F.cross_entropy(queries @ items.T, targets, reduction="none")).sum() / weights.sum()
    wanted = torch.autograd.grad(3 * plain, (queries, items))
    ours = catalogue_cross_entropy(queries, items, targets, weights)
    found = torch.autograd.grad(3 * ours, (queries, items))
    assert ours.item() == pytest.approx(plain.item(), rel=1e-6)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_the_cross_entropy_stays_finite_where_logits_are_huge() -> None:
    queries, items = torch.tensor([[1000.0]], requires_grad=True), torch.tensor([[1.0], [-1.0]])
    loss = catalogue_cross_entropy(queries, items, torch.tensor([1]), torch.ones(1))
    assert loss.item() == 2000
