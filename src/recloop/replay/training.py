"""Trainings, by the pipeline's own functions: prepare, train, package. What was trained once is not trained again.

A training follows from its data, its settings, its seed and the champion that it begins from alone. So policies that
train at the same moment get the same model, where they begin from nothing or have trained alike so far; each of them
is charged for the seconds that it took. No test period is needed, for the next window is one: of the split only the
share that an epoch is chosen by is left out of what is learnt.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from recloop.config import Params
from recloop.data.prepare import prepare
from recloop.data.prepared import Prepared
from recloop.files import write_json
from recloop.pipeline.champion import copy_champion
from recloop.project import Project
from recloop.registry.package import build_package
from recloop.replay.log import Log
from recloop.training import fit, save_fit

LEAST_TEST = 0.001
"""Preparation wants a test period; this share of the events is the least that it is sure to find one in."""


@dataclass(frozen=True)
class Scratch(Project):
    """A project without files of settings, whose database is its own, whatever `$RECLOOP_DATABASE_URL` says."""

    given: Params

    @property
    def params(self) -> Params:
        return self.given

    @property
    def database_url(self) -> str:
        self.var.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{self.var / 'recloop.db'}"


@dataclass(frozen=True)
class Trained:
    """A version that is ready to be served."""

    chain: tuple[int, ...]
    """How many events it knows, at the end; before them, those that the versions knew which it began from"""
    package: Path
    gated: Path
    """What it learnt from"""
    seconds: float
    """Of the processor, for preparation, training and packaging: other work on the machine does not count"""

    @property
    def events(self) -> int:
        """It knows the first so many events."""
        return self.chain[-1]


class Trainer:
    """Trains one model of the zoo on the log up to a row.

    Args:
        log: what is played.
        params: of the project.
        model: a name of the zoo.
        folder: of its own; grows by a package a training.
    """

    def __init__(self, log: Log, params: Params, model: str, folder: Path) -> None:
        temporal = params.split.kind == "temporal"
        split = params.split.model_copy(update={"test_share": LEAST_TEST} if temporal else {})
        self._log, self._model, self._folder = log, model, folder
        self._params = params.model_copy(update={"split": split})
        self._trained: dict[tuple[int, ...], Trained] = {}

    def at(self, events: int, champion: Trained | None = None) -> Trained:
        """The model of the first `events` events.

        Args:
            events: how many.
            champion: whose weights it begins from, where they fit; None: from nothing.

        Raises:
            ConfigError: params.yaml has no such model, or a setting of it is wrong.
            StageError: there is too little to learn from.
            ModelError: the training failed.
        """
        chain = (*(() if champion is None else champion.chain), events)
        if chain not in self._trained:
            self._trained[chain] = self._train(chain, champion)
        return self._trained[chain]

    def _train(self, chain: tuple[int, ...], champion: Trained | None) -> Trained:
        params, name = self._params, self._model
        project = Scratch(self._folder / str(len(self._trained)), params)
        self._write_gated(project.gated, chain[-1])
        begun = time.process_time()
        if champion is not None:
            copy_champion(champion.package, project.warm)
        prepare(project.gated, project.prepared, params.prepare, params.split)
        learnt = fit(
            name,
            Prepared.load(project.prepared),
            params.train,
            params.evaluate,
            params.models[name],
            progress=False,
            champion=None if champion is None else project.warm,
        )
        save_fit(learnt, project.model(name), project.reports, name)
        write_json(project.reports / "evaluation" / f"{name}.json", {})  # the next window judges
        package = build_package(project, name, project.root / "package").folder
        seconds = time.process_time() - begun
        shutil.rmtree(project.prepared)
        return Trained(chain, package, project.gated, seconds)

    def _write_gated(self, folder: Path, events: int) -> None:
        """As the gate would leave them, after a snapshot of the endpoint's events."""
        folder.mkdir(parents=True)
        known = self._log.interactions.slice(0, events)
        known = known.append_column("feedback_seq", self._log.feedback_seq(events))
        pq.write_table(known, folder / "interactions.parquet", compression="zstd")
        for name in ("items.parquet", "users.parquet"):
            shutil.copyfile(self._log.gated / name, folder / name)
