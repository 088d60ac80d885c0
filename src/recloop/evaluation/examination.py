"""Putting a period to a model: prepared once, asked as often as wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from recloop.config import Evaluate
from recloop.data.prepared import Period, Prepared
from recloop.errors import ModelError, StageError
from recloop.evaluation.metrics import case_metrics, user_means
from recloop.evaluation.questions import Questions
from recloop.evaluation.ranking import Ranking, rank

if TYPE_CHECKING:
    from recloop.evaluation.evaluation import Evaluation
    from recloop.models.base import Recommender


class Examination:
    """The questions of a period, made ready once to be put to a model many times."""

    def __init__(
        self,
        prepared: Prepared,
        period: Period,
        settings: Evaluate,
        max_history: int,
        *,
        share: tuple[int, int] = (0, 1),
        groups: Sequence[str | None] | None = None,
    ) -> None:
        """
        Args:
            prepared: the data.
            period: `valid` or `test`.
            settings: metrics, segments and intervals.
            max_history: a model is shown this many of a history's last events. What a user has seen, and is not
                recommended again, is the whole history.
            share: (rank, world): only every `world`-th user from the `rank`-th on, where many processes share a period.
            groups: row = user code: each user's group, where `settings.group_by` names one (`segments.user_groups`).

        Raises:
            StageError: the period has no cases.
        """
        if not len(prepared.cases[period]):
            raise StageError(
                f"the {period} period has no cases: no user has an event in it with another before",
                remedy=f"raise split.{period}_share, lower prepare.min_user_events, or give more data",
            )
        self._prepared, self._settings, self._groups = prepared, settings, groups
        self._questions = Questions.of(prepared, period, settings.targets, max_history, share)
        self._users = np.unique(self._questions.users)

    @property
    def user_count(self) -> int:
        """Users of the share."""
        return len(self._users)

    def at_a_glance(self, model: Recommender) -> dict[str, float]:
        """The accuracy of `model`: each metric's mean over users, and nothing that needs lists.

        Raises:
            ModelError: it was trained on another catalogue, or gives scores that are not numbers.
        """
        return {name: total / self.user_count for name, total in self.sums(model).items()}

    def sums(self, model: Recommender) -> dict[str, float]:
        """Each accuracy metric, summed over the users of the share. The sums of all shares together, over the
        `user_count` of all together, are the means.

        Raises:
            ModelError: it was trained on another catalogue, or gives scores that are not numbers.
        """
        return {name: float(values.sum()) for name, values in self._per_user(self._rank(model, 0)).items()}

    def of(self, model: Recommender) -> Evaluation:
        """All there is to say about how `model` does.

        Raises:
            ModelError: it was trained on another catalogue, or gives scores that are not numbers.
        """
        from recloop.evaluation.beyond import beyond_accuracy
        from recloop.evaluation.evaluation import Evaluation
        from recloop.evaluation.segments import segments

        ks, questions, prepared = self._settings.k, self._questions, self._prepared
        ranking = self._rank(model, max(ks))
        return Evaluation(
            user_ids=[prepared.user_ids[code] for code in self._users],
            cases=len(questions),
            per_user=self._per_user(ranking),
            beyond=beyond_accuracy(ranking.lists, questions, prepared.item_table, ks),
            segments=segments(questions, ranking.ranks, prepared.train_counts, self._settings, self._groups),
            settings=self._settings,
        )

    def _rank(self, model: Recommender, k: int) -> Ranking:
        if model.catalogue_size != self._prepared.item_count:
            raise ModelError(
                f"{model.name} was trained on {model.catalogue_size} items, "
                f"but the data has {self._prepared.item_count}",
                remedy="`dvc repro` trains it on this data",
            )
        return rank(
            model,
            self._questions.shown,
            self._questions.users,
            targets=self._questions.targets,
            k=k,
            exclude_seen=self._settings.exclude_seen,
            seen=self._questions.seen,
        )

    def _per_user(self, ranking: Ranking) -> dict[str, np.ndarray]:
        metrics = case_metrics(ranking.ranks, self._settings.k, self._questions.targets.offsets)
        return {name: user_means(values, self._questions.users) for name, values in metrics.items()}


def evaluate(
    model: Recommender,
    prepared: Prepared,
    period: Period,
    settings: Evaluate,
    max_history: int,
    *,
    groups: Sequence[str | None] | None = None,
) -> Evaluation:
    """Judge `model` on all cases of `period`, each over the whole catalogue.

    Raises:
        StageError: the period has no cases.
        ModelError: the model was trained on another catalogue, or gives scores that are not numbers.
    """
    return Examination(prepared, period, settings, max_history, groups=groups).of(model)
