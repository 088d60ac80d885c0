"""Ranks, metrics and evaluation: checked by hand, and against a slow implementation that shares no code with ours."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recloop.config import Evaluate
from recloop.data.batches import RaggedTensor
from recloop.data.prepared import Ragged
from recloop.errors import ModelError, StageError
from recloop.evaluation import evaluate
from recloop.evaluation.lists import OUT_OF_REACH, rank_of, top
from recloop.evaluation.metrics import case_metrics, coverage, user_means
from recloop.evaluation.ranking import rank
from recloop.files import write_json
from recloop.models.base import ModelConfig, Recommender
from tests.histories import prepared_of


class Told(Recommender):
    """A model that is told what to score: row = the last item of the history; -1, the last row, for an empty one."""

    Config = ModelConfig
    name = "told"

    def __init__(self, scores: Tensor) -> None:
        super().__init__(ModelConfig(), catalogue_size=scores.shape[1], user_count=0, max_history=100)
        self.register_buffer("scores", scores.float())
        self.batches: list[int] = []

    def encode(self, histories: RaggedTensor, users: Tensor | None = None) -> Tensor:
        self.batches.append(len(histories))
        padded = torch.cat([histories.values, torch.tensor([-1])])
        last = torch.where(histories.lengths > 0, padded[histories.offsets[1:] - 1], -1)
        return torch.nn.functional.one_hot(last % len(self.scores), len(self.scores)).float()

    def item_matrix(self) -> Tensor:
        scores = self.scores
        assert isinstance(scores, Tensor)
        return scores.T


def told(*rows: list[float]) -> Told:
    return Told(torch.tensor(rows))


# Metrics by hand.


def test_metrics_of_the_ranks_one_two_and_eleven() -> None:
    found = case_metrics(np.array([1, 2, 11]), (1, 10, 20))
    assert found["recall_at_1"].tolist() == [1, 0, 0]
    assert found["recall_at_10"].tolist() == [1, 1, 0]
    assert found["ndcg_at_10"].tolist() == pytest.approx([1, 1 / math.log2(3), 0])
    assert found["ndcg_at_20"].tolist() == pytest.approx([1, 1 / math.log2(3), 1 / math.log2(12)])
    assert found["mrr_at_20"].tolist() == pytest.approx([1, 1 / 2, 1 / 11])


def test_a_user_with_many_cases_counts_as_much_as_one_with_one() -> None:
    means = user_means(np.array([1.0, 0, 0, 0, 1.0]), np.array([3, 3, 3, 3, 8]))
    assert means.tolist() == [0.25, 1]


def test_coverage_is_the_share_of_the_catalogue_that_anybody_is_shown() -> None:
    lists = np.array([[0, 1, 2], [0, 3, -1]])
    assert coverage(lists, 1, 10) == 0.1
    assert coverage(lists, 3, 10) == 0.4


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


def test_scores_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ModelError, match="told gives scores that are not finite"):
        rank(told([0.0, math.nan]), Ragged.of([[]]), None, targets=np.array([0]), k=1, exclude_seen=False)


# Against a slow implementation.

POSSIBLE = st.sampled_from([-1.0, 0.0, 0.5, 2.0])  # few values: many ties


@st.composite
def questions(draw: st.DrawFn) -> tuple[list[list[float]], list[list[int]], list[int]]:
    items = draw(st.integers(1, 8))
    row = st.lists(POSSIBLE, min_size=items, max_size=items)
    scores = draw(st.lists(row, min_size=items, max_size=items))
    item = st.integers(0, items - 1)
    histories = draw(st.lists(st.lists(item, max_size=5), min_size=1, max_size=6))
    targets = draw(st.lists(item, min_size=len(histories), max_size=len(histories)))
    return scores, histories, targets


def naive_list(scores: list[float], left_out: list[int]) -> list[int]:
    allowed = [item for item in range(len(scores)) if item not in left_out]
    return sorted(allowed, key=lambda item: (-scores[item], item))


@settings(deadline=None, max_examples=150)
@given(questions(), st.integers(1, 9), st.booleans())
def test_ranking_agrees_with_sorting_everything(
    question: tuple[list[list[float]], list[list[int]], list[int]], k: int, exclude_seen: bool
) -> None:
    scores, histories, targets = question
    model = told(*scores)
    ranking = rank(model, Ragged.of(histories), None, targets=np.array(targets), k=k, exclude_seen=exclude_seen)
    for row, (history, target) in enumerate(zip(histories, targets, strict=True)):
        best = naive_list(scores[history[-1] if history else -1], history if exclude_seen else [])
        place = best.index(target) + 1 if target in best else OUT_OF_REACH
        assert ranking.ranks[row] == place
        listed = best[:k] + [-1] * (min(k, len(scores)) - len(best[:k]))
        assert ranking.lists[row].tolist() == listed
        for cut in (1, 3):
            gain = sum(1 / math.log2(2 + at) for at, item in enumerate(best[:cut]) if item == target)
            found = case_metrics(ranking.ranks[row : row + 1], (cut,))
            assert found[f"ndcg_at_{cut}"][0] == pytest.approx(gain)
            assert found[f"recall_at_{cut}"][0] == (target in best[:cut])


# Evaluation.


def trained_report(folder: Path) -> Path:
    write_json(folder / "training.json", {"valid": {"ndcg_at_10": 0.4}})
    return folder / "training.json"


def test_an_evaluation_by_hand(tmp_path: Path) -> None:
    # The test cases are: u0 after 0, 1 → 2; u1 after 2, 0 → 1. Told: after 1 comes 2; after 0 comes 3, then 1.
    prepared = prepared_of([[0, 1, 2], [2, 0, 1]], items=4)
    model = told([0, 1, 0, 2], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0])
    found = evaluate(model, prepared, "test", Evaluate(k=(1, 10), bootstrap=50), 100)
    assert found.per_user["ndcg_at_10"].tolist() == pytest.approx([1, 1 / math.log2(3)])
    assert found.per_user["recall_at_1"].tolist() == [1, 0]
    assert found.means["coverage_at_1"] == 0.5  # 2 and 3
    assert found.means["coverage_at_10"] == 0.75  # 0 was seen by both; 1, 2 and 3 are left
    found.save(tmp_path, "told", valid=trained_report(tmp_path))
    report = json.loads((tmp_path / "evaluation" / "told.json").read_text())
    assert (report["users"], report["cases"], report["coverage_at_1"]) == (2, 2, 0.5)
    assert report["recall_at_1"] == {"mean": 0.5, "low": 0.0, "high": 1.0}
    glance = json.loads((tmp_path / "metrics" / "told.json").read_text())
    means = {name: found.means[name] for name in ("ndcg_at_10", "recall_at_10", "coverage_at_10")}
    assert glance == {"valid_ndcg_at_10": 0.4} | means
    table = pq.read_table(tmp_path / "users" / "told.parquet")
    assert table["user_id"].to_pylist() == ["u0", "u1"]
    assert table["recall_at_1"].to_pylist() == [1, 0]
    assert str(found).startswith("NDCG@10 0.8155 [0.6309, 1.0000], Recall@10 1.0000")


def test_an_evaluation_is_written_as_the_same_bytes_twice(tmp_path: Path) -> None:
    prepared = prepared_of([[0, 1, 2], [2, 0, 1]], items=4)
    for name in ("a", "b"):
        evaluate(told(*[[4.0, 3, 2, 1]] * 4), prepared, "test", Evaluate(), 100).save(
            tmp_path, name, valid=trained_report(tmp_path)
        )
    for folder, ending in (("evaluation", "json"), ("users", "parquet")):
        assert (tmp_path / folder / f"a.{ending}").read_bytes() == (tmp_path / folder / f"b.{ending}").read_bytes()


def test_the_whole_history_counts_as_seen_where_the_model_is_shown_its_end() -> None:
    prepared = prepared_of([[0, 1, 2, 3]], items=4)
    model = told(*[[4.0, 3, 2, 1]] * 4)
    assert evaluate(model, prepared, "test", Evaluate(), 1).per_user["recall_at_5"].tolist() == [1]
    first = evaluate(model, prepared, "test", Evaluate(k=(1, 10)), 1)
    assert first.per_user["recall_at_1"].tolist() == [1]  # 0, 1 and 2 are left out


def test_a_period_without_cases_is_refused_by_name() -> None:
    prepared = prepared_of([[0, 1]], items=2, held_out=0)
    with pytest.raises(StageError, match=r"the test period has no cases.*\n.*split\.test_share"):
        evaluate(told([1.0, 2]), prepared, "test", Evaluate(), 10)


def test_a_model_of_another_catalogue_is_refused() -> None:
    with pytest.raises(ModelError, match="told was trained on 2 items, but the data has 3"):
        evaluate(told([1.0, 2]), prepared_of([[0, 1, 2]], items=3), "test", Evaluate(), 10)
