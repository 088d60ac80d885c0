"""The benchmarks: what others read of quality is there, both orders of ties are, nothing is trained twice; and what a
person gets wrong is said in a line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import memory, quality, report, training
from tests.histories import walks


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "results"
    monkeypatch.setattr(report, "RESULTS", folder)
    monkeypatch.setattr(quality, "RESULTS", folder)
    monkeypatch.setattr(quality, "RUNNING", folder / "running")
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object, main: Callable[[], None] = quality.main) -> None:
    monkeypatch.setattr(sys, "argv", ["quality", *map(str, arguments)])
    main()


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


@pytest.mark.parametrize("main", [quality.main, memory.main])
@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("nowhere.txt", None, "is missing"),
        ("folder", None, "is a folder"),
        ("short.txt", "ann 1 2\nbob 3 4\n", "leave nothing to predict"),
        ("own.csv", "customer,sku\nann,1\n", "is not MovieLens' ratings.csv: it has no column userId, movieId"),
        ("ratings.csv", "userId,movieId,rating,timestamp\n1,2,good,3\n", "row 1: 'good' (string) where a number"),
    ],
)
def test_data_that_is_none_is_said_in_a_line_about_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    main: Callable[[], None],
    name: str,
    content: str | None,
    cause: str,
) -> None:
    (tmp_path / "folder").mkdir()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--data", tmp_path / name, main=main)
    (line,) = capsys.readouterr().err.splitlines()
    assert cause in line
    assert "→ --data is to name a file with a line a user" in line
    assert "params.yaml" not in line
    assert ended.value.code == 2


def test_the_speed_of_training_is_not_measured_where_the_peers_are_not_there_or_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "ENVIRONMENT", tmp_path / "python")
    for name, cause in (("log.txt", "python is missing → `make bench-training"), ("ratings.csv", "the peers can read")):
        with pytest.raises(SystemExit, match="2"):
            run(monkeypatch, "--data", tmp_path / name, main=training.main)
        assert cause in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "[1, 2", "models: {}"])
def test_a_plan_that_is_none_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    if content is not None:
        (tmp_path / "plan.yaml").write_text(content)
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, "--plan", tmp_path / "plan.yaml")
    (line,) = capsys.readouterr().err.splitlines()
    assert "→ --plan is to name a file such as benchmarks/quality.yaml" in line


def test_help_names_every_option(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        run(monkeypatch, "--help")
    told = capsys.readouterr().out
    for option in ("--plan", "--data", "--models", "--seeds", "--threads", "--table", "--markdown"):
        assert option in told
