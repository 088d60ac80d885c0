"""Writing a training to MLflow while it runs, without letting the training depend on MLflow."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, Self

from recloop.errors import RegistryError
from recloop.files import sha256
from recloop.project import Project
from recloop.registry.runs import Run, log_training, start_run
from recloop.registry.tracking import open_tracking

Warn = Callable[[str], None]


def warn(text: str) -> None:
    """Say it where a person and the flow's log see it."""
    print(f"recloop: warning: {text}", file=sys.stderr, flush=True)


def attempt(act: Callable[[], None], *, warn: Warn = warn) -> bool:
    """Do something with MLflow; where that fails, warn and go on: the stage's outputs do not depend on it."""
    try:
        act()
    except RegistryError as error:
        warn(f"this is not logged, but nothing is lost; `recloop promote` logs it later. {error}")
        return False
    return True


class Journal:
    """The run of a training that is going on. After a first failure of MLflow it stays silent.

    Use it as a context: entering starts the run and the sampling of the machine's load; leaving without
    `finish` marks the run as failed.
    """

    def __init__(self, project: Project, model: str, meta: Mapping[str, Any], *, warn: Warn = warn) -> None:
        """
        Args:
            project: the checkout.
            model: which model is trained.
            meta: of the prepared data.
            warn: is told, once, that MLflow does not work.
        """
        self._project, self._model, self._meta = project, model, meta
        self._data = sha256(project.prepared)
        self._warn = warn
        self._run: Run | None = None
        self._works = True
        self._sampling = ExitStack()

    def __enter__(self) -> Self:
        self._attempt(self._open)
        return self

    def __exit__(self, *_: object) -> None:
        if self._run is not None:
            # Where MLflow is down the run stays open there, without the tags by which it would be found.
            with suppress(RegistryError):
                self._sampling.close()
                self._run.end("FAILED")

    def epoch(self, number: int, metrics: Mapping[str, float]) -> None:
        """Log an epoch as it ends."""
        if self._run is not None:
            self._attempt(partial(self._run.log, metrics, number))

    def finish(self) -> None:
        """Log what the stage has written, and end the run."""
        self._attempt(self._finish)

    def _open(self) -> None:
        self._run = start_run(open_tracking(self._project), self._project, self._model)
        self._run.dataset(self._project, self._data, self._meta)
        self._sampling.enter_context(self._run.system_metrics())

    def _finish(self) -> None:
        if self._run is not None:
            self._sampling.close()
            log_training(self._run, self._project, self._model, self._data)
            self._run = None

    def _attempt(self, act: Callable[[], None]) -> None:
        if self._works:
            self._works = attempt(act, warn=self._warn)
