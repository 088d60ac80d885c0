"""A search for better settings in MLflow: a run for the study, and a run below it for each trial."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from recloop.errors import RegistryError
from recloop.project import Project
from recloop.registry.journal import warn
from recloop.registry.locks import held
from recloop.registry.provenance import Provenance
from recloop.registry.runs import PROCESS, Run, Status, end_abandoned
from recloop.registry.tracking import Tracking, open_tracking, speaking

Warn = Callable[[str], None]

STUDY = "recloop.study"
"""The tag that says which study a run is of."""
OUTCOME = "recloop.outcome"
"""complete, pruned or failed"""
PARENT = "mlflow.parentRunId"


@dataclass(frozen=True)
class Subject:
    """What the study's run says of it."""

    study: str
    model: str
    settings: Mapping[str, Any]
    """The search space and what is fixed, nested"""
    data_sha256: str
    meta: Mapping[str, Any]
    """Of the prepared data"""


class StudyJournal:
    """The runs of a study, as one worker writes them; a context. After a first failure of MLflow it stays silent."""

    def __init__(self, project: Project, subject: Subject, *, warn: Warn = warn) -> None:
        self._project, self._subject, self._warn = project, subject, warn
        self._tracking: Tracking | None = None
        self._parent: Run | None = None
        self._works = True

    def __enter__(self) -> Self:
        self.attempt(self._open)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        status: Status = "FAILED" if kind else "FINISHED"
        if self._parent is not None:
            parent = self._parent
            self.attempt(lambda: parent.end(status))

    @contextmanager
    def trial(self, number: int, settings: Mapping[str, Any]) -> Iterator[TrialJournal]:
        """The run of a trial. It is a failed one if an exception leaves the context."""
        journal = TrialJournal(self, number)
        self.attempt(lambda: journal.open(self._tracking, self._parent, self._subject, settings))
        try:
            yield journal
        except BaseException:
            journal.end("failed")
            raise

    def best(self, number: int, ndcg_at_10: float, settings: Mapping[str, Any]) -> None:
        """Say which trial is the best so far."""
        if self._parent is not None:
            parent = self._parent
            tags = {"recloop.best_trial": str(number)}
            tags |= {f"recloop.best.{name}": str(value) for name, value in settings.items()}
            self.attempt(lambda: parent.log({"ndcg_at_10": ndcg_at_10}, number))
            self.attempt(lambda: parent.tag(tags))

    def attempt(self, act: Callable[[], None]) -> None:
        """Do something with MLflow; the search does not depend on it."""
        if not self._works:
            return
        try:
            act()
        except RegistryError as error:
            self._works = False
            self._warn(f"from here on nothing is written to MLflow; the study itself is in the database. {error}")

    def _open(self) -> None:
        tracking = open_tracking(self._project)
        end_abandoned(tracking)
        with held(self._project.var / ".tuning.lock"):  # workers of one checkout begin at once
            self._parent = self._found(tracking) or self._made(tracking)
        self._tracking = tracking

    def _found(self, tracking: Tracking) -> Run | None:
        query = f"tags.`{STUDY}` = '{self._subject.study}' and tags.`recloop.stage` = 'tune'"
        with speaking(tracking.url):
            found = tracking.client.search_runs(
                [tracking.experiment_id], query, max_results=1, order_by=["attributes.start_time ASC"]
            )
            if not found:
                return None
            tracking.client.update_run(found[0].info.run_id, status="RUNNING")
        run = Run(tracking, found[0].info.run_id)
        run.tag({PROCESS: _process()})
        return run

    def _made(self, tracking: Tracking) -> Run:
        subject = self._subject
        tags = {"recloop.stage": "tune", "recloop.model": subject.model, STUDY: subject.study, PROCESS: _process()}
        tags |= Provenance.of(self._project.root).tags()
        with speaking(tracking.url):
            made = tracking.client.create_run(tracking.experiment_id, tags=tags, run_name=f"tune {subject.model}")
        run = Run(tracking, made.info.run_id)
        run.params(subject.settings)
        if subject.meta:
            run.dataset(self._project, subject.data_sha256, subject.meta)
        return run


class TrialJournal:
    """The run of one trial."""

    def __init__(self, study: StudyJournal, number: int) -> None:
        self._study, self._number = study, number
        self._run: Run | None = None

    def open(
        self, tracking: Tracking | None, parent: Run | None, subject: Subject, settings: Mapping[str, Any]
    ) -> None:
        """Start it, below the study's."""
        if tracking is None or parent is None:
            return
        tags = {
            PARENT: parent.run_id,
            "recloop.stage": "trial",
            "recloop.model": subject.model,
            "recloop.trial": str(self._number),
            STUDY: subject.study,
            PROCESS: _process(),
        }
        with speaking(tracking.url):
            made = tracking.client.create_run(tracking.experiment_id, tags=tags, run_name=f"trial {self._number}")
        self._run = Run(tracking, made.info.run_id)
        self._run.params(settings)

    def epoch(self, number: int, metrics: Mapping[str, float]) -> None:
        """Log an epoch as it ends."""
        if self._run is not None:
            run = self._run
            self._study.attempt(lambda: run.log(metrics, number))

    def end(self, outcome: str, ndcg_at_10: float | None = None) -> None:
        """Say how it came out; the first word counts."""
        if self._run is None:
            return
        run, self._run = self._run, None
        self._study.attempt(lambda: run.tag({OUTCOME: outcome}))
        if ndcg_at_10 is not None:
            self._study.attempt(lambda: run.log({"best.ndcg_at_10": ndcg_at_10}))
        self._study.attempt(lambda: run.end("FAILED" if outcome == "failed" else "FINISHED"))


def _process() -> str:
    return f"{os.getpid()} on {platform.node()}"
