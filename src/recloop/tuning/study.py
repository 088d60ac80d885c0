"""The study in the project's database: opened by one worker at a time, then shared by all of them.

TPE samples (Algorithms for Hyper-Parameter Optimization, Bergstra et al., 2011), and a training is pruned that does
worse than the median of those before it at the same epoch (Google Vizier, Golovin et al., 2017, section 3.2.2).
Hyperband would save more where there are hundreds of trials; but Optuna's collects them by bracket, and TPE begins
to learn in each only after its own start-up trials (docs of `HyperbandPruner`). A study here has some dozens.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from pydantic import JsonValue
from sqlalchemy import Connection, Engine, event, make_url
from sqlalchemy.exc import SQLAlchemyError

from recloop.config import Tune
from recloop.errors import DatabaseError
from recloop.registry.locks import held
from recloop.storage import connect
from recloop.tuning.space import Space

HEARTBEAT = 20
"""Seconds between two signs of life of a worker that trains."""
MISSED = 4
"""After so many signs that did not come, a worker is taken for dead, and its trial is given to another one."""
RETRIES = 2
"""So often: a trial that takes every worker's life with it is left alone."""
COMPARED = 3
"""Trials that must have come to an epoch, for another one to be pruned there."""
SCHEMA = "tuning"
"""Optuna's tables have a schema of their own in PostgreSQL: MLflow's and its `alembic_version` are two."""
LOCK = 7_281_940_166
"""PostgreSQL's advisory lock of those who open a study."""

State = Literal["complete", "pruned", "failed", "interrupted", "running", "waiting"]
KNOWN: tuple[State, ...] = ("complete", "failed", "running", "waiting")
"""What the present values may be in, so that nobody need try them anew: they are never pruned."""


@dataclass(frozen=True)
class Tried:
    """One trial of a study."""

    number: int
    state: State
    """`failed`: the training could not be done; `interrupted`: nothing is known, and it is done again."""
    settings: Mapping[str, JsonValue]
    ndcg_at_10: float | None
    """Of its best epoch so far, on the validation period"""
    epochs: int
    seconds: float
    why: str | None
    """Why it failed"""

    @property
    def done(self) -> bool:
        """Whether it counts as one of the study's trials."""
        return self.state in ("complete", "pruned", "failed")

    @classmethod
    def of(cls, trial: FrozenTrial) -> Tried:
        why = trial.user_attrs.get("failed")
        states: dict[TrialState, State] = {
            TrialState.COMPLETE: "complete",
            TrialState.PRUNED: "pruned",
            TrialState.FAIL: "failed" if why else "interrupted",
            TrialState.RUNNING: "running",
            TrialState.WAITING: "waiting",
        }
        curve = trial.intermediate_values
        best = trial.value if trial.state == TrialState.COMPLETE else max(curve.values(), default=None)
        seconds = trial.duration.total_seconds() if trial.duration else 0.0
        settings = trial.user_attrs.get("settings", {})
        return cls(trial.number, states[trial.state], settings, best, max(curve, default=0), seconds, why)


def tried(study: optuna.Study) -> list[Tried]:
    """All trials, in their order."""
    return [Tried.of(trial) for trial in study.get_trials(deepcopy=False)]


@contextmanager
def opened(url: str, name: str, space: Space, *, seed: int, heartbeat: int = HEARTBEAT) -> Iterator[optuna.Study]:
    """The study `name`, made where there is none; its first trial is to be of the present values.

    Args:
        url: of the project's database.
        name: another name is another study.
        space: what is searched.
        seed: of the first worker; those after it draw from others, or all would try the same.
        heartbeat: seconds between two signs of life.

    Raises:
        DatabaseError: the database does not answer, or holds what another version of Optuna left.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # the worker tells of each trial
    engine = connect(url)
    url = engine.url.render_as_string(hide_password=False)  # with its driver
    try:
        with _speaking(url):
            with _alone(engine):
                study = optuna.create_study(
                    storage=_storage(url, heartbeat),
                    study_name=name,
                    direction="maximize",
                    load_if_exists=True,
                    pruner=_pruner(space.params.tune),
                )
                workers = study.user_attrs.get("workers", 0)
                study.set_user_attr("workers", workers + 1)
                study.sampler = TPESampler(n_startup_trials=space.params.tune.startup_trials, seed=seed + workers)
                if not any(each.settings == space.present and each.state in KNOWN for each in tried(study)):
                    enqueue(study, space)
            yield study
    finally:
        engine.dispose()


def enqueue(study: optuna.Study, space: Space) -> None:
    """Let the present values be tried next, unless they are about to be."""
    present = dict(space.present)
    if not any(each.state == "waiting" and each.settings == present for each in tried(study)):
        study.enqueue_trial(space.encoded(present), user_attrs={"settings": present})


def requeue(study: optuna.Study, number: int) -> None:
    """Let a trial that was interrupted be tried again, by whoever goes on."""
    trial = study.get_trials(deepcopy=True)[number]
    if Tried.of(trial).state == "interrupted":
        _retry(None)(study, trial)


def _pruner(settings: Tune) -> MedianPruner:
    return MedianPruner(
        n_startup_trials=settings.startup_trials,
        n_warmup_steps=settings.min_epochs,
        n_min_trials=min(COMPARED, settings.startup_trials),
    )


def _retry(times: int | None) -> RetryHeartbeatStaleTrialCallback:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return RetryHeartbeatStaleTrialCallback(max_retry=times)


def _storage(url: str, heartbeat: int) -> RDBStorage:
    options: dict[str, Any] = {"pool_pre_ping": True}
    backend = make_url(url).get_backend_name()
    if backend == "postgresql":
        options["connect_args"] = {"options": f"-csearch_path={SCHEMA}"}
    elif backend == "sqlite":
        options["connect_args"] = {"timeout": 30}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            storage = RDBStorage(
                url.replace("{", "{{").replace("}", "}}"),  # Optuna takes it for a template
                engine_kwargs=options,
                heartbeat_interval=heartbeat,
                grace_period=MISSED * heartbeat,
                heartbeat_stale_trial_callback=_retry(RETRIES),
            )
    except RuntimeError as error:  # its tables are of another version
        raise DatabaseError(_shown(url), str(error), remedy="do as it says", transient=False) from error
    if backend == "sqlite":
        # As it comes, SQLite lets two workers read that a trial waits before either takes it.
        event.listen(storage.engine, "connect", _by_hand)
        event.listen(storage.engine, "begin", _take_the_lock)
        storage.engine.dispose()
    return storage


def _by_hand(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous=NORMAL")  # a power cut may cost the last epochs' figures, and nothing else


def _take_the_lock(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """One worker at a time: tables, studies and first trials are looked for before they are made."""
    if engine.dialect.name == "sqlite":
        file = Path(engine.url.database or "")
        with held(file.with_name(f".{file.name}.tuning.lock")):
            yield
    elif engine.dialect.name == "postgresql":
        lock = f"SELECT pg_advisory_xact_lock({LOCK})"
        with engine.begin() as connection:
            connection.exec_driver_sql(lock)
            connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        with engine.begin() as connection:
            connection.exec_driver_sql(lock)
            yield
    else:
        yield


@contextmanager
def _speaking(url: str) -> Iterator[None]:
    """What the database says to Optuna, as an error of ours."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        said = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        remedy = "start it, or mend storage.database_url (or RECLOOP_DATABASE_URL); the same command goes on"
        raise DatabaseError(_shown(url), said, remedy=remedy, transient=True) from error


def _shown(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)
