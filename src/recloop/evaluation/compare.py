"""Which model of the zoo is best: chosen by the validation period, shown by the test period.

The test figures have no say in the choice, so they stay an honest estimate of it.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recloop.config import Evaluate
from recloop.errors import StageError
from recloop.evaluation.bootstrap import Interval, paired
from recloop.evaluation.significance import holm, sign_flip
from recloop.files import read_json, replacing, write_json


@dataclass(frozen=True)
class Contender:
    """A model's figures."""

    name: str
    valid_ndcg_at_10: float
    """What the choice is made by"""
    ndcg_at_10: Interval
    """Of the test period"""
    recall_at_10: Interval
    """Of the test period"""
    difference_to_best: Interval
    """In test NDCG@10, on the same users: this model minus the chosen one"""
    p_value: float
    """Of that difference, two-sided, by itself; 1 for the chosen one"""
    p_value_holm: float
    """The same, corrected for how many models are compared with the chosen one"""


@dataclass(frozen=True)
class Comparison:
    """The zoo side by side."""

    contenders: tuple[Contender, ...]
    """Best on validation first"""

    @property
    def best(self) -> Contender:
        """The chosen one."""
        return self.contenders[0]

    @property
    def reason(self) -> str:
        """Why it was chosen, in a sentence."""
        best = self.best
        if len(self.contenders) == 1:
            return f"{best.name} is the only model of the zoo (validation NDCG@10 {best.valid_ndcg_at_10:.4f})"
        second = self.contenders[1]
        margin = best.valid_ndcg_at_10 - second.valid_ndcg_at_10
        if not margin:
            return (
                f"{best.name} and {second.name} have the same validation NDCG@10 ({best.valid_ndcg_at_10:.4f}); "
                f"{best.name} stands first in the zoo"
            )
        return (
            f"{best.name} has the highest validation NDCG@10: {best.valid_ndcg_at_10:.4f}, "
            f"{margin:.4f} above {second.name}"
        )

    def save(self, reports: Path) -> None:
        """Write `comparison.json` and, for the plot, `comparison.csv`."""
        models = {
            each.name: {
                "valid_ndcg_at_10": each.valid_ndcg_at_10,
                "ndcg_at_10": each.ndcg_at_10.to_json(),
                "recall_at_10": each.recall_at_10.to_json(),
                "difference_to_best": each.difference_to_best.to_json(),
                "p_value": each.p_value,
                "p_value_holm": each.p_value_holm,
            }
            for each in self.contenders
        }
        facts = {
            "best": self.best.name,
            "metric": "valid ndcg_at_10",
            "reason": self.reason,
            "models": models,
        }
        write_json(reports / "comparison.json", facts)
        with (
            replacing(reports / "comparison.csv") as part,
            part.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["model", "ndcg_at_10", "low", "high", "recall_at_10"])
            for each in self.contenders:
                ndcg = each.ndcg_at_10
                writer.writerow([each.name, *map(repr, (ndcg.mean, ndcg.low, ndcg.high, each.recall_at_10.mean))])

    def __str__(self) -> str:
        width = max(len("model"), *(len(each.name) for each in self.contenders))
        lines = [f"{'model':<{width}}  valid NDCG@10  test NDCG@10             test Recall@10           vs the best"]
        for each in self.contenders:
            gap = "chosen" if each is self.best else f"{each.difference_to_best}, p {each.p_value_holm:.4f}"
            lines.append(
                f"{each.name:<{width}}  {each.valid_ndcg_at_10:<13.4f}  {each.ndcg_at_10!s:<23}  "
                f"{each.recall_at_10!s:<23}  {gap}"
            )
        return "\n".join([*lines, self.reason])


def compare(reports: Path, zoo: Sequence[str], evaluate: Evaluate) -> Comparison:
    """Choose among the models of `zoo` from the reports of their training and evaluation, and write the result.

    Of equals, the one that stands first in the zoo is chosen. Reports of models that have left the zoo are removed.

    Raises:
        StageError: a report is missing or damaged, or two models were judged on different users.
    """
    _forget_others(reports, zoo)
    valid = {name: _valid(reports, name) for name in zoo}
    # sorted() keeps the order of equals.
    order = sorted(zoo, key=lambda name: -valid[name])
    users = {name: _per_user(reports, name) for name in zoo}
    best_ids, best_values = users[order[0]]
    for name in order:
        if users[name][0] != best_ids:
            raise StageError(
                f"{name} and {order[0]} were judged on different users",
                remedy=f"`dvc repro evaluate@{name} evaluate@{order[0]}` judges both on the same data",
            )
    tests = [
        sign_flip(users[name][1] - best_values, samples=evaluate.bootstrap, seed=evaluate.seed) for name in order[1:]
    ]
    p_values = zip(order, [1.0, *tests], [1.0, *holm(tests)], strict=True)
    contenders = []
    for name, p_value, p_value_holm in p_values:
        path = reports / "evaluation" / f"{name}.json"
        report = read_json(path, remedy=_evaluates(name))
        difference = paired(
            users[name][1],
            best_values,
            samples=evaluate.bootstrap,
            confidence=evaluate.confidence,
            seed=evaluate.seed,
        )
        contenders.append(
            Contender(
                name=name,
                valid_ndcg_at_10=valid[name],
                ndcg_at_10=_interval(report, "ndcg_at_10", path, name),
                recall_at_10=_interval(report, "recall_at_10", path, name),
                difference_to_best=difference,
                p_value=p_value,
                p_value_holm=p_value_holm,
            )
        )
    comparison = Comparison(tuple(contenders))
    comparison.save(reports)
    return comparison


def _forget_others(reports: Path, zoo: Sequence[str]) -> None:
    """What a clone that never had those models would not have must not count among the inputs, in `dvc.lock`."""
    for pattern in ("training/*.json", "evaluation/*.json", "metrics/*.json", "users/*.parquet"):
        for report in reports.glob(pattern):
            if report.stem not in zoo:
                report.unlink()


def _evaluates(name: str) -> str:
    return f"`dvc repro evaluate@{name}` writes it"


def _valid(reports: Path, name: str) -> float:
    """The validation NDCG@10 in the report of a training."""
    path, remedy = reports / "training" / f"{name}.json", f"`dvc repro train@{name}` writes it"
    report = read_json(path, remedy=remedy)
    try:
        return float(report["valid"]["ndcg_at_10"])
    except (KeyError, TypeError, ValueError) as error:
        raise StageError(f"{path} holds no valid.ndcg_at_10", remedy=remedy) from error


def _interval(report: Any, metric: str, path: Path, name: str) -> Interval:
    try:
        found = report[metric]
        return Interval(float(found["mean"]), float(found["low"]), float(found["high"]))
    except (KeyError, TypeError, ValueError) as error:
        raise StageError(f"{path} holds no interval of {metric}", remedy=_evaluates(name)) from error


def _per_user(reports: Path, name: str) -> tuple[list[str], np.ndarray]:
    """Users and their test NDCG@10."""
    path = reports / "users" / f"{name}.parquet"
    try:
        table = pq.read_table(path, columns=["user_id", "ndcg_at_10"])
    except FileNotFoundError as error:
        raise StageError(f"{path} is missing", remedy=_evaluates(name)) from error
    except (pa.ArrowException, OSError) as error:
        raise StageError(f"{path} is damaged: {error}", remedy=_evaluates(name)) from error
    return table["user_id"].to_pylist(), table["ndcg_at_10"].to_numpy()
