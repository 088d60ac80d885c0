"""The comparison: validation chooses, the test period only shows."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recloop.config import Evaluate
from recloop.errors import StageError
from recloop.evaluation.bootstrap import interval
from recloop.evaluation.compare import compare
from recloop.files import write_json

SETTINGS = Evaluate(bootstrap=200)


def judged(reports: Path, name: str, *, valid: float, test: list[float], users: str = "abcd") -> None:
    """Reports as the stages `train` and `evaluate` write them."""
    write_json(reports / "training" / f"{name}.json", {"valid": {"ndcg_at_10": valid}})
    values = np.array(test)
    found = interval(values, samples=200, confidence=SETTINGS.confidence, seed=SETTINGS.seed).to_json()
    write_json(reports / "evaluation" / f"{name}.json", {"ndcg_at_10": found, "recall_at_10": found})
    (reports / "users").mkdir(exist_ok=True)
    pq.write_table(pa.table({"user_id": list(users), "ndcg_at_10": values}), reports / "users" / f"{name}.parquet")


def test_the_best_on_validation_is_chosen_even_where_another_is_better_on_test(tmp_path: Path) -> None:
    judged(tmp_path, "careful", valid=0.3, test=[0.1, 0.1, 0.2, 0.2])
    judged(tmp_path, "lucky", valid=0.2, test=[0.9, 0.9, 1.0, 1.0])
    found = compare(tmp_path, ["lucky", "careful"], SETTINGS)
    assert found.best.name == "careful"
    assert found.reason == "careful has the highest validation NDCG@10: 0.3000, 0.1000 above lucky"
    lucky = found.contenders[1]
    assert lucky.difference_to_best.mean == pytest.approx(0.8)
    assert lucky.difference_to_best.low == pytest.approx(0.8)  # every user gains the same: the pair has no spread
    assert found.best.difference_to_best.mean == 0


def test_it_is_written_for_programs_and_for_a_plot(tmp_path: Path) -> None:
    judged(tmp_path, "a", valid=0.1, test=[0.0, 0.5, 0.5, 1.0])
    judged(tmp_path, "b", valid=0.2, test=[0.5, 0.5, 0.5, 0.5])
    compare(tmp_path, ["a", "b"], SETTINGS)
    facts = json.loads((tmp_path / "comparison.json").read_text())
    assert (facts["best"], facts["metric"]) == ("b", "valid ndcg_at_10")
    assert set(facts["models"]) == {"a", "b"}
    assert facts["models"]["a"]["valid_ndcg_at_10"] == 0.1
    assert facts["models"]["b"]["ndcg_at_10"] == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert facts["models"]["a"]["difference_to_best"]["low"] < 0 < facts["models"]["a"]["difference_to_best"]["high"]
    assert facts["models"]["a"]["p_value"] == 1  # one loses half, one gains half
    with (tmp_path / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["b", "a"]
    assert rows[0] == {"model": "b", "ndcg_at_10": "0.5", "low": "0.5", "high": "0.5", "recall_at_10": "0.5"}


def test_p_values_are_corrected_for_how_many_are_compared_with_the_best(tmp_path: Path) -> None:
    judged(tmp_path, "best", valid=0.3, test=[0.9] * 4)
    judged(tmp_path, "same", valid=0.2, test=[0.9] * 4)
    judged(tmp_path, "worse", valid=0.1, test=[0.5] * 4)
    best, same, worse = compare(tmp_path, ["best", "same", "worse"], SETTINGS).contenders
    assert (best.p_value, best.p_value_holm) == (same.p_value, same.p_value_holm) == (1, 1)
    assert worse.p_value == pytest.approx(2 / 16, abs=0.05)
    assert worse.p_value_holm == 2 * worse.p_value


def test_of_equals_the_first_of_the_zoo_is_chosen_and_it_says_so(tmp_path: Path) -> None:
    for name in ("a", "b"):
        judged(tmp_path, name, valid=0.2, test=[0.5] * 4)
    found = compare(tmp_path, ["b", "a"], SETTINGS)
    assert found.best.name == "b"
    assert found.reason.endswith("b stands first in the zoo")


def test_a_zoo_of_one(tmp_path: Path) -> None:
    judged(tmp_path, "a", valid=0.2, test=[0.5] * 4)
    assert compare(tmp_path, ["a"], SETTINGS).reason.startswith("a is the only model of the zoo")


def test_reports_of_models_that_left_the_zoo_do_not_stay_among_the_inputs(tmp_path: Path) -> None:
    judged(tmp_path, "a", valid=0.2, test=[0.5] * 4)
    judged(tmp_path, "gone", valid=0.9, test=[0.5] * 3, users="xyz")
    assert [each.name for each in compare(tmp_path, ["a"], SETTINGS).contenders] == ["a"]
    assert not list(tmp_path.rglob("gone.*"))


def test_it_reads_as_a_table(tmp_path: Path) -> None:
    judged(tmp_path, "popularity", valid=0.1, test=[0.25] * 4)
    judged(tmp_path, "mf", valid=0.2, test=[0.5] * 4)
    header, first, second, reason = str(compare(tmp_path, ["popularity", "mf"], SETTINGS)).splitlines()
    assert header.startswith("model ")
    assert first.split() == ["mf", "0.2000", *["0.5000", "[0.5000,", "0.5000]"] * 2, "chosen"]
    # Four users who all lose: of the 16 ways to draw their signs 2 are as extreme, which is 0.125, as far as drawn.
    assert second.endswith("-0.2500 [-0.2500, -0.2500], p 0.1393")
    assert reason.startswith("mf has the highest")


@pytest.mark.parametrize(
    ("file", "remedy"),
    [
        ("training/a.json", "dvc repro train@a"),
        ("evaluation/a.json", "dvc repro evaluate@a"),
        ("users/a.parquet", "dvc repro evaluate@a"),
    ],
)
def test_a_missing_or_damaged_report_is_named_with_what_writes_it(tmp_path: Path, file: str, remedy: str) -> None:
    judged(tmp_path, "a", valid=0.2, test=[0.5] * 4)
    (tmp_path / file).write_text("{")
    with pytest.raises(StageError, match=rf"{file} is damaged(?s:.*){remedy}"):
        compare(tmp_path, ["a"], SETTINGS)
    (tmp_path / file).unlink()
    with pytest.raises(StageError, match=rf"{file} is missing(?s:.*){remedy}"):
        compare(tmp_path, ["a"], SETTINGS)
    assert not (tmp_path / "comparison.json").exists()


@pytest.mark.parametrize(
    ("file", "message"),
    [("training/a.json", r"holds no valid\.ndcg_at_10"), ("evaluation/a.json", "holds no interval of ndcg_at_10")],
)
def test_a_report_without_the_figure_is_refused(tmp_path: Path, file: str, message: str) -> None:
    judged(tmp_path, "a", valid=0.2, test=[0.5] * 4)
    (tmp_path / file).write_text("{}")
    with pytest.raises(StageError, match=message):
        compare(tmp_path, ["a"], SETTINGS)


def test_models_that_were_judged_on_different_users_are_not_compared(tmp_path: Path) -> None:
    judged(tmp_path, "a", valid=0.2, test=[0.5] * 4)
    judged(tmp_path, "b", valid=0.1, test=[0.5] * 4, users="abce")
    with pytest.raises(StageError, match=r"b and a were judged on different users(?s:.*)dvc repro evaluate@b"):
        compare(tmp_path, ["a", "b"], SETTINGS)
