"""Tests between models: p-values as exact ones, and as often wrong as they say."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from recloop.evaluation.significance import holm, sign_flip

DIFFERENCES = st.lists(st.sampled_from([-1.0, -0.25, 0.0, 0.1, 0.3]), min_size=1, max_size=7)


@settings(deadline=None, max_examples=50)
@given(DIFFERENCES)
def test_it_is_the_share_of_all_signs_that_are_as_extreme(differences: list[float]) -> None:
    seen = abs(sum(differences)) - 1e-9
    sums = [
        abs(sum(sign * each for sign, each in zip(signs, differences, strict=True)))
        for signs in product((-1, 1), repeat=len(differences))
    ]
    exact = sum(each >= seen for each in sums) / len(sums)
    assert sign_flip(np.array(differences), samples=4000, seed=1) == pytest.approx(exact, abs=0.04)


def test_models_that_never_differ_have_a_p_value_of_one() -> None:
    assert sign_flip(np.zeros(5), samples=100, seed=1) == 1


def test_it_is_never_zero_and_the_same_for_the_same_seed_and_the_other_way_round() -> None:
    gains = np.full(100, 0.1)
    assert sign_flip(gains, samples=99, seed=1) == sign_flip(-gains, samples=99, seed=1) == 1 / 100
    mixed = np.random.default_rng(0).normal(0.1, 1, 100)
    assert sign_flip(mixed, samples=99, seed=1) == sign_flip(mixed, samples=99, seed=1)


def test_one_in_ten_pairs_of_equal_models_is_below_a_tenth() -> None:
    rng = np.random.default_rng(0)
    below = sum(sign_flip(rng.normal(size=50), samples=200, seed=trial) <= 0.1 for trial in range(400))
    assert 0.07 <= below / 400 <= 0.13


def test_it_is_about_that_of_a_t_test_where_there_are_many_users() -> None:
    differences = np.random.default_rng(0).normal(0.05, 1, 2000)
    theirs = stats.ttest_1samp(differences, 0).pvalue
    assert sign_flip(differences, samples=5000, seed=1) == pytest.approx(theirs, abs=0.02)


def test_signs_are_drawn_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.random.default_rng(0).normal(0.1, 1, 30)
    at_once = sign_flip(differences, samples=500, seed=1)
    monkeypatch.setattr("recloop.evaluation.significance.DRAWS", 100)
    assert sign_flip(differences, samples=500, seed=1) == at_once


def test_holms_correction_by_hand() -> None:
    # In order: 4 · 0.01, 3 · 0.02, 2 · 0.03 and 1 · 0.04, none below the one before it.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.7]) == [1, 1]
    assert holm([]) == []
