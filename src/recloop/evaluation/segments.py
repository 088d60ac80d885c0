"""For whom, and for what, a model is good: the same metrics for parts of the users and of the right answers.

user_history  cold, warm: users with few or many events before the first that is to be predicted
target        head: the most popular items, that together make up a share of the training events (with a half, Celma's
              N50: Music Recommendation and Discovery in the Long Tail, 2008); tail: the others that were trained on;
              cold: items without a training event
a column      groups of users, by an attribute of theirs; users without it are in none

A target belongs to one part of each. Where several targets are sought together, those of other parts are no right
answers for the part: it is as if the rest had not happened. A part without targets is absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recloop.config import Evaluate
from recloop.data.prepared import REMEDY
from recloop.errors import ConfigError, StageError
from recloop.evaluation.bootstrap import intervals
from recloop.evaluation.metrics import case_metrics, user_means
from recloop.evaluation.questions import Questions


@dataclass(frozen=True)
class Segment:
    """How a model did on a part of the targets."""

    by: str
    """`user_history`, `target`, or the column that users are grouped by"""
    name: str
    cases: int
    per_user: dict[str, np.ndarray]
    """`ndcg_at_10` and the like → float64 [users of the segment]"""

    def to_json(self, settings: Evaluate) -> dict[str, Any]:
        """For a report: what it is, and the mean of each metric with its interval."""
        users = len(next(iter(self.per_user.values())))
        found = intervals(self.per_user, samples=settings.bootstrap, confidence=settings.confidence, seed=settings.seed)
        facts = {"by": self.by, "name": self.name, "users": users, "cases": self.cases}
        return facts | {metric: each.to_json() for metric, each in found.items()}


def segments(
    questions: Questions,
    ranks: np.ndarray,
    train_counts: np.ndarray,
    settings: Evaluate,
    groups: Sequence[str | None] | None = None,
) -> tuple[Segment, ...]:
    """The metrics of every segment that is not empty.

    Args:
        questions: what was asked.
        ranks: int64 [targets]
        train_counts: int64 [items]
        settings: metrics, and where the segments' borders are.
        groups: row = user code: the group of each user, by `settings.group_by`.
    """
    items = questions.targets.values
    kinds = target_kinds(train_counts, settings.head_share)[items]
    marks = [("target", kind, kinds == kind) for kind in ("head", "tail", "cold")]
    rows = np.repeat(np.arange(len(questions)), np.diff(questions.targets.offsets))
    warm = (_first_histories(questions) >= settings.warm_from)[rows]
    marks += [("user_history", "cold", ~warm), ("user_history", "warm", warm)]
    if settings.group_by is not None and groups is not None:
        names = np.array([groups[user] for user in questions.users], object)[rows]
        known = sorted({name for name in groups if name is not None})
        marks += [(settings.group_by, name, names == name) for name in known]
    return tuple(_segment(*mark, questions, ranks, settings) for mark in marks if mark[2].any())


def target_kinds(train_counts: np.ndarray, head_share: float) -> np.ndarray:
    """str [items]: `head`, `tail` or `cold`. Of equally popular items the lower code counts as the more popular."""
    order = np.argsort(-train_counts, kind="stable")
    before = np.cumsum(train_counts[order]) - train_counts[order]
    kinds = np.where(train_counts > 0, "tail", "cold")
    head = order[before < head_share * train_counts.sum()]
    kinds[head] = "head"
    return kinds


def user_groups(prepared: Path, column: str) -> list[str | None]:
    """The attribute `column` of each user, as text; row = user code.

    Args:
        prepared: the folder of the prepared data.
        column: of its `users.parquet`.

    Raises:
        ConfigError: users have no such attribute.
        StageError: the file is missing or damaged.
    """
    path = prepared / "users.parquet"
    try:
        known = [name for name in pq.read_schema(path).names if name not in ("user_id", "start", "end")]
        if column not in known:
            raise ConfigError(
                f"evaluate.group_by: users have no attribute {column!r}",
                remedy=f"they have: {', '.join(known)}" if known else "they have none: set evaluate.group_by to null",
            )
        values = pq.read_table(path, columns=[column])[column].to_pylist()
    except FileNotFoundError as error:
        raise StageError(f"{path} is missing", remedy=REMEDY) from error
    except (pa.ArrowException, OSError) as error:
        raise StageError(f"{path} is damaged: {error}", remedy=REMEDY) from error
    return [None if value is None else str(value) for value in values]


def _first_histories(questions: Questions) -> np.ndarray:
    """int64 [questions]: how many events its user has before the first question."""
    _, first, row = np.unique(questions.users, return_index=True, return_inverse=True)
    lengths: np.ndarray = np.diff(questions.seen.offsets)[first][row]
    return lengths


def _segment(
    by: str, name: str, kept: np.ndarray, questions: Questions, ranks: np.ndarray, settings: Evaluate
) -> Segment:
    """`kept`: bool [targets]"""
    before = np.concatenate([[0], np.cumsum(kept)])[questions.targets.offsets]
    asked = np.diff(before) > 0
    offsets = np.concatenate([[0], before[1:][asked]])
    metrics = case_metrics(ranks[kept], settings.k, offsets)
    users = questions.users[asked]
    return Segment(by, name, len(users), {metric: user_means(each, users) for metric, each in metrics.items()})
