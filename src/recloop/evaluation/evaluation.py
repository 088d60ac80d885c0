"""Judging a model on a period: one number a user and metric, then means with intervals over users."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recloop.config import Evaluate
from recloop.data.prepared import Period, Prepared
from recloop.errors import ModelError, StageError
from recloop.evaluation.bootstrap import Interval, interval
from recloop.evaluation.metrics import case_metrics, coverage, user_means
from recloop.evaluation.ranking import rank
from recloop.files import read_json, replacing, write_json

if TYPE_CHECKING:
    from recloop.models.base import Recommender


@dataclass(frozen=True)
class Evaluation:
    """How a model did on a period."""

    user_ids: list[str]
    """Users that have cases, by ascending code"""
    cases: int
    per_user: dict[str, np.ndarray]
    """`ndcg_at_10` and the like → float64 [users]: the mean over the user's cases"""
    coverage: dict[str, float]
    """`coverage_at_10` and the like → share of the catalogue that anybody was recommended"""
    settings: Evaluate

    @property
    def means(self) -> dict[str, float]:
        """Each metric's mean over users, coverage included."""
        return {name: float(values.mean()) for name, values in self.per_user.items()} | self.coverage

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Each metric's mean over users with its bootstrap interval."""
        return {
            name: interval(
                values,
                samples=self.settings.bootstrap,
                confidence=self.settings.confidence,
                seed=self.settings.seed,
            )
            for name, values in self.per_user.items()
        }

    def save(self, reports: Path, name: str, *, valid: Path) -> None:
        """Write `evaluation/<name>.json` (means and intervals), `users/<name>.parquet` (a row a user) and
        `metrics/<name>.json` (the figures to compare at a glance).

        Args:
            valid: the report of the training, which has the validation metrics.

        Raises:
            StageError: that report is missing or damaged.
        """
        training = read_json(valid, remedy=f"`dvc repro train@{name}` writes it")
        table = pa.table({"user_id": pa.array(self.user_ids, pa.string())} | self.per_user)
        with replacing(reports / "users" / f"{name}.parquet") as part:
            pq.write_table(table, part, compression="zstd")
        content: dict[str, Any] = {"users": len(self.user_ids), "cases": self.cases} | self.coverage
        content |= {metric: found.to_json() for metric, found in self.intervals.items()}
        write_json(reports / "evaluation" / f"{name}.json", content)
        means = {metric: self.means[metric] for metric in ("ndcg_at_10", "recall_at_10", "coverage_at_10")}
        glance = {"valid_ndcg_at_10": training["valid"]["ndcg_at_10"]} | means
        write_json(reports / "metrics" / f"{name}.json", glance)

    def __str__(self) -> str:
        return (
            f"NDCG@10 {self.intervals['ndcg_at_10']}, Recall@10 {self.intervals['recall_at_10']}, "
            f"coverage@10 {self.coverage['coverage_at_10']:.1%}; {self.cases:,} cases of {len(self.user_ids):,} users"
        )


class Examination:
    """The cases of a period, made ready once to be put to a model many times."""

    def __init__(self, prepared: Prepared, period: Period, settings: Evaluate, max_history: int) -> None:
        """
        Args:
            prepared: the data.
            period: `valid` or `test`.
            settings: metrics and intervals.
            max_history: a model is shown this many of a history's last events. What a user has seen, and is not
                recommended again, is the whole history.

        Raises:
            StageError: the period has no cases.
        """
        self._users = prepared.cases[period].users
        if not len(self._users):
            raise StageError(
                f"the {period} period has no cases: no user has an event in it with another before",
                remedy=f"raise split.{period}_share, lower prepare.min_user_events, or give more data",
            )
        self._settings = settings
        self._item_count = prepared.item_count
        self._seen = prepared.case_histories(period)
        self._histories = prepared.case_histories(period, max_history)
        self._targets = prepared.targets(period)
        self._user_ids = [prepared.user_ids[code] for code in np.unique(self._users)]

    def of(self, model: Recommender) -> Evaluation:
        """Put all cases to `model`.

        Raises:
            ModelError: it was trained on another catalogue, or gives scores that are not numbers.
        """
        if model.catalogue_size != self._item_count:
            raise ModelError(
                f"{model.name} was trained on {model.catalogue_size} items, but the data has {self._item_count}",
                remedy="`dvc repro` trains it on this data",
            )
        ranking = rank(
            model,
            self._histories,
            self._users,
            targets=self._targets,
            k=max(self._settings.k),
            exclude_seen=self._settings.exclude_seen,
            seen=self._seen,
        )
        metrics = case_metrics(ranking.ranks, self._settings.k)
        return Evaluation(
            user_ids=self._user_ids,
            cases=len(self._users),
            per_user={name: user_means(values, self._users) for name, values in metrics.items()},
            coverage={f"coverage_at_{k}": coverage(ranking.lists, k, model.catalogue_size) for k in self._settings.k},
            settings=self._settings,
        )


def evaluate(
    model: Recommender, prepared: Prepared, period: Period, settings: Evaluate, max_history: int
) -> Evaluation:
    """Judge `model` on all cases of `period`, each over the whole catalogue.

    Raises:
        StageError: the period has no cases.
        ModelError: the model was trained on another catalogue, or gives scores that are not numbers.
    """
    return Examination(prepared, period, settings, max_history).of(model)
