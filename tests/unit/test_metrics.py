"""Ranks, metrics and evaluation: checked by hand, against sorting whole lists, and against trec_eval."""

from __future__ import annotations

import math

import numpy as np
import pytest
import pytrec_eval
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recloop.data.prepared import Ragged
from recloop.errors import ModelError
from recloop.evaluation.lists import OUT_OF_REACH, rank_of, top
from recloop.evaluation.metrics import case_metrics, user_means
from recloop.evaluation.ranking import rank
from tests.told import Told, told

# Metrics by hand.


def test_metrics_of_the_ranks_one_two_and_eleven() -> None:
    found = case_metrics(np.array([1, 2, 11]), (1, 10, 20))
    assert found["recall_at_1"].tolist() == [1, 0, 0]
    assert found["recall_at_10"].tolist() == [1, 1, 0]
    assert found["ndcg_at_10"].tolist() == pytest.approx([1, 1 / math.log2(3), 0])
    assert found["ndcg_at_20"].tolist() == pytest.approx([1, 1 / math.log2(3), 1 / math.log2(12)])
    assert found["mrr_at_20"].tolist() == pytest.approx([1, 1 / 2, 1 / 11])


def test_with_one_right_answer_the_hit_rate_is_recall_and_map_is_mrr() -> None:
    found = case_metrics(np.array([1, 2, 11]), (10,))
    assert found["hit_rate_at_10"].tolist() == found["recall_at_10"].tolist()
    assert found["map_at_10"].tolist() == found["mrr_at_10"].tolist() == [1, 0.5, 0]


def test_metrics_of_many_right_answers() -> None:
    # The first case has its three answers at 4, 1 and nowhere; the second its only one at 2; the third none in reach.
    found = case_metrics(np.array([4, 1, OUT_OF_REACH, 2, 30, 40]), (1, 5), np.array([0, 3, 4, 6]))
    assert found["recall_at_1"].tolist() == pytest.approx([1 / 3, 0, 0])
    assert found["recall_at_5"].tolist() == pytest.approx([2 / 3, 1, 0])
    assert found["hit_rate_at_5"].tolist() == [1, 1, 0]
    assert found["mrr_at_5"].tolist() == [1, 0.5, 0]
    assert found["map_at_5"].tolist() == pytest.approx([(1 / 1 + 2 / 4) / 3, 0.5, 0])
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert found["ndcg_at_5"].tolist() == pytest.approx([(1 + 1 / math.log2(5)) / ideal, 1 / math.log2(3), 0])
    # In a list of one only one can be right.
    assert found["ndcg_at_1"].tolist() == [1, 0, 0]


def test_a_user_with_many_cases_counts_as_much_as_one_with_one() -> None:
    means = user_means(np.array([1.0, 0, 0, 0, 1.0]), np.array([3, 3, 3, 3, 8]))
    assert means.tolist() == [0.25, 1]


# Ranks and lists.


def test_of_equal_scores_the_lower_code_comes_first() -> None:
    scores = torch.tensor([[5.0, 5, 5, 9, 5]])
    assert [int(rank_of(scores, torch.tensor([item]))) for item in range(5)] == [2, 3, 4, 1, 5]
    assert top(scores, 3)[0].tolist() == [[3, 0, 1]]


def test_a_model_that_tells_nothing_apart_gains_nothing_by_it() -> None:
    model = told([1.0] * 50)
    ranking = rank(model, Ragged.of([[], []]), None, targets=np.array([0, 37]), k=3, exclude_seen=False)
    assert ranking.ranks.tolist() == [1, 38]
    assert ranking.lists.tolist() == [[0, 1, 2], [0, 1, 2]]


def test_seen_items_are_not_recommended_again_unless_repeats_count() -> None:
    model = told(*[[4.0, 3, 2, 1]] * 4)
    case = {"histories": Ragged.of([[0, 1]]), "users": None, "targets": np.array([2]), "k": 4}
    left_out = rank(model, **case, exclude_seen=True)
    assert (left_out.ranks.tolist(), left_out.lists.tolist()) == ([1], [[2, 3, -1, -1]])
    repeated = rank(model, **case, exclude_seen=False)
    assert (repeated.ranks.tolist(), repeated.lists.tolist()) == ([3], [[0, 1, 2, 3]])


def test_a_target_that_was_seen_is_a_miss_where_seen_items_are_left_out() -> None:
    model = told(*[[4.0, 3, 2, 1]] * 4)
    case = {"histories": Ragged.of([[0, 1]]), "users": None, "targets": np.array([0]), "k": 4}
    assert rank(model, **case, exclude_seen=True).ranks.tolist() == [OUT_OF_REACH]
    assert rank(model, **case, exclude_seen=False).ranks.tolist() == [1]


def test_a_miss_stays_one_where_the_list_is_longer_than_the_catalogue() -> None:
    ranking = rank(told([1.0]), Ragged.of([[0]]), None, targets=np.array([0]), k=10, exclude_seen=True)
    assert case_metrics(ranking.ranks, (10,))["recall_at_10"].tolist() == [0]


def test_what_was_seen_may_be_more_than_the_model_is_shown() -> None:
    model = told(*[[4.0, 3, 2, 1]] * 4)
    ranking = rank(
        model, Ragged.of([[1]]), None, targets=np.array([2]), k=2, exclude_seen=True, seen=Ragged.of([[0, 1]])
    )
    assert ranking.ranks.tolist() == [1]


