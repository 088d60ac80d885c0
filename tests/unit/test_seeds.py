"""Several trainings of one model: what users differ in and what seeds differ in are told apart."""

from __future__ import annotations

import numpy as np
import pytest

from recloop.config import Evaluate
from recloop.errors import StageError
from recloop.evaluation.bootstrap import interval
from recloop.evaluation.seeds import OverSeeds, over_seeds


def over(*seeds: list[float]) -> OverSeeds:
    judged = [{"ndcg_at_10": np.array(values)} for values in seeds]
    return over_seeds(judged, Evaluate(bootstrap=200))["ndcg_at_10"]


def test_users_are_drawn_with_their_mean_over_seeds() -> None:
    found = over([0.0, 0.2, 0.4, 0.6], [0.2, 0.4, 0.6, 1.0])
    assert found.interval == interval(np.array([0.1, 0.3, 0.5, 0.8]), samples=200, confidence=0.95, seed=7)
    # The seeds' means are 0.3 and 0.55.
    assert found.between == pytest.approx(0.25 / np.sqrt(2))


def test_seeds_that_only_turn_users_round_leave_nothing_uncertain_but_the_users() -> None:
    found = over([0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0])
    assert (found.interval.low, found.interval.high, found.between) == (0.5, 0.5, 0)


def test_one_seed_shows_no_spread() -> None:
    assert over([0.5, 0.7]).between == 0


def test_seeds_judged_on_different_users_are_refused() -> None:
    with pytest.raises(StageError, match="judged on different users"):
        over([0.5] * 4, [0.5] * 3)
