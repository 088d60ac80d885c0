"""Challenger against champion: figures that can be worked out by hand, and each reason to say no."""

from __future__ import annotations

import itertools
from dataclasses import replace
from math import log2
from pathlib import Path

import pytest

from recloop.config import Evaluate, Promotion
from recloop.data.prepared import Prepared
from recloop.evaluation.bootstrap import Interval
from recloop.project import Project
from recloop.registry.contest import Contest, answers, compete, latency_ms
from recloop.registry.package import Package, build_package
from tests.packages import write_package
from tests.trained import make_project, write_model

RULES = Promotion(min_users=30, min_gain=0.01, max_coverage_loss=0.5, max_latency_ms=50)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project")


def package(project: Project, best: str, target: Path) -> Package:
    write_model(project, best)
    return build_package(project, "popularity", target)


def test_both_are_put_to_the_same_cases_and_the_gain_is_their_difference(project: Project, tmp_path: Path) -> None:
    champion = package(project, "o", tmp_path / "champion")
    challenger = package(project, "d", tmp_path / "challenger")

    contest = compete(challenger, champion, Prepared.load(project.prepared), RULES, Evaluate(), 1.0)

    second = 1 / log2(3)  # the champion puts o first and d, which is right, second
    assert contest.users == contest.cases == 40
    assert contest.challenger_ndcg == pytest.approx(1)
    assert contest.champion_ndcg == pytest.approx(second)
    # Everybody gains the same: whoever is drawn, the mean is the same.
    assert contest.gain.low == contest.gain.high == pytest.approx(1 - second)
    assert contest.challenger_items == contest.champion_items == 10
    assert contest.champion_unknown_targets == 0
    assert contest.objections(RULES) == ()


def test_an_older_champion_is_asked_in_its_own_codes(project: Project, tmp_path: Path) -> None:
    # Its codes are other ones, it does not know b and c, and it knows no u00, but somebody else.
    write_package(
        tmp_path / "old",
        counts={"z": 5.0, "d": 9.0, "a": 1.0, "x": 2.0},
        histories={"stranger": ["z"], "u01": ["a"]},
    )

    answered = answers(Package.load(tmp_path / "old"), Prepared.load(project.prepared), Evaluate(exclude_seen=True))

    assert answered.ndcg.tolist() == [1.0] * 40  # d comes first
    assert answered.unknown_targets == 0
    assert answered.items_shown == 1  # a was seen; z and x are not there any more


def test_items_that_are_gone_are_no_coverage_to_lose(project: Project, tmp_path: Path) -> None:
    """After a change of the source the champion's catalogue may have been many times as large."""
    gone = {f"gone{number}": 100.0 + number for number in range(9)}
    write_package(tmp_path / "old", counts=gone | {"o": 2.0, "d": 1.0}, histories={"ann": ["d"]})
    challenger = package(project, "d", tmp_path / "challenger")

    old = Package.load(tmp_path / "old")
    contest = compete(challenger, old, Prepared.load(project.prepared), RULES, Evaluate(), 1.0)

    assert (contest.challenger_items, contest.champion_items) == (10, 1)
    assert contest.objections(RULES) == ()


def test_a_target_that_the_champion_does_not_know_is_a_miss(project: Project, tmp_path: Path) -> None:
    # Fewer than ten items: even the last place would be among the ten.
    write_package(tmp_path / "old", counts={"a": 1.0, "b": 2.0, "z": 3.0}, histories={"ann": ["a"]})

    answered = answers(Package.load(tmp_path / "old"), Prepared.load(project.prepared), Evaluate(exclude_seen=False))

    assert answered.ndcg.tolist() == [0.0] * 40
    assert answered.unknown_targets == 40


def test_only_the_last_known_items_of_a_history_are_shown_but_all_are_left_out(
    project: Project, tmp_path: Path
) -> None:
    """What was seen long ago is not recommended again, however short the model's memory is."""
    write_package(tmp_path / "old", counts={"a": 9.0, "b": 8.0, "c": 7.0, "d": 1.0})
    told = (tmp_path / "old" / "package.json").read_text()
    (tmp_path / "old" / "package.json").write_text(told.replace('"max_history": 10', '"max_history": 1'))

    answered = answers(Package.load(tmp_path / "old"), Prepared.load(project.prepared), Evaluate(exclude_seen=True))

    assert answered.ndcg.tolist() == [1.0] * 40


GOOD = Contest(
    users=40,
    cases=80,
    challenger_ndcg=0.3,
    champion_ndcg=0.25,
    gain=Interval(0.05, 0.02, 0.08),
    challenger_items=100,
    champion_items=150,
    champion_unknown_targets=0,
    latency_ms=3.0,
)


@pytest.mark.parametrize(
    ("changes", "objection"),
    [
        ({"users": 29}, "only 29 users to judge by, 30 are wanted"),
        ({"gain": Interval(0.05, 0.01, 0.08)}, "not surely above 0.01"),
        ({"gain": Interval(-0.05, -0.1, 0.0)}, "not surely above 0.01: -0.0500"),
        ({"challenger_items": 74}, "it recommends 74 items, the champion 150"),
        ({"latency_ms": 50.1}, "50.1 ms a user, 50 are allowed"),
    ],
)
def test_each_rule_has_its_objection(changes: dict[str, object], objection: str) -> None:
    assert GOOD.objections(RULES) == ()

    (said,) = replace(GOOD, **changes).objections(RULES)  # type: ignore[arg-type]

    assert objection in said
    assert "promotion." in said  # which setting


def test_at_the_limit_is_allowed_but_for_the_gain() -> None:
    assert replace(GOOD, users=30, challenger_items=75, latency_ms=50.0).objections(RULES) == ()


def test_latency_is_the_median_of_answering_one_user_at_a_time(tmp_path: Path) -> None:
    write_package(tmp_path / "package", histories={name: ["a"] for name in "rstuv"})
    ticks = itertools.chain([0, 0.001], [1, 1.002], [2, 2.003], [3, 3.004], [4, 4.900])

    assert latency_ms(Package.load(tmp_path / "package"), clock=lambda: next(ticks)) == pytest.approx(3)


def test_a_nan_gain_is_no_gain() -> None:
    (said,) = replace(GOOD, gain=Interval(float("nan"), float("nan"), float("nan"))).objections(RULES)
    assert "not surely above" in said
