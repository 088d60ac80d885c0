"""Several trainings of one model: what users differ in and what seeds differ in are told apart."""

from __future__ import annotations

import numpy as np
import pytest

from recloop.config import Evaluate
from recloop.errors import StageError
from recloop.evaluation import Evaluation
from recloop.evaluation.bootstrap import interval
from recloop.evaluation.seeds import over_seeds


def judged(values: list[float], users: str = "abcd") -> Evaluation:
    per_user = {"ndcg_at_10": np.array(values)}
    return Evaluation(list(users), len(users), per_user, beyond={}, segments=(), settings=Evaluate(bootstrap=200))


def test_users_are_drawn_with_their_mean_over_seeds() -> None:
    found = over_seeds([judged([0.0, 0.2, 0.4, 0.6]), judged([0.2, 0.4, 0.6, 1.0])])["ndcg_at_10"]
    assert found.interval == interval(np.array([0.1, 0.3, 0.5, 0.8]), samples=200, confidence=0.95, seed=7)
    # The seeds' means are 0.3 and 0.55.
    assert found.between == pytest.approx(0.25 / np.sqrt(2))


def test_seeds_that_only_turn_users_round_leave_nothing_uncertain_but_the_users() -> None:
    found = over_seeds([judged([0.0, 1.0, 0.0, 1.0]), judged([1.0, 0.0, 1.0, 0.0])])["ndcg_at_10"]
    assert (found.interval.low, found.interval.high, found.between) == (0.5, 0.5, 0)


def test_one_seed_shows_no_spread() -> None:
    with pytest.raises(StageError, match=r"fewer than two.*\n.*another seed"):
        over_seeds([judged([0.5] * 4)])


def test_seeds_judged_on_different_users_are_refused() -> None:
    with pytest.raises(StageError, match="judged on different users"):
        over_seeds([judged([0.5] * 4), judged([0.5] * 4, users="abce")])
