"""The loop once, with the same deployments, server, endpoint and monitor as in production.

A model is trained on MovieLens-100K's first two months, and goes live. Then the ratings that people really gave
from March on are played as live traffic: there are new films and new users by then. The monitor compares it with
what the model learnt from, its verdict starts a retraining, and the endpoint swaps to the new champion while
requests go on.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from flows.client import Run, Server
from monitoring import verdicts
from monitoring.policy import Signal
from monitoring.verdicts import Verdict
from recloop.config import MovieLens100K, Params
from recloop.data.sources import ingest
from recloop.demo.progress import Steps
from recloop.demo.report import (
    ChampionFacts,
    DemoReport,
    DriftFacts,
    GateFacts,
    ModelFacts,
    RetrainingFacts,
    ServingFacts,
    SignalFacts,
    SwapFacts,
    show,
)
from recloop.demo.traffic import Visit, play, steady_requests, visits_between
from recloop.demo.workspace import make_workspace
from recloop.errors import PlatformError, RecloopError
from recloop.exclusive import Lock
from recloop.files import read_json, write_json
from recloop.models.catalogue import model_config
from recloop.platform import Platform
from recloop.project import Project
from recloop.registry.history import show_history
from recloop.storage import connect

ZOO = ("popularity", "mf", "sasrec")
LEARNT_UNTIL = datetime(1997, 11, 14, tzinfo=UTC)
PLAYED_FROM = datetime(1998, 3, 1, tzinfo=UTC)
VISITS = 22_000
SPOIL_EVERY = 200
"""Every so many events one is broken, as from a client with a bug."""
STEADY_PER_SECOND = 10.0
TASKS = 17
"""Of a training: its stages, and what comes before and after them. Only the bar needs it."""
TRAINING_SECONDS = 900.0
SWAP_SECONDS = 60.0


def run_demo(project: Project) -> None:
    """Run the demo, print its table, and write `reports/demo.json`.

    Raises:
        RecloopError: a part of the loop did not do its job; the message says which and why.
    """
    for name in ("SERVING", "PREFECT", "MLFLOW"):
        os.environ.setdefault(f"RECLOOP_{name}_PORT", "0")  # whatever else runs on this machine
    with Lock(project.var / "demo.lock", "a demo"):
        _run(project, Steps(Console(highlight=False)))


def _run(project: Project, steps: Steps) -> None:
    folder = project.var / "demo"
    with steps.step("a workspace of its own, and the ratings to come"):
        with Platform.lock(Project(folder)):  # somebody may be looking at the last demo
            workspace = make_workspace(project, folder, demo_params())
        visits = visits_between(_all_ratings(project), PLAYED_FROM, VISITS, SPOIL_EVERY)
    with steps.step("the platform: Prefect server, workers, endpoint") as bar:
        platform = Platform(workspace, mlflow=False, schedules=False, say=lambda line: bar.on_task(line.strip(), ""))
        platform.__enter__()
    try:
        report = _loop(workspace, platform, visits, steps)
    finally:
        with steps.step("everything stopped"):
            platform.__exit__(None, None, None)
    write_json(project.reports / "demo.json", report.model_dump(mode="json", by_alias=True))
    steps.console.print(show(report))
    steps.console.print(f"the same facts: {project.reports / 'demo.json'}", soft_wrap=True)
    check_nothing_failed(report)


def check_nothing_failed(report: DemoReport) -> None:
    """A swap fails no request: if one did fail, the demo has failed.

    Raises:
        RecloopError: some did.
    """
    if failed := report.serving.failed + report.swap.failed:
        raise RecloopError(
            f"{failed} of {report.serving.requests + report.swap.requests:,} requests failed, {report.swap.failed} of "
            "them around the swap",
            remedy="see var/demo/var/log/endpoint.log",
        )


def _loop(workspace: Project, platform: Platform, visits: list[Visit], steps: Steps) -> DemoReport:
    server, endpoint = Server(platform.addresses.prefect_api), platform.addresses.endpoint
    with steps.step("first training: gate, prepare, three models, promotion", total=TASKS) as bar:
        _completed(
            server.run(
                "training/production",
                {"reason": "the first one"},
                seconds=TRAINING_SECONDS,
                on_task=bar.on_task,
            )
        )
    first = _champion(workspace)
    with steps.step("the endpoint takes up the champion"):
        _wait_for_version(endpoint, first.version)
    with steps.step(f"{len(visits):,} ratings played as live traffic", total=len(visits)) as bar:
        traffic = play(endpoint, visits, bar.advance)
    since = datetime.now(UTC)
    users = sorted({visit.user_id for visit in visits})
    with steady_requests(endpoint, users, STEADY_PER_SECOND) as steady:
        with steps.step("the monitor judges the traffic") as bar:
            _completed(server.run("monitoring/production", seconds=TRAINING_SECONDS, on_task=bar.on_task))
        verdict = _verdict(workspace)
        with steps.step("its event starts a retraining", total=TASKS) as bar:
            retraining = _completed(
                server.triggered("training/production", since, seconds=TRAINING_SECONDS, on_task=bar.on_task)
            )
        second = _champion(workspace)
        if second.version == first.version:
            raise RecloopError(
                f"the challenger did not beat the champion, so nothing was swapped: {retraining.message}",
                remedy=f"see {workspace.reports / 'comparison.json'}",
            )
        with steps.step("the endpoint swaps to the new champion"):
            _wait_for_version(endpoint, second.version)
            _wait_for(lambda: steady.versions[second.version] >= STEADY_PER_SECOND, "answers of the new version")
    return DemoReport(
        gate=_gate(workspace),
        models=_models(workspace),
        champion=second,
        serving=ServingFacts(
            requests=traffic.requests,
            failed=traffic.failed,
            p50_ms=round(traffic.percentile(50), 2),
            p99_ms=round(traffic.percentile(99), 2),
        ),
        drift=DriftFacts(
            verdict=verdict.verdict,
            signals={signal.name: _signal(signal) for signal in verdict.signals},
            reasons=list(verdict.reasons),
        ),
        retraining=RetrainingFacts(
            reason=str(retraining.parameters["reason"]),
            run=retraining.name,
            seconds=round(retraining.seconds, 1),
        ),
        swap=SwapFacts(**{"from": first.version}, to=second.version, requests=steady.requests, failed=steady.failed),
        places=_places(workspace),
        seconds=round(steps.seconds, 1),
    )


def _completed(run: Run) -> Run:
    if not run.completed:
        raise PlatformError(
            f"the flow run {run}",
            remedy="its logs: var/demo/var/log, and Prefect's UI (`make platform IN=var/demo`)",
        )
    return run


def _wait_for_version(endpoint: str, version: int) -> None:
    def is_live() -> bool:
        try:
            answer = httpx.post(f"{endpoint}/model", json={}, timeout=5)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200 and bool(answer.json()["version"] == version)

    _wait_for(is_live, f"version {version} at the endpoint")


def _wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SWAP_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise PlatformError(
                f"waited {SWAP_SECONDS:.0f} s in vain for {what}", remedy="see var/demo/var/log/endpoint.log"
            )
        time.sleep(0.1)


def _champion(workspace: Project) -> ChampionFacts:
    history = show_history(workspace)
    now = history.rows[-1]
    return ChampionFacts(model=now.model, version=now.version, reason=now.reason)


def _verdict(workspace: Project) -> Verdict:
    database = connect(workspace.database_url)
    verdict = verdicts.latest(database)[0]
    database.dispose()
    if verdict.verdict != "drift":
        raise RecloopError(
            f"the monitor saw no drift in the demo's traffic: {verdict}",
            remedy="see monitoring in params.yaml",
        )
    return verdict


def _signal(signal: Signal) -> SignalFacts:
    return SignalFacts(
        figure=round(signal.figure, 4), threshold=signal.bound, drifted=signal.drifted, moved=signal.moved
    )


def _gate(workspace: Project) -> GateFacts:
    facts = read_json(workspace.reports / "gate.json", remedy="the gate writes it")
    return GateFacts(
        rows=facts["rows"],
        quarantined=facts["quarantined"],
        rules={rule: count for rule, count in facts["rules"].items() if count},
    )


def _models(workspace: Project) -> dict[str, ModelFacts]:
    facts = read_json(workspace.reports / "comparison.json", remedy="the stage compare writes it")
    return {
        name: ModelFacts(
            ndcg_at_10=model["ndcg_at_10"]["mean"],
            ndcg_at_10_ci=(model["ndcg_at_10"]["low"], model["ndcg_at_10"]["high"]),
            recall_at_10=model["recall_at_10"]["mean"],
            recall_at_10_ci=(model["recall_at_10"]["low"], model["recall_at_10"]["high"]),
        )
        for name, model in facts["models"].items()
    }


def _places(workspace: Project) -> dict[str, str]:
    """What to look at, and how: paths are relative to the project the demo was started in."""
    params = workspace.params.platform
    start = "after `make platform IN=var/demo`"
    return {
        "Prefect UI": f"http://127.0.0.1:{params.prefect_port}, {start}",
        "MLflow UI": f"http://127.0.0.1:{params.mlflow_port}, {start}",
        "endpoint": f"http://127.0.0.1:{workspace.params.serving.port}, {start}, or `make serve IN=var/demo`",
        "Data Docs": "var/demo/reports/data-docs/index.html",
        "drift report": "var/demo/reports/drift/latest.html",
        "history": "`make history IN=var/demo`",
    }


def demo_params() -> Params:
    """The defaults, whatever the user has made of params.yaml, on the demo's data."""
    return Params(
        source=MovieLens100K(kind="movielens-100k", until=LEARNT_UNTIL),
        zoo=ZOO,
        models={name: model_config(name, {}).model_dump(mode="json") for name in ZOO},
    )


def _all_ratings(project: Project) -> pa.Table:
    """All of MovieLens-100K's ratings, in the canonical form."""
    with tempfile.TemporaryDirectory(prefix="recloop-") as scratch:
        ingest(MovieLens100K(kind="movielens-100k"), Path(scratch) / "raw", base=project.root)
        return pq.read_table(Path(scratch) / "raw" / "interactions.parquet")
