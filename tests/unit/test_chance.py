"""How far figures move by chance: false alarms are as rare as they are said to be, and Evidently's distance is ours."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from monitoring.chance import Chance, chance
from monitoring.compare import find
from monitoring.measures import MEASURES, jensen_shannon
from recloop.config import DriftTest


def sessions(rng: np.random.Generator, count: int, spread: float = 1.0) -> np.ndarray:
    """[count, 4]: visits of very different length, each with a taste of its own."""
    tastes = rng.dirichlet(np.array([4.0, 3.0, 2.0, 1.0]) / spread, size=count)
    lengths = rng.geometric(0.2, size=count)
    return np.array([rng.multinomial(length, taste) for length, taste in zip(lengths, tastes, strict=True)], float)


@pytest.mark.parametrize("size", [20, 200])
@pytest.mark.parametrize("spread", [0.1, 3.0], ids=["alike", "of different tastes"])
@pytest.mark.parametrize("test", MEASURES)
def test_of_windows_in_which_nothing_changed_few_reach_the_bound(size: int, spread: float, test: DriftTest) -> None:
    measure = MEASURES[test]
    rng = np.random.default_rng(0)
    world = sessions(rng, 40_000, spread)
    reached = 0
    for trial in range(40):
        reference = world[rng.integers(len(world), size=1500)]
        bound = chance(reference, size, seed=trial, by=measure).bound(0.02)
        windows = world[rng.integers(len(world), size=(50, size))].sum(1)
        reached += int((measure.far(windows, reference.sum(0)) >= bound).sum())
    assert reached / 2000 < 0.035


def test_visits_that_bring_many_events_at_once_are_not_taken_for_as_many_visits() -> None:
    rng = np.random.default_rng(0)
    single = rng.multinomial(1, [0.4, 0.3, 0.2, 0.1], size=2000).astype(float)
    assert chance(20 * single, 100).bound(0.01) == pytest.approx(chance(single, 100).bound(0.01), rel=0.1)


def test_a_window_has_to_stand_out_from_stretches_that_differ_among_themselves() -> None:
    rng = np.random.default_rng(0)
    weekdays, weekends = rng.multinomial(5, [0.8, 0.2], size=500), rng.multinomial(5, [0.5, 0.5], size=200)
    weeks = np.concatenate([part for _ in range(8) for part in (weekdays, weekends)]).astype(float)
    shuffled = rng.permutation(weeks)
    weekend = rng.multinomial(5, [0.5, 0.5], size=200).sum(0)
    moved = float(jensen_shannon(weekend, weeks.sum(0)))
    assert chance(shuffled, 200).bound(0.01) < moved < chance(weeks, 200).bound(0.01)


def test_what_never_varies_has_no_chance() -> None:
    assert chance(np.ones((50, 1)), 10) == Chance(0.0, 0.0)
    assert chance(np.ones((50, 1)), 10).bound(0.01) == 0.0
    assert jensen_shannon(np.array([3.0, 0.0]), np.array([5.0, 0.0])) == 0.0


@pytest.mark.parametrize("test", MEASURES)
def test_the_distance_is_the_one_evidently_shows(test: DriftTest) -> None:
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    rng = np.random.default_rng(0)
    rows = [
        pd.DataFrame({"signal": rng.choice(list("abcd"), 300, p=shares), "user_id": np.arange(300), "session": 0})
        for shares in ([0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.7, 0.0])
    ]
    (found,) = find(rows[0], rows[1], ["signal"], 0.01, {"signal": test})
    definition = DataDefinition(categorical_columns=["signal"])
    sets = [Dataset.from_pandas(each[["signal"]], definition) for each in rows]
    shown = Report([ValueDrift(column="signal", method=test)]).run(sets[1], sets[0]).dict()
    assert found.figure == pytest.approx(shown["metrics"][0]["value"])
    assert found.moved.startswith("c: ")
    assert found.method == MEASURES[test].spoken


def test_a_signal_that_a_side_has_no_value_of_is_left_out() -> None:
    rows = pd.DataFrame({"a": ["x", "y"], "b": [None, None], "user_id": ["u", "v"], "session": [1, 1]})
    assert [finding.signal for finding in find(rows, rows, ["a", "b"], 0.01, {"a": "psi", "b": "psi"})] == ["a"]
