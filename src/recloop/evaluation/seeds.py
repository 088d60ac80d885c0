"""One model trained with several seeds, judged on the same users: how much is the model, how much the seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recloop.config import Evaluate
from recloop.errors import StageError
from recloop.evaluation.bootstrap import Interval, intervals


@dataclass(frozen=True)
class OverSeeds:
    """A metric of several trainings."""

    interval: Interval
    """The mean over users and seeds; users are drawn again, each with its mean over the seeds"""
    between: float
    """Standard deviation of the seeds' means over users, one degree of freedom less; 0 for one seed"""


def over_seeds(per_user: Sequence[Mapping[str, np.ndarray]], settings: Evaluate) -> dict[str, OverSeeds]:
    """Each metric of trainings that differ in their seed.

    Args:
        per_user: of each seed, metric → float64 [users], the same users in the same order (`Evaluation.per_user`).
        settings: how the bootstrap draws.

    Raises:
        StageError: there is none, or they are not of as many users.
    """
    if not per_user or len({len(values) for each in per_user for values in each.values()}) != 1:
        raise StageError("the seeds were judged on different users", remedy="evaluate all of them on the same data")
    # A row a seed, a column a user.
    values = {name: np.stack([each[name] for each in per_user]) for name in per_user[0]}
    found = intervals(
        {name: each.mean(0) for name, each in values.items()},
        samples=settings.bootstrap,
        confidence=settings.confidence,
        seed=settings.seed,
    )
    more = min(1, len(per_user) - 1)
    return {name: OverSeeds(found[name], float(each.mean(1).std(ddof=more))) for name, each in values.items()}
