"""The signal `quality`: how far what users make of the lists has fallen, and how far chance goes."""

from __future__ import annotations

import numpy as np
import pytest

from monitoring.fall import fall
from monitoring.quality import Record
from monitoring.tallies import CLUSTERS, Tally

FEWEST = 100


def record(gains: np.ndarray, lists: int = 4, since: int = 0) -> Record:
    """A user a value, who has had so many lists, each worth that; they are different users from another `since` on."""
    at = slice(since, since + len(gains))
    sums = {name: np.zeros(CLUSTERS) for name in ("lists", "ndcg", "hit_rate")}
    sums["lists"][at], sums["ndcg"][at], sums["hit_rate"][at] = lists, lists * gains, lists * (gains > 0)
    return Record(1, Tally(len(gains), sums, {}))


def test_a_fall_is_a_share_of_what_it_was_and_beyond_chance_where_nobody_differs() -> None:
    found = fall(record(np.full(200, 0.1)), record(np.full(200, 0.4)), 10, FEWEST, 0.005)

    assert found is not None
    assert found.figure == pytest.approx(0.75)
    assert found.chance == pytest.approx(0, abs=1e-9)
    assert (found.signal, found.moved) == ("quality", "NDCG@10 0.4000 → 0.1000")


def test_where_nothing_is_taken_any_more_it_is_a_fall_by_all_there_was() -> None:
    found = fall(record(np.zeros(200)), record(np.full(200, 0.4)), 10, FEWEST, 0.005)
    assert found is not None
    assert found.figure == 1.0
    assert found.chance == pytest.approx(1 - np.exp(-2.576 / 200**0.5), rel=0.01)


def test_a_rise_is_no_fall() -> None:
    found = fall(record(np.full(200, 0.4)), record(np.full(200, 0.1)), 10, FEWEST, 0.005)
    assert found is not None
    assert found.figure == 0


def test_chance_reaches_as_far_as_users_differ() -> None:
    """Of 400 users on both sides half have 0.2 and half none: 0.1 ± 5% each, ± 7.1% for both: 2.58 of these are 17%."""
    gains = np.tile([0.2, 0.0], 200)

    found = fall(record(gains), record(gains, since=1000), 10, FEWEST, 0.005)

    assert found is not None
    assert found.figure == 0
    assert found.chance == pytest.approx(1 - np.exp(-2.576 * 2**0.5 * 0.1 / 20 / 0.1), rel=0.1)


def test_no_more_windows_without_a_change_alarm_than_were_granted() -> None:
    """Of lists of which one in twenty is taken, shown to few users, some of whom come far more often."""
    rng = np.random.default_rng(0)

    def window(users: int, since: int) -> Record:
        lists = np.ceil(rng.lognormal(1.5, 1.0, users))
        taken = rng.binomial(lists.astype(int), rng.beta(1, 19, users))
        at, sums = slice(since, since + users), {name: np.zeros(CLUSTERS) for name in ("lists", "ndcg", "hit_rate")}
        sums["lists"][at], sums["ndcg"][at], sums["hit_rate"][at] = lists, 0.5 * taken, taken
        return Record(1, Tally(users, sums, {}))

    found = [fall(window(150, 0), window(600, 1000), 10, FEWEST, 0.01) for _ in range(400)]

    assert sum(each is not None for each in found) > 380
    assert sum(each is not None and each.figure >= each.chance for each in found) <= 9


@pytest.mark.parametrize(
    ("now", "before"),
    [
        (None, record(np.full(200, 0.4))),
        (record(np.full(200, 0.4)), None),
        (record(np.full(60, 0.1), lists=1), record(np.full(200, 0.4))),  # too few lists
        (record(np.full(20, 0.1), lists=50), record(np.full(200, 0.4))),  # too few users
        (record(np.full(200, 0.1)), record(np.zeros(200))),  # nothing was ever taken
        (record(np.zeros(200)), record(np.array([0.4] + [0.0] * 199))),  # so little that there may be none by chance
        (record(np.zeros(80), lists=25), record(np.array([0.4] * 9 + [0.0] * 71), lists=25)),  # much, but by so few
        (record(np.zeros(80), lists=25), record(np.array([0.4] * 90 + [0.0] * 710))),  # nine of eighty
    ],
    ids=["no lists", "none before", "few lists", "few users", "nothing taken", "little taken", "few", "few a window"],
)
def test_where_a_side_says_too_little_there_is_no_finding(now: Record | None, before: Record | None) -> None:
    assert fall(now, before, 10, FEWEST, 0.005) is None
