"""Bootstrap intervals: the same seed gives the same one, and they hold the truth about as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from recloop.errors import StageError
from recloop.evaluation.bootstrap import Interval, interval, intervals, paired


def test_an_interval_around_values_that_are_all_alike_is_a_point() -> None:
    assert interval(np.full(10, 0.25), samples=100, confidence=0.95, seed=1) == Interval(0.25, 0.25, 0.25)


def test_the_mean_is_that_of_the_values_and_lies_inside() -> None:
    found = interval(np.array([0.0, 0, 1, 1]), samples=500, confidence=0.95, seed=1)
    assert found.mean == 0.5
    # The mean of four draws is a multiple of 1/4; 0 and 1 come up in 1 of 16 each, more than the 2.5% left out.
    assert (found.low, found.high) == (0, 1)


def test_the_same_seed_gives_the_same_interval_and_another_one_another() -> None:
    values = np.random.default_rng(0).random(200)
    first = interval(values, samples=200, confidence=0.95, seed=7)
    assert interval(values, samples=200, confidence=0.95, seed=7) == first
    assert interval(values, samples=200, confidence=0.95, seed=8) != first


def test_the_interval_does_not_depend_on_how_many_are_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(30)
    at_once = interval(values, samples=100, confidence=0.9, seed=7)
    monkeypatch.setattr("recloop.evaluation.bootstrap.DRAWS", 100)
    in_pieces = interval(values, samples=100, confidence=0.9, seed=7)
    # Sums of other blocks may differ in their last bit.
    assert (in_pieces.low, in_pieces.high) == pytest.approx((at_once.low, at_once.high), rel=1e-14)


def test_metrics_of_the_same_users_have_the_intervals_they_would_have_alone() -> None:
    values = dict(zip("abc", np.random.default_rng(0).random((3, 50)), strict=True))
    together = intervals(values, samples=200, confidence=0.95, seed=7)
    for name, each in values.items():
        alone = interval(each, samples=200, confidence=0.95, seed=7)
        assert (together[name].low, together[name].high) == pytest.approx((alone.low, alone.high), rel=1e-14)
        assert together[name].mean == each.mean()


def test_an_interval_is_made_of_means_of_users_drawn_again() -> None:
    values = np.random.default_rng(0).random(20)
    draws = np.random.default_rng(7).integers(20, size=(100, 20))
    low, high = np.quantile([values[drawn].mean() for drawn in draws], [0.05, 0.95])
    found = interval(values, samples=100, confidence=0.9, seed=7)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_more_confidence_makes_it_wider() -> None:
    values = np.random.default_rng(0).random(100)
    narrow, wide = (interval(values, samples=1000, confidence=each, seed=1) for each in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_its_width_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    found = interval(values, samples=4000, confidence=0.95, seed=1)
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(1000), rel=0.06)


def test_nine_intervals_in_ten_hold_the_truth_where_nine_in_ten_are_asked_for() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(300):
        found = interval(rng.exponential(size=80), samples=300, confidence=0.9, seed=trial)
        held += found.low <= 1 <= found.high
    assert 0.85 <= held / 300 <= 0.94


def test_a_pair_cancels_what_users_differ_in() -> None:
    base = np.random.default_rng(0).random(100)
    found = paired(base + 0.01, base, samples=200, confidence=0.95, seed=1)
    assert (found.mean, found.low, found.high) == pytest.approx((0.01, 0.01, 0.01))
    apart = interval(base, samples=200, confidence=0.95, seed=1)
    assert apart.high - apart.low > 0.05


def test_a_pair_turned_round_changes_sign() -> None:
    a, b = np.random.default_rng(0).random((2, 50))
    there = paired(a, b, samples=200, confidence=0.95, seed=1)
    back = paired(b, a, samples=200, confidence=0.95, seed=1)
    assert (back.mean, back.low, back.high) == pytest.approx((-there.mean, -there.high, -there.low))


def test_a_pair_of_different_users_is_refused() -> None:
    with pytest.raises(StageError, match=r"same users on both sides; these are 3 and 2"):
        paired(np.zeros(3), np.zeros(2), samples=10, confidence=0.95, seed=1)


def test_no_users_give_no_interval() -> None:
    with pytest.raises(StageError, match="there is no user to judge by"):
        interval(np.empty(0), samples=10, confidence=0.95, seed=1)


def test_an_interval_is_shown_with_four_places() -> None:
    assert str(Interval(0.1234, 0.1, 0.15)) == "0.1234 [0.1000, 0.1500]"
