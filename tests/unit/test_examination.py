"""Putting a period to a model: by hand, at a glance, shared between processes, and what is written."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recloop.config import Evaluate
from recloop.data.prepared import Cases, Prepared
from recloop.errors import ModelError, StageError
from recloop.evaluation import Examination, evaluate
from recloop.files import write_json
from tests.histories import prepared_of
from tests.told import told

FALLING = [[4.0, 3, 2, 1]] * 4
"""Whatever came before, the lower code is the better item."""


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
        evaluate(told(*FALLING), prepared, "test", Evaluate(), 100).save(tmp_path, name, valid=trained_report(tmp_path))
    for folder, ending in (("evaluation", "json"), ("users", "parquet")):
        assert (tmp_path / folder / f"a.{ending}").read_bytes() == (tmp_path / folder / f"b.{ending}").read_bytes()


def test_the_whole_history_counts_as_seen_where_the_model_is_shown_its_end() -> None:
    prepared = prepared_of([[0, 1, 2, 3]], items=4)
    model = told(*FALLING)
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


# Together.


def both_events_of_each() -> Prepared:
    """Of each user the last two events are the cases of the test period."""
    prepared = prepared_of([[0, 1, 2], [3, 2, 2], [0, 0, 3]], items=4)
    users = np.repeat(np.arange(3, dtype=np.int32), 2)
    return Prepared(**vars(prepared) | {"cases": {"test": Cases(users, np.array([1, 2, 4, 5, 7, 8]))}})


def test_together_all_events_of_a_user_are_to_be_found_from_those_before_the_first() -> None:
    # After 0: 1 and 2, listed at 1 and 2. After 3: 2, twice, which is one item, listed at 3. After 0: 0, which was
    # seen, and 3, listed at 3.
    found = evaluate(told(*FALLING), both_events_of_each(), "test", Evaluate(k=(1, 10), targets="together"), 100)
    assert found.cases == 3
    assert found.per_user["recall_at_1"].tolist() == [0.5, 0, 0]
    assert found.per_user["recall_at_10"].tolist() == [1, 1, 0.5]
    assert found.per_user["hit_rate_at_10"].tolist() == [1, 1, 1]
    assert found.per_user["mrr_at_10"].tolist() == pytest.approx([1, 1 / 3, 1 / 3])
    assert found.per_user["map_at_10"].tolist() == pytest.approx([1, 1 / 3, 1 / 6])


def test_each_event_by_itself_is_to_be_found_from_all_before_it() -> None:
    # After 0: 1, first. After 0, 1: 2, first. After 3: 2, third; then it was seen, and is out of reach, as is 0 after
    # 0. After 0, 0: 3, third.
    found = evaluate(told(*FALLING), both_events_of_each(), "test", Evaluate(k=(1, 10)), 100)
    assert found.cases == 6
    assert found.per_user["recall_at_10"].tolist() == [1, 0.5, 0.5]
    assert found.per_user["mrr_at_10"].tolist() == pytest.approx([1, 1 / 6, 1 / 6])


# At a glance.

HISTORIES = st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=6), min_size=1, max_size=7)


@settings(deadline=None, max_examples=50)
@given(HISTORIES, st.booleans(), st.sampled_from(["each", "together"]))
def test_a_glance_tells_the_same_accuracy_as_all_there_is_to_say(
    histories: list[list[int]], exclude_seen: bool, targets: str
) -> None:
    how = Evaluate(exclude_seen=exclude_seen, targets=targets)
    examination = Examination(prepared_of(histories, items=4), "test", how, 100)
    model = told([0, 1, 0, 2], [0, 0, 1, 0], [0, 0, 0, 0], [3, 0, 0, 2])
    glance, everything = examination.at_a_glance(model), examination.of(model)
    assert glance.keys() == everything.per_user.keys()
    assert glance == pytest.approx({name: everything.means[name] for name in glance})


@settings(deadline=None, max_examples=50)
@given(HISTORIES, st.integers(1, 4))
def test_sums_of_shares_add_up_to_the_whole(histories: list[list[int]], world: int) -> None:
    prepared = prepared_of(histories, items=4)
    model = told([0, 1, 0, 2], [0, 0, 1, 0], [0, 0, 0, 0], [3, 0, 0, 2])
    shares = [Examination(prepared, "test", Evaluate(), 100, share=(rank, world)) for rank in range(world)]
    users = sum(share.user_count for share in shares)
    assert users == len(histories)
    sums = [share.sums(model) for share in shares]
    means = {name: sum(each[name] for each in sums) / users for name in sums[0]}
    assert means == pytest.approx(Examination(prepared, "test", Evaluate(), 100).at_a_glance(model))
