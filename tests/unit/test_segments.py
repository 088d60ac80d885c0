"""Parts of the users and of the targets, each judged by itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recloop.config import Evaluate
from recloop.data.prepared import Ragged
from recloop.errors import ConfigError, StageError
from recloop.evaluation import evaluate
from recloop.evaluation.questions import Questions
from recloop.evaluation.segments import Segment, segments, target_kinds, user_groups
from recloop.files import write_json
from tests.histories import prepared_of
from tests.told import told

COUNTS = np.array([6, 3, 2, 1, 0])
"""Half of the events are on item 0: it is the head; 4 is cold."""


def asked(targets: list[list[int]], *, users: list[int], events: list[int]) -> Questions:
    histories = Ragged.of([[0] * each for each in events])
    return Questions(np.array(users, np.int32), histories, histories, Ragged.of(targets))


def by_name(found: tuple[Segment, ...]) -> dict[tuple[str, str], Segment]:
    return {(each.by, each.name): each for each in found}


def test_the_head_is_the_most_popular_items_with_that_share_of_the_events() -> None:
    assert target_kinds(COUNTS, 0.5).tolist() == ["head", "tail", "tail", "tail", "cold"]
    assert target_kinds(COUNTS, 0.51).tolist() == ["head", "head", "tail", "tail", "cold"]
    assert target_kinds(np.array([1, 0, 1, 1]), 0.5).tolist() == ["head", "cold", "head", "tail"]


def test_each_target_counts_for_its_own_kind() -> None:
    questions = asked([[0], [1], [4], [0]], users=[0, 0, 1, 2], events=[1, 2, 1, 1])
    found = by_name(segments(questions, np.array([1, 2, 3, 20]), COUNTS, Evaluate(k=(10,))))
    assert set(found) == {("target", "head"), ("target", "tail"), ("target", "cold"), ("user_history", "cold")}
    head = found["target", "head"]
    assert (head.cases, head.per_user["mrr_at_10"].tolist()) == (2, [1, 0])
    assert found["target", "tail"].per_user["mrr_at_10"].tolist() == [0.5]
    assert found["target", "cold"].per_user["mrr_at_10"].tolist() == pytest.approx([1 / 3])


def test_of_targets_sought_together_each_kind_is_sought_by_itself() -> None:
    questions = asked([[0, 1, 2], [0]], users=[0, 1], events=[1, 1])
    found = by_name(segments(questions, np.array([3, 1, 11, 20]), COUNTS, Evaluate(k=(10,))))
    tail = found["target", "tail"]
    assert tail.cases == 1
    assert tail.per_user["recall_at_10"].tolist() == [0.5]
    assert found["target", "head"].per_user["recall_at_10"].tolist() == [1, 0]


def test_a_user_is_warm_or_cold_by_the_events_before_the_first_question() -> None:
    questions = asked([[1]] * 4, users=[0, 0, 3, 5], events=[2, 3, 3, 9])
    found = by_name(segments(questions, np.array([1, 1, 2, 4]), COUNTS, Evaluate(k=(10,), warm_from=3)))
    assert found["user_history", "cold"].per_user["mrr_at_10"].tolist() == [1]
    assert found["user_history", "cold"].cases == 2
    assert found["user_history", "warm"].per_user["mrr_at_10"].tolist() == [0.5, 0.25]


def test_groups_of_users_are_judged_by_themselves_and_users_without_one_are_in_none() -> None:
    questions = asked([[1]] * 3, users=[0, 1, 3], events=[1, 1, 1])
    groups = ["m", "f", "x", None]
    found = by_name(segments(questions, np.array([1, 2, 4]), COUNTS, Evaluate(k=(10,), group_by="gender"), groups))
    of_groups = {name: each.per_user["mrr_at_10"].tolist() for (by, name), each in found.items() if by == "gender"}
    assert of_groups == {"f": [0.5], "m": [1]}


def test_segments_are_in_the_report_with_their_intervals(tmp_path: Path) -> None:
    prepared = prepared_of([[0, 1, 2], [2, 0, 1]], items=4)
    settings = Evaluate(k=(1, 10), bootstrap=50, group_by="sex")
    model = told([0, 1, 0, 2], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0])
    found = evaluate(model, prepared, "test", settings, 100, groups=["f", "m"])
    write_json(tmp_path / "training.json", {"valid": {"ndcg_at_10": 0.4}})
    found.save(tmp_path, "told", valid=tmp_path / "training.json")
    told_of = json.loads((tmp_path / "evaluation" / "told.json").read_text())["segments"]
    assert [(each["by"], each["name"], each["users"], each["cases"]) for each in told_of] == [
        ("target", "tail", 1, 1),  # of items 0 and 2, trained on once each, 0 is the head
        ("target", "cold", 1, 1),
        ("user_history", "cold", 2, 2),
        ("sex", "f", 1, 1),
        ("sex", "m", 1, 1),
    ]
    assert told_of[2]["recall_at_1"] == {"mean": 0.5, "low": 0, "high": 1}
    assert told_of[3]["recall_at_1"] == {"mean": 1, "low": 1, "high": 1}


def users_file(folder: Path, **columns: list[object]) -> Path:
    ours = {"user_id": ["a", "b"], "start": [0, 1], "end": [1, 2]}
    pq.write_table(pa.table(ours | columns), folder / "users.parquet")
    return folder


def test_groups_are_a_column_of_the_users_as_text(tmp_path: Path) -> None:
    assert user_groups(users_file(tmp_path, age=[31, None]), "age") == ["31", None]


def test_an_unknown_column_is_refused_with_those_there_are(tmp_path: Path) -> None:
    users_file(tmp_path, age=[31, 32], gender=["f", "m"])
    for column in ("sex", "start"):
        with pytest.raises(ConfigError, match=rf"no attribute '{column}'\n.*they have: age, gender"):
            user_groups(tmp_path, column)
    with pytest.raises(ConfigError, match=r"no attribute 'sex'\n.*they have none"):
        user_groups(users_file(tmp_path), "sex")


def test_a_missing_or_damaged_file_of_users_is_named_with_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"users\.parquet is missing\n.*dvc repro prepare"):
        user_groups(tmp_path, "sex")
    (tmp_path / "users.parquet").write_text("nothing")
    with pytest.raises(StageError, match=r"users\.parquet is damaged"):
        user_groups(tmp_path, "sex")
