"""How a model did on a period: one number a user and metric, then means with intervals over users."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recloop.config import Evaluate
from recloop.evaluation.bootstrap import Interval, intervals
from recloop.evaluation.segments import Segment
from recloop.files import read_json, replacing, write_json


@dataclass(frozen=True)
class Evaluation:
    """How a model did on a period."""

    user_ids: list[str]
    """Users that have cases, by ascending code"""
    cases: int
    per_user: dict[str, np.ndarray]
    """`ndcg_at_10` and the like → float64 [users]: the mean over the user's cases"""
    beyond: dict[str, float]
    """`coverage_at_10` and the like → one figure of all lists together"""
    segments: tuple[Segment, ...]
    settings: Evaluate

    @property
    def means(self) -> dict[str, float]:
        """Each metric's mean over users, and what is beyond accuracy."""
        return {name: float(values.mean()) for name, values in self.per_user.items()} | self.beyond

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Each metric's mean over users with its bootstrap interval."""
        return intervals(
            self.per_user,
            samples=self.settings.bootstrap,
            confidence=self.settings.confidence,
            seed=self.settings.seed,
        )

    def save(self, reports: Path, name: str, *, valid: Path) -> None:
        """Write `evaluation/<name>.json` (means and intervals, of segments too), `users/<name>.parquet` (a row a user)
        and `metrics/<name>.json` (the figures to compare at a glance).

        Args:
            valid: the report of the training, which has the validation metrics.

        Raises:
            StageError: that report is missing or damaged.
        """
        training = read_json(valid, remedy=f"`dvc repro train@{name}` writes it")
        table = pa.table({"user_id": pa.array(self.user_ids, pa.string())} | self.per_user)
        with replacing(reports / "users" / f"{name}.parquet") as part:
            pq.write_table(table, part, compression="zstd")
        content: dict[str, Any] = {"users": len(self.user_ids), "cases": self.cases} | self.beyond
        content |= {metric: found.to_json() for metric, found in self.intervals.items()}
        content["segments"] = [segment.to_json(self.settings) for segment in self.segments]
        write_json(reports / "evaluation" / f"{name}.json", content)
        means = {metric: self.means[metric] for metric in ("ndcg_at_10", "recall_at_10", "coverage_at_10")}
        glance = {"valid_ndcg_at_10": training["valid"]["ndcg_at_10"]} | means
        write_json(reports / "metrics" / f"{name}.json", glance)

    def __str__(self) -> str:
        return (
            f"NDCG@10 {self.intervals['ndcg_at_10']}, Recall@10 {self.intervals['recall_at_10']}, "
            f"coverage@10 {self.beyond['coverage_at_10']:.1%}; {self.cases:,} cases of {len(self.user_ids):,} users"
        )
