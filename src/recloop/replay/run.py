"""The replay: all policies side by side, window by window, over the same events and with the same model of the zoo.

What users do does not depend on what they were shown, for it is on record. So policies that have the same version
live get the same lists, which are made once; and a version goes live where its window ends, as if no time passed
while it was trained.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from recloop.config import Monitoring, Params
from recloop.errors import ConfigError, did_you_mean
from recloop.models.base import Learner
from recloop.models.catalogue import model_class
from recloop.replay.endpoint import InProcess, Listed
from recloop.replay.figures import Course, ReplayReport, Retraining, discounted, facts
from recloop.replay.log import Log, Played
from recloop.replay.monitored import Platform, Reasons
from recloop.replay.policies import MONITORED, POLICIES, WARM, Evidence, rows
from recloop.replay.training import Trained, Trainer
from recloop.serving.endpoint import HOUR_US
from recloop.serving.engine import Engine

Say = Callable[[str], None]


@dataclass
class _Run:
    """One policy on its way."""

    name: str
    seed: int
    live: Trained
    platform: Platform | None = None
    """Where the monitor looks; None: the policy does not ask it"""
    asked_at: int | None = None
    """When it trained last, in µs since 1970"""
    places: list[int] = field(default_factory=list)
    retrainings: list[Retraining] = field(default_factory=list)

    @property
    def policy(self) -> str:
        return self.name.removesuffix(WARM)

    def course(self) -> Course:
        places = np.array(self.places)
        return Course(discounted(places), (places > 0).astype(float), self.retrainings)


def replay(
    log: Log,
    params: Params,
    model: str,
    folder: Path,
    *,
    policies: Collection[str] = (),
    seeds: Sequence[int] = (),
    say: Say = print,
) -> ReplayReport:
    """Play `log` under every policy asked for, and under the two that others are measured by.

    Args:
        log: what is played.
        params: of the project; `monitoring.window_hours` is each window's own length.
        model: a name of the zoo.
        folder: an empty one, for packages, databases and reports; nobody needs it afterwards.
        policies: names; all of them where none is named. With `train.warm_start`, or with WARM behind its name, a
            policy's trainings begin from what is live, where the model learns by gradients.
        seeds: of the trainings: it is played once with each; that of `params` where none is named.
        say: is told how it goes, a line a window.

    Raises:
        ConfigError: there is no such policy, or no such model.
        StageError: there is too little to learn from.
        ModelError: a training failed.
    """
    if model not in params.models:
        raise ConfigError(
            f"params.yaml has no section models.{model}{did_you_mean(model, params.models)}",
            remedy=f"there are: {', '.join(sorted(params.models))}",
        )
    wanted = rows(policies, warm=params.train.warm_start and issubclass(model_class(model), Learner))
    plays = [_play(log, params, model, folder / str(seed), wanted, seed, say) for seed in seeds or (params.train.seed,)]
    courses = {name: Course.mean([play.courses[name] for play in plays]) for name in wanted}
    start = log.bounds[0]
    users = pc.dictionary_encode(log.interactions["user_id"].slice(start)).combine_chunks().indices.to_numpy()
    return ReplayReport(
        model=model,
        seeds=[play.seed for play in plays],
        events=len(users),
        learnt=start,
        users=int(users.max()) + 1,
        new_user_share=_unknown(log, "user_id"),
        new_item_share=_unknown(log, "item_id"),
        windows=[_spoken(at) for at in (*log.times[list(log.bounds[:-1])].tolist(), int(log.times[-1]))],
        events_by_window=np.diff(log.bounds).tolist(),
        seconds_by_window=np.mean([play.seconds for play in plays], axis=0).round(2).tolist(),
        first_training_seconds=float(np.mean([play.first_training_seconds for play in plays])),
        policies=facts(courses, users, [at - start for at in log.bounds], seeds=len(plays)),
    )


@dataclass(frozen=True)
class _Play:
    """What came of one seed."""

    seed: int
    courses: dict[str, Course]
    seconds: list[float]
    """By window"""
    first_training_seconds: float


def _play(log: Log, params: Params, model: str, folder: Path, policies: Sequence[str], seed: int, say: Say) -> _Play:
    params = params.model_copy(update={"train": params.train.model_copy(update={"seed": seed})})
    trainer = Trainer(log, params, model, folder / "trainings")
    start = log.bounds[0]
    first = trainer.at(start)
    say(f"seed {seed}, the first version: {start:,} events, {first.seconds:.1f} s")
    runs = []
    for name in policies:
        run = _Run(name, seed, first)
        if run.policy in MONITORED:
            run.platform = Platform(folder / "policies" / name.replace(" ", "-"), params)
            run.platform.deploy(first, int(log.times[start]), "the first one")
        runs.append(run)
    endpoint = InProcess(params.serving, int(log.times[start]))
    engines: dict[tuple[int, ...], Engine] = {}
    seconds = []
    for number in range(log.windows):
        begun = time.perf_counter()
        played = log.window(number)
        engines = {run.live.chain: engines.get(run.live.chain) or Engine.load(run.live.package) for run in runs}
        lists = endpoint.play(played, engines)
        seen = [_seen(run, log, number, played, lists[run.live.chain], params.monitoring) for run in runs]
        seconds.append(time.perf_counter() - begun)
        last = number == log.windows - 1
        for run, evidence in zip(runs, seen, strict=True):
            reason = None if last else POLICIES[run.policy](evidence)  # after the last window nobody would be asked
            if reason is not None:
                _retrain(run, trainer, log, number, reason)
        say(_line(number, log, runs, seconds[-1]))
    return _Play(seed, {run.name: run.course() for run in runs}, seconds, first.seconds)


def _seen(
    run: _Run, log: Log, number: int, played: Sequence[Played], lists: Sequence[Listed], policy: Monitoring
) -> Evidence:
    """Take a window in."""
    places = [listed.place(event.item_id) for event, listed in zip(played, lists, strict=True)]
    run.places += places
    end = log.end_of(number)
    reasons = Reasons()
    if run.platform is not None:
        run.platform.store(played, lists)
        reasons = run.platform.judged(played[0].at, end)
    return Evidence(
        learnt=run.live.events,
        new=log.bounds[number + 1] - run.live.events,
        enough=policy.new_data,
        cooling=run.asked_at is not None and end - run.asked_at < policy.cooldown_hours * HOUR_US,
        drifted=reasons.drifted,
        fallen=reasons.fallen,
    )


def _retrain(run: _Run, trainer: Trainer, log: Log, number: int, reason: str) -> None:
    """Train on all that has come in, and have that version answer from the next window on."""
    run.live = trainer.at(log.bounds[number + 1], run.live if run.name.endswith(WARM) else None)
    run.asked_at = log.end_of(number)
    if run.platform is not None:
        run.platform.deploy(run.live, run.asked_at, reason)
    run.retrainings.append(
        Retraining(
            seed=run.seed,
            after_window=number + 1,
            events=run.live.events,
            seconds=run.live.seconds,
            reason=reason,
        )
    )


def _line(number: int, log: Log, runs: Sequence[_Run], seconds: float) -> str:
    events = log.bounds[number + 1] - log.bounds[number]
    figures = ", ".join(
        f"{run.name} {discounted(np.array(run.places[-events:])).mean():.4f}"
        f"{'*' * (run.live.events == log.bounds[number + 1])}"
        for run in runs
    )
    return f"window {number + 1} of {log.windows}, {seconds:.1f} s: NDCG@10 {figures} (*: then trained)"


def _unknown(log: Log, column: str) -> float:
    start = log.bounds[0]
    known = log.interactions[column].slice(0, start)
    return 1 - float(pc.mean(pc.is_in(log.interactions[column].slice(start), value_set=known)).as_py())


def _spoken(at: int) -> str:
    return datetime.fromtimestamp(at / 1e6, UTC).isoformat(timespec="seconds")