def test_cases_are_ranked_a_block_at_a_time_and_come_back_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recloop.evaluation.ranking.SCORES", 2 * 4)  # two cases of four items
    monkeypatch.setattr("recloop.evaluation.ranking.ROWS", 1)
    model = Told(torch.eye(4))
    histories = Ragged.of([[0, 0, 3], [], [2], [0, 1], [0]])
    ranking = rank(model, histories, None, targets=np.array([3, 3, 2, 1, 0]), k=1, exclude_seen=False)
    assert ranking.lists[:, 0].tolist() == [3, 3, 2, 1, 0]
    assert ranking.ranks.tolist() == [1] * 5
    assert model.batches == [2, 2, 1]


def test_a_block_holds_few_histories_where_they_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recloop.evaluation.ranking.PLACES", 12)
    model = Told(torch.eye(4))
    rank(model, Ragged.of([[0] * 5, [0], [0]]), None, targets=np.zeros(3, int), k=1, exclude_seen=False)
    assert model.batches == [2, 1]


def test_a_case_may_have_many_targets() -> None:
    model = told(*[[4.0, 3, 3, 1]] * 4)
    targets = Ragged.of([[3, 0], [1], [2, 1, 0]])
    ranking = rank(model, Ragged.of([[1], [0, 1], []]), None, targets=targets, k=2, exclude_seen=True)
    assert ranking.ranks.tolist() == [3, 1, *[OUT_OF_REACH], 3, 2, 1]
    assert ranking.lists.tolist() == [[0, 2], [2, 3], [0, 1]]


def test_without_lists_the_ranks_are_the_same() -> None:
    model = told(*[[4.0, 3, 2, 1]] * 4)
    ranking = rank(model, Ragged.of([[0], []]), None, targets=np.array([2, 3]), k=0, exclude_seen=True)
    assert (ranking.ranks.tolist(), ranking.lists.shape) == ([2, 4], (2, 0))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_numbers_are_refused(wrong: float) -> None:
    with pytest.raises(ModelError, match="told gives scores that are not finite"):
        rank(told([0.0, wrong]), Ragged.of([[]]), None, targets=np.array([0]), k=1, exclude_seen=False)


def test_huge_scores_are_numbers_even_where_their_sum_is_none() -> None:
    ranking = rank(told([3e38, 2e38]), Ragged.of([[]]), None, targets=np.array([1]), k=1, exclude_seen=False)
    assert ranking.ranks.tolist() == [2]


# Against sorting whole lists, and against trec_eval.

POSSIBLE = st.sampled_from([-1.0, 0.0, 0.5, 2.0])  # few values: many ties
CUTS = (1, 3, 5)


@st.composite
def questions(draw: st.DrawFn) -> tuple[list[list[float]], list[list[int]], list[list[int]]]:
    """Scores by last item, histories, and the right answers of each."""
    items = draw(st.integers(1, 8))
    row = st.lists(POSSIBLE, min_size=items, max_size=items)
    scores = draw(st.lists(row, min_size=items, max_size=items))
    item = st.integers(0, items - 1)
    histories = draw(st.lists(st.lists(item, max_size=5), min_size=1, max_size=6))
    right = st.lists(item, min_size=1, unique=True)
    targets = draw(st.lists(right, min_size=len(histories), max_size=len(histories)))
    return scores, histories, targets


Question = tuple[list[list[float]], list[list[int]], list[list[int]]]


def naive_list(scores: list[float], left_out: list[int]) -> list[int]:
    allowed = [item for item in range(len(scores)) if item not in left_out]
    return sorted(allowed, key=lambda item: (-scores[item], item))


@settings(deadline=None, max_examples=150)
@given(questions(), st.integers(1, 9), st.booleans())
def test_ranking_agrees_with_sorting_everything(question: Question, k: int, exclude_seen: bool) -> None:
    scores, histories, targets = question
    ranking = rank(
        told(*scores), Ragged.of(histories), None, targets=Ragged.of(targets), k=k, exclude_seen=exclude_seen
    )
    ranks = iter(ranking.ranks.tolist())
    for row, (history, right) in enumerate(zip(histories, targets, strict=True)):
        best = naive_list(scores[history[-1] if history else -1], history if exclude_seen else [])
        for target in right:
            assert next(ranks) == (best.index(target) + 1 if target in best else OUT_OF_REACH)
        listed = best[:k] + [-1] * (min(k, len(scores)) - len(best[:k]))
        assert ranking.lists[row].tolist() == listed


@settings(deadline=None, max_examples=150)
@given(questions(), st.booleans())
def test_metrics_agree_with_trec_eval(question: Question, exclude_seen: bool) -> None:
    scores, histories, targets = question
    right = Ragged.of(targets)
    ranking = rank(told(*scores), Ragged.of(histories), None, targets=right, k=0, exclude_seen=exclude_seen)
    found = case_metrics(ranking.ranks, CUTS, right.offsets)
    # Of equal scores trec_eval takes the name that comes later: items are named so that lower codes do.
    run, truth = {}, {}
    for row, (history, answers) in enumerate(zip(histories, targets, strict=True)):
        given_out = scores[history[-1] if history else -1]
        shown = [item for item in range(len(given_out)) if not (exclude_seen and item in history)]
        run[str(row)] = {str(9 - item): given_out[item] for item in shown}
        truth[str(row)] = {str(9 - item): 1 for item in answers}
    names = {"ndcg": "ndcg_cut", "recall": "recall", "hit_rate": "success", "map": "map_cut"}
    cuts = ",".join(map(str, CUTS))
    theirs = pytrec_eval.RelevanceEvaluator(truth, {"recip_rank", *(f"{name}.{cuts}" for name in names.values())})
    for row, judged in theirs.evaluate(run).items():
        for k in CUTS:
            for ours, name in names.items():
                assert found[f"{ours}_at_{k}"][int(row)] == pytest.approx(judged[f"{name}_{k}"])
            reciprocal = judged["recip_rank"] if judged["recip_rank"] >= 1 / k else 0
            assert found[f"mrr_at_{k}"][int(row)] == pytest.approx(reciprocal)
