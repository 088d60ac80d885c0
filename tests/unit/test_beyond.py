"""What lists are like: figures that can be checked by hand, and diversity against going through every pair."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recloop.data.prepared import Ragged
from recloop.evaluation.beyond import beyond_accuracy, coverage, gini, self_information
from recloop.evaluation.questions import Questions


def asked(*seen: list[int], users: list[int] | None = None) -> Questions:
    histories = Ragged.of(list(seen))
    codes = np.arange(len(seen)) if users is None else np.array(users)
    return Questions(codes.astype(np.int32), histories, histories, Ragged.of([[0]] * len(seen)))


def items(counts: list[int], categories: list[list[str] | None] | None = None) -> pa.Table:
    table = pa.table({"train_count": pa.array(counts, pa.int64())})
    return table if categories is None else table.append_column("categories", pa.array(categories))


def test_coverage_is_the_share_of_the_catalogue_that_anybody_is_shown() -> None:
    assert coverage(np.array([5, 0, 1, 0])) == 0.5
    lists = np.array([[0, 1, 2], [0, 3, -1]])
    found = beyond_accuracy(lists, asked([], []), items([1] * 10), (1, 3))
    assert (found["coverage_at_1"], found["coverage_at_3"]) == (0.1, 0.4)


def test_exposure_is_equal_where_all_items_are_shown_alike_and_unequal_where_one_is() -> None:
    assert gini(np.array([3, 3, 3])) == 0
    assert gini(np.array([0, 7, 0, 0])) == 1
    # In order 0, 1, 3: (-2 · 0 + 0 · 1 + 2 · 3) / (2 · 4).
    assert gini(np.array([1, 3, 0])) == 0.75
    assert gini(np.array([0, 0])) is None
    assert gini(np.array([4])) is None


def test_novelty_is_how_surprising_the_items_are() -> None:
    # Counted once more: 4, 2, 1 and 1 of 8.
    assert self_information(np.array([3, 1, 0, 0])).tolist() == [1, 2, 3, 3]
    lists = np.array([[0, 1], [2, 3], [2, -1]])
    found = beyond_accuracy(lists, asked([], [], [], users=[0, 0, 1]), items([3, 1, 0, 0]), (2,))
    assert found["novelty_at_2"] == ((1.5 + 3) / 2 + 3) / 2


def test_popularity_lift_is_above_one_where_what_is_recommended_is_more_popular_than_what_was_chosen() -> None:
    lists = np.array([[0, 1], [0, -1]])
    found = beyond_accuracy(lists, asked([1], [2, 2, 1]), items([12, 6, 3]), (1, 2))
    chosen = (6 + 4) / 2
    assert found["popularity_lift_at_1"] == 12 / chosen
    assert found["popularity_lift_at_2"] == ((12 + 6) / 2 + 12) / 2 / chosen


@pytest.mark.parametrize("seen", [[], [1]])
def test_there_is_no_lift_without_a_history_of_items_that_were_trained_on(seen: list[int]) -> None:
    assert "popularity_lift_at_1" not in beyond_accuracy(np.array([[0]]), asked(seen), items([2, 0]), (1,))


def test_diversity_by_hand() -> None:
    table = items([1] * 4, [["a"], ["a", "b"], ["c"], None])
    lists = np.array([[0, 1, 3], [0, 2, 3], [3, 0, -1]])
    found = beyond_accuracy(lists, asked([], [], []), table, (1, 3))
    # Similar by 1 / √2; not at all; and a list with one item that has categories has no diversity.
    assert found["diversity_at_3"] == pytest.approx((1 - 1 / math.sqrt(2) + 1) / 2)
    assert "diversity_at_1" not in found


@pytest.mark.parametrize("table", [items([1, 1]), items([1, 1], [None, []])])
def test_without_categories_diversity_is_absent(table: pa.Table) -> None:
    found = beyond_accuracy(np.array([[0, 1]]), asked([]), table, (2,))
    assert set(found) == {"coverage_at_2", "exposure_gini_at_2", "novelty_at_2"}


def test_lists_without_items_have_nothing_to_be_judged_by() -> None:
    assert beyond_accuracy(np.array([[-1]]), asked([]), items([1, 1], [["a"], ["b"]]), (1,)) == {"coverage_at_1": 0}


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_diversity_agrees_with_going_through_every_pair(data: st.DataObject) -> None:
    groups = data.draw(st.lists(st.sets(st.sampled_from("abc")), min_size=2, max_size=6))
    lists = data.draw(st.lists(st.permutations(range(len(groups))), min_size=1, max_size=4))
    found = beyond_accuracy(
        np.array(lists), asked(*[[]] * len(lists)), items([1] * len(groups), [sorted(each) for each in groups]), (3,)
    )
    means = []
    for shown in lists:
        known = [groups[item] for item in shown[:3] if groups[item]]
        pairs = [1 - len(a & b) / math.sqrt(len(a) * len(b)) for a, b in combinations(known, 2)]
        means += [sum(pairs) / len(pairs)] if pairs else []
    assert found.get("diversity_at_3") == (pytest.approx(sum(means) / len(means), abs=1e-9) if means else None)
