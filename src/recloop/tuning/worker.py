"""One worker of a study: it trains trial after trial until the study has as many as it is to have."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from functools import partial

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial
from pydantic import JsonValue
from sqlalchemy.exc import SQLAlchemyError

from recloop.data.prepared import Prepared
from recloop.errors import ModelError
from recloop.registry.trials import StudyJournal, TrialJournal
from recloop.training import fit
from recloop.tuning.outcome import best_of, present_of
from recloop.tuning.space import Settings, Space
from recloop.tuning.study import Tried, enqueue, requeue, tried

Say = Callable[[str], None]


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


class Worker:
    """Tries settings of a model, and keeps what came of them in the study."""

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        prepared: Prepared,
        journal: StudyJournal,
        *,
        trials: int,
        timeout: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        say: Say = say,
    ) -> None:
        """
        Args:
            study: shared with other workers.
            space: what is searched.
            prepared: the data. Its test period is not looked at.
            journal: MLflow.
            trials: of the study in all, whoever does them.
            timeout: after so many seconds no other trial is begun.
            clock: seconds.
            say: is told of each trial.
        """
        self._study, self._space, self._prepared, self._journal = study, space, prepared, journal
        self._trials = trials
        self._clock = clock
        self._end = None if timeout is None else clock() + timeout
        self._say = say
        self._current: int | None = None
        self._lost = False

    def run(self) -> None:
        """Go on until the study is done, or time is up.

        Raises:
            StageError: there is nothing to learn from, or nothing to choose on.
        """
        while self._goes_on():
            try:
                self._study.optimize(self._try, n_trials=1, catch=(ModelError,), callbacks=[self._tell])
            except (UpdateFinishedTrialError, ValueError):
                if not self._lost:
                    raise
                self._lost = False
                self._say(f"trial {self._current}: given to another worker, since this one gave no sign of life")
            except (StorageInternalError, SQLAlchemyError):
                raise
            except BaseException:
                if self._current is not None:
                    requeue(self._study, self._current)
                raise

    def _goes_on(self) -> bool:
        if self._end is not None and self._clock() >= self._end:
            return False
        found = tried(self._study)
        if sum(each.done for each in found) < self._trials:
            return True
        if present_of(found, self._space.present) is None:  # who had it was killed, or is not ready yet
            enqueue(self._study, self._space)
            return True
        return False

    def _try(self, trial: optuna.Trial) -> float:
        self._current = trial.number
        try:
            settings = self._space.sample(trial)
            trial.set_user_attr("settings", dict(settings))
            with self._journal.trial(trial.number, settings) as run:
                try:
                    value = self._known(settings)
                    if value is None:
                        value = self._train(trial, run, settings)
                except optuna.TrialPruned:
                    run.end("pruned")
                    raise
                except ModelError as error:
                    trial.set_user_attr("failed", error.message)
                    raise
                trial.set_user_attr("done", True)  # refused where another worker has got the trial meanwhile
                run.end("complete", value)
        except UpdateFinishedTrialError:
            self._lost = True
            raise
        return value

    def _known(self, settings: Settings) -> float | None:
        """What came of the same settings before: a training gives the same again."""
        for each in tried(self._study):
            if each.state == "complete" and each.settings == settings:
                return each.ndcg_at_10
        return None

    def _train(self, trial: optuna.Trial, run: TrialJournal, settings: Mapping[str, JsonValue]) -> float:
        params = self._space.params
        result = fit(
            self._space.name,
            self._prepared,
            params.train,
            params.evaluate,
            self._space.accepted(settings),
            on_epoch=partial(self._epoch, trial, run, settings == self._space.present),
            progress=False,
            warn=self._say,
        )
        return result.best.ndcg_at_10

    def _epoch(
        self, trial: optuna.Trial, run: TrialJournal, keep: bool, number: int, metrics: Mapping[str, float]
    ) -> None:
        run.epoch(number, metrics)
        trial.report(metrics["ndcg_at_10"], number)
        if not keep and trial.should_prune():
            raise optuna.TrialPruned

    def _tell(self, study: optuna.Study, trial: FrozenTrial) -> None:
        this, found = Tried.of(trial), tried(study)
        best = best_of(found)
        done = sum(each.done for each in found)
        line = f"trial {this.number} ({done} of {self._trials}): "
        if this.state == "failed":
            line += f"failed: {this.why}"
        else:
            pruned = f"pruned after epoch {this.epochs}, " if this.state == "pruned" else ""
            line += f"{pruned}NDCG@10 {this.ndcg_at_10:.4f}"
        if best is not None and best.ndcg_at_10 is not None:
            line += ", the best yet" if best.number == this.number else f", best {best.ndcg_at_10:.4f}"
            if best.number == this.number:
                self._journal.best(best.number, best.ndcg_at_10, best.settings)
        shown = ", ".join(f"{name} {value}" for name, value in this.settings.items())
        self._say(f"{line}; {shown}; {this.seconds:.0f} s")
