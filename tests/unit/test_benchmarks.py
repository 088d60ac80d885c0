"""The quality benchmark: what others read of it is there, both orders of ties are, and nothing is trained twice."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import quality, report
from tests.histories import walks


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "results"
    monkeypatch.setattr(report, "RESULTS", folder)
    monkeypatch.setattr(quality, "RESULTS", folder)
    monkeypatch.setattr(quality, "RUNNING", folder / "running")
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["quality", *map(str, arguments)])
    quality.main()


def rows(results: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((results / "quality.json").read_text())["rows"]
    return found


def test_each_model_and_seed_is_a_row_that_is_made_once(
    tmp_path: Path, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "shop.txt"
    histories = walks(users=40, items=12, length=6)
    log.write_text("\n".join(f"{user} {' '.join(map(str, each))}" for user, each in enumerate(histories)))
    run(monkeypatch, "--data", log, "--models", "item_knn", "popularity", "--seeds", 0, 1)
    found = rows(results)
    assert [(row["data"], row["model"], row["seed"], row["time_ties"]) for row in found] == [
        ("shop", model, seed, "file") for model in ("item_knn", "popularity") for seed in (0, 1)
    ]
    for row in found:
        low, high = row["recall_at_10_interval"]
        assert 0 <= low <= row["recall_at_10"] <= high <= 1
        assert row["ndcg_at_10"] <= row["recall_at_10"]
        assert row["commit"]
    assert "popularity" in capsys.readouterr().out

    def fit(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(quality, "fit", fit)
    run(monkeypatch, "--data", log, "--models", "item_knn", "popularity", "--seeds", 0, 1)
    assert rows(results) == found
    log.write_text(log.read_text().replace("0 0 1 2", "0 2 1 0", 1))
    with pytest.raises(AssertionError, match="trained again"):
        run(monkeypatch, "--data", log, "--models", "popularity", "--seeds", 0)


def test_data_with_times_is_run_in_both_orders_of_ties(
    tmp_path: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "films" / "ratings.csv"
    log.parent.mkdir()
    lines = [
        f"{user},{item},4.0,{1_000_000_000 + place // 3}"
        for user, history in enumerate(walks(users=40, items=12, length=9))
        for place, item in enumerate(history)
    ]
    log.write_text("\n".join(["userId,movieId,rating,timestamp", *lines]))
    run(monkeypatch, "--data", log, "--models", "item_knn", "--seeds", 0)
    forward, backward = rows(results)
    assert (forward["data"], forward["time_ties"], backward["time_ties"]) == ("films", "forward", "reversed")
    assert forward["digest"] != backward["digest"]
    assert len(list((results / "users").glob("*.npz"))) == 2
