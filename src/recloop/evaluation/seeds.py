"""One model trained with several seeds, judged on the same users: how much is the model, how much the seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recloop.errors import StageError
from recloop.evaluation.bootstrap import Interval, intervals
from recloop.evaluation.evaluation import Evaluation


@dataclass(frozen=True)
class OverSeeds:
    """A metric of several trainings."""

    interval: Interval
    """The mean over users and seeds; users are drawn again, each with its mean over the seeds"""
    between: float
    """Standard deviation of the seeds' means over users, one degree of freedom less"""


def over_seeds(evaluations: Sequence[Evaluation]) -> dict[str, OverSeeds]:
    """Each metric of evaluations that differ in the training's seed.

    Raises:
        StageError: there are fewer than two, or they are not of the same users.
    """
    if len(evaluations) < 2:
        raise StageError("between seeds there is nothing to see with fewer than two", remedy="train with another seed")
    first = evaluations[0]
    if any(other.user_ids != first.user_ids for other in evaluations):
        raise StageError("the seeds were judged on different users", remedy="evaluate all of them on the same data")
    settings = first.settings
    # A row a seed, a column a user.
    values = {name: np.stack([each.per_user[name] for each in evaluations]) for name in first.per_user}
    found = intervals(
        {name: each.mean(0) for name, each in values.items()},
        samples=settings.bootstrap,
        confidence=settings.confidence,
        seed=settings.seed,
    )
    return {name: OverSeeds(found[name], float(each.mean(1).std(ddof=1))) for name, each in values.items()}
