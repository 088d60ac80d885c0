"""MLflow runs: one for every training, found again by what it made and what it was made from.

A run's id is in no output of a stage, since that would make every training's output another. The run is found
by its tags instead: the hash of the model's weights and the hash of the prepared data.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recloop.data.prepared import REMEDY
from recloop.errors import StageError
from recloop.files import read_json, sha256
from recloop.pipeline.lock import Locked
from recloop.project import Project
from recloop.registry.provenance import Provenance
from recloop.registry.tracking import Tracking, speaking

Status = Literal["FINISHED", "FAILED"]

SAMPLING_SECONDS = 1.0
"""How often the machine's load is sampled during a training; at least once."""
BATCH = 100
"""Params at once, as many as MLflow takes."""
PROCESS = "recloop.process"
"""The tag that says which process writes a run."""
WARM_START = "recloop.warm_start"
"""The tag of a run that began from a champion: the sha256 of the champion's weights."""
TEST = "test."
"""Metrics of the test period start with this."""


@dataclass(frozen=True)
class Run:
    """One MLflow run, to write to."""

    tracking: Tracking
    run_id: str

    def log(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Metrics at a step; values that are not numbers are left out."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        entries = [Metric(name, float(value), now, step) for name, value in metrics.items() if _is_number(value)]
        with speaking(self.tracking.url):
            self.tracking.client.log_batch(self.run_id, metrics=entries)

    def params(self, values: Mapping[str, Any]) -> None:
        """Nested settings, as `train.lr: 0.001`."""
        from mlflow.entities import Param

        entries = [Param(name, str(value)) for name, value in _flat(values).items()]
        with speaking(self.tracking.url):
            for start in range(0, len(entries), BATCH):
                self.tracking.client.log_batch(self.run_id, params=entries[start : start + BATCH])

    def tag(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        with speaking(self.tracking.url):
            self.tracking.client.log_batch(self.run_id, tags=[RunTag(*pair) for pair in tags.items()])

    def dataset(self, project: Project, data_sha256: str, meta: Mapping[str, Any]) -> None:
        """Say which data it learnt from: the prepared data, by its hash and by DVC's."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        path = project.prepared.relative_to(project.root).as_posix()
        source = {"path": path, "md5": _dvc_md5(project, path)}
        counts = {name: meta[name] for name in ("users", "items", "interactions")}
        dataset = Dataset(
            name=project.params.source.kind,
            digest=data_sha256[:32],  # MLflow takes 36 characters
            source_type="dvc",
            source=json.dumps(source),
            profile=json.dumps(counts),
        )
        with speaking(self.tracking.url):
            self.tracking.client.log_inputs(
                self.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
            )

    def artifacts(self, files: Mapping[Path, str]) -> None:
        """File or folder → the folder among the run's artifacts that it goes to."""
        with speaking(self.tracking.url):
            for path, where in files.items():
                self.tracking.client.log_artifact(self.run_id, str(path), where)

    def end(self, status: Status) -> None:
        with speaking(self.tracking.url):
            self.tracking.client.set_terminated(self.run_id, status)

    @contextmanager
    def system_metrics(self) -> Iterator[None]:
        """Sample the machine's load meanwhile; a last time at the end, so that the shortest training has
        one."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(self.run_id, sampling_interval=SAMPLING_SECONDS, tracking_uri=self.tracking.url)
        monitor.start()
        try:
            yield
        finally:
            with speaking(self.tracking.url):
                monitor.finish()
                monitor.collect_metrics()
                monitor.publish_metrics(monitor.aggregate_metrics())
                monitor.mlflow_logger.flush()


def start_run(tracking: Tracking, project: Project, model: str) -> Run:
    """A new run for the training of `model`, with its settings and the state of the code."""
    end_abandoned(tracking)
    tags = {"recloop.stage": "train", "recloop.model": model, PROCESS: f"{os.getpid()} on {platform.node()}"}
    tags |= Provenance.of(project.root).tags()
    with speaking(tracking.url):
        entity = tracking.client.create_run(tracking.experiment_id, tags=tags, run_name=model)
    run = Run(tracking, entity.info.run_id)
    params = project.params.model_dump(mode="json")
    run.params({name: params[name] for name in ("source", "prepare", "split", "train", "evaluate")})
    run.params({"model": params["models"].get(model, {})})
    return run


def end_abandoned(tracking: Tracking) -> None:
    """Mark runs as killed whose process is gone: a process that is killed cannot say so itself."""
    query = f"attributes.status = 'RUNNING' and tags.`{PROCESS}` LIKE '% on {platform.node()}'"
    with speaking(tracking.url):
        for entity in tracking.client.search_runs([tracking.experiment_id], query):
            if not _is_alive(int(entity.data.tags[PROCESS].split()[0])):
                tracking.client.set_terminated(entity.info.run_id, "KILLED")


def find_run(tracking: Tracking, model_sha256: str, data_sha256: str) -> Run | None:
    """The newest finished run that made these weights from this data."""
    query = (
        f"tags.`recloop.model_sha256` = '{model_sha256}' and tags.`recloop.data_sha256` = '{data_sha256}' "
        "and attributes.status = 'FINISHED'"
    )
    with speaking(tracking.url):
        found = tracking.client.search_runs(
            [tracking.experiment_id], query, max_results=1, order_by=["attributes.start_time DESC"]
        )
    return Run(tracking, found[0].info.run_id) if found else None


def log_training(run: Run, project: Project, model: str, data_sha256: str) -> None:
    """Log what the stage `train` wrote, end the run, and make it one that `find_run` finds."""
    report = project.reports / "training" / f"{model}.json"
    curve = project.reports / "curves" / f"{model}.csv"
    told = read_json(report, remedy=_retrain(model))
    run.log(_numbers(told))
    if "warm_start" in told:
        run.tag({WARM_START: told["warm_start"]["model_sha256"]})
    run.artifacts({project.model(model): "models", report: "training", curve: "curves"})
    weights = project.model(model) / "model.safetensors"
    run.tag({"recloop.model_sha256": sha256(weights), "recloop.data_sha256": data_sha256})
    run.end("FINISHED")


def log_evaluation(run: Run, project: Project, model: str) -> None:
    """Log what the stage `evaluate` wrote: the test metrics, and the report."""
    report = project.reports / "evaluation" / f"{model}.json"
    numbers = _numbers(read_json(report, remedy=f"`dvc repro evaluate@{model}` writes it"))
    # The mean is the metric; its interval stands beside it.
    run.log({f"{TEST}{name.removesuffix('.mean')}": value for name, value in numbers.items()})
    run.artifacts({report: "evaluation"})


def run_of(tracking: Tracking, project: Project, model: str) -> Run | None:
    """The run that made the trained model at hand from the prepared data at hand, if MLflow has it.

    Raises:
        StageError: the model has not been trained.
    """
    weights = project.model(model) / "model.safetensors"
    if not weights.is_file():
        raise StageError(f"{weights} is missing", remedy=_retrain(model))
    return find_run(tracking, sha256(weights), sha256(project.prepared))


def ensure_run(tracking: Tracking, project: Project, model: str) -> Run:
    """The run that made the trained model at hand, its test metrics included; what is missing is made from
    the files.

    There is none where MLflow was down during the training, or where DVC brought the model from its cache or
    from another machine.

    Raises:
        StageError: the model has not been trained, or its reports are missing.
        RegistryError: MLflow does not answer.
    """
    run = run_of(tracking, project, model)
    if run is None:
        data = sha256(project.prepared)
        run = start_run(tracking, project, model)
        run.tag({"recloop.logged": "afterwards, from the files that the training wrote"})
        run.dataset(project, data, read_json(project.prepared / "meta.json", remedy=REMEDY))
        for step, metrics in _curve(project.reports / "curves" / f"{model}.csv"):
            run.log(metrics, step)
        log_training(run, project, model, data)
    with speaking(tracking.url):
        judged = any(name.startswith(TEST) for name in tracking.client.get_run(run.run_id).data.metrics)
    if not judged:
        log_evaluation(run, project, model)
    return run


def _curve(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    except FileNotFoundError as error:
        raise StageError(f"{path} is missing", remedy=_retrain(path.stem)) from error
    for row in rows:
        yield int(row.pop("epoch")), {name: float(value) for name, value in row.items() if value}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _dvc_md5(project: Project, path: str) -> str | None:
    lock = project.root / "dvc.lock"
    return Locked.parse(lock.read_text(encoding="utf-8")).md5_of(path) if lock.is_file() else None


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _numbers(report: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in _flat(report).items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _retrain(model: str) -> str:
    return f"`dvc repro train@{model}` trains it"
