"""The whole loop on a real Prefect server, on a small shop's log: from training to drift to the swap."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from flows.client import Run, Server
from monitoring import verdicts
from monitoring.live import live_model
from recloop.demo.traffic import NEVER_SET, Served, Visit, play, steady_requests
from recloop.files import sha256
from recloop.platform import Platform
from recloop.project import Project
from recloop.registry.history import show_history
from recloop.storage import connect
from tests.conftest import clone_checkout
from tests.shop import START, change_params, use_shop

pytestmark = [pytest.mark.xdist_group("shop"), pytest.mark.timeout(900)]

SECONDS = 400.0  # on a machine that is busy with other things; on an idle one a training takes 60


@dataclass(frozen=True)
class Loop:
    """What came of one turn of the loop."""

    project: Project
    first: Run
    bytes_after_first: dict[str, str]
    """Of what it left: file or folder → sha256"""
    traffic: Served
    verdict: verdicts.Verdict
    retraining: Run
    steady: Served
    live: dict[str, object]
    endpoint: str
    prefect: str


def new_fashion() -> list[Visit]:
    """A hundred new customers who buy products that were not there before, every third one along."""
    visits = []
    for user in range(100):
        for step in range(12):
            product = 40 + (user + 3 * step) % 40
            at = START + 86_400 * (200 + step) + user if step or user else 0  # one broken event, for the gate to find
            visits.append(
                Visit(
                    event_id=f"{user}-{step}",
                    user_id=f"new{user}",
                    item_id=f"p{product}",
                    event="purchase",
                    value=1.0,
                    timestamp=datetime.fromtimestamp(at, UTC).isoformat(),
                )
            )
    return sorted(visits, key=lambda visit: visit.timestamp)


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    clone = clone_checkout(tmp_path_factory.mktemp("loop") / "clone")
    use_shop(clone)
    change_params(clone, {"monitoring.cooldown_hours": 0})  # one turn follows the other
    remote = str(clone / "var" / "remote")
    subprocess.run(["dvc", "remote", "modify", "--local", "storage", "url", remote], cwd=clone, check=True)
    project = Project(clone)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SERVING", "PREFECT", "MLFLOW"):
            patch.setenv(f"RECLOOP_{name}_PORT", "0")
        with Platform(project, mlflow=False, schedules=False) as platform:
            yield _turn(project, platform)


def made(root: Path) -> dict[str, str]:
    """All that the stages make, and what DVC says of it: the sha256 of each."""
    reports = ("training", "curves", "evaluation", "users")
    return {name: sha256(root / name) for name in ("dvc.lock", "data", "models", *(f"reports/{r}" for r in reports))}


def _turn(project: Project, platform: Platform) -> Loop:
    server, endpoint = Server(platform.addresses.prefect_api), platform.addresses.endpoint
    before = httpx.post(f"{endpoint}/recommend", json={"user_id": "u1"})
    assert before.status_code == 503, "without a champion the endpoint says so"
    first = server.run("training/production", {"reason": "the first one"}, seconds=SECONDS)
    assert first.completed, first
    left = made(project.root)
    _wait_until_live(endpoint, 1)
    traffic = play(endpoint, new_fashion(), lambda _count: None)
    since = datetime.now(UTC)
    with steady_requests(endpoint, ["u1", "new1", "nobody"], per_second=10) as steady:
        watched = server.run("monitoring/production", seconds=SECONDS)
        assert watched.completed, watched
        retraining = server.triggered("training/production", since, seconds=SECONDS)
        if retraining.completed and "is champion" in retraining.message:
            _wait_until_live(endpoint, 2)
            _wait_for(lambda: steady.versions[2] > 0, "an answer of version 2")
    verdict = newest_verdict(project)
    live = httpx.post(f"{endpoint}/model", json={}).json()
    return Loop(
        project, first, left, traffic, verdict, retraining, steady, live, endpoint, platform.addresses.prefect_api
    )


def newest_verdict(project: Project) -> verdicts.Verdict:
    database = connect(project.database_url)
    (verdict,) = verdicts.latest(database)
    database.dispose()
    return verdict


def _wait_until_live(endpoint: str, version: int) -> None:
    def is_live() -> bool:
        answer = httpx.post(f"{endpoint}/model", json={})
        return answer.status_code == 200 and answer.json()["version"] == version

    _wait_for(is_live, f"version {version} to go live")


def _wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)


def test_the_flow_in_one_clone_leaves_the_same_bytes_as_dvc_repro_in_another(loop: Loop, trained: Path) -> None:
    assert loop.bytes_after_first == made(trained)


def test_the_first_model_serves_without_a_failure(loop: Loop) -> None:
    assert loop.traffic.failed == 0, loop.traffic.failures
    assert set(loop.traffic.versions) == {1}


def test_the_monitor_finds_the_new_products_and_says_so(loop: Loop) -> None:
    assert loop.verdict.verdict == "drift"
    assert "unknown_items" in {signal.name for signal in loop.verdict.signals if signal.drifted}
    assert loop.verdict.acted is not None
    assert loop.verdict.taken == loop.retraining.id
    assert "is champion" in str(loop.verdict.ended)
    assert loop.verdict.report is not None
    assert (loop.project.root / loop.verdict.report).is_file()


def test_the_drift_event_started_the_retraining_with_its_reason(loop: Loop) -> None:
    assert loop.retraining.completed, loop.retraining
    assert str(loop.retraining.parameters["reason"]).startswith("drift, verdict 1: unknown_items")


def test_the_retraining_learnt_from_the_traffic_but_not_from_the_broken_event(loop: Loop) -> None:
    gate = json.loads((loop.project.reports / "gate.json").read_text())
    assert gate["quarantined"] == 1
    gated = pq.read_table(loop.project.gated / "interactions.parquet")
    assert gated["feedback_seq"].drop_null().length() == 1200 - 1
    quarantined = pq.read_table(loop.project.quarantine).to_pylist()
    assert [(row["user_id"], row["timestamp"].year) for row in quarantined] == [("new0", 1970)]


def test_the_swap_failed_no_request(loop: Loop) -> None:
    assert loop.live["version"] == 2
    assert loop.steady.failed == 0, loop.steady.failures
    assert set(loop.steady.versions) == {1, 2}


def test_the_history_tells_what_happened(loop: Loop) -> None:
    rows = show_history(loop.project).rows
    assert [(row.version, row.previous, row.action) for row in rows] == [
        (1, None, "promote"),
        (2, 1, "promote"),
    ]
    assert rows[0].reason.startswith("the first one")
    assert rows[1].reason.startswith("drift, verdict 1")


def test_what_was_versioned_is_in_the_remote(loop: Loop, tmp_path: Path) -> None:
    fresh = clone_checkout(tmp_path / "fresh")
    for name in ("params.yaml", "dvc.lock"):
        (fresh / name).write_bytes((loop.project.root / name).read_bytes())
    remote = str(loop.project.var / "remote")
    subprocess.run(["dvc", "remote", "modify", "--local", "storage", "url", remote], cwd=fresh, check=True)
    subprocess.run(["dvc", "pull"], cwd=fresh, check=True, capture_output=True)
    assert sha256(fresh / "data" / "feedback") == sha256(loop.project.root / "data" / "feedback")
    assert sha256(fresh / "models") == sha256(loop.project.root / "models")


@dataclass(frozen=True)
class Poisoned:
    """A window of events that never were, which drift all right, and the training that the monitor asks for."""

    training: Run
    verdict: verdicts.Verdict
    before: dict[str, object]
    """What the last good training left"""
    after: dict[str, object]


@pytest.fixture(scope="module")
def poisoned(loop: Loop) -> Poisoned:
    server, since = Server(loop.prefect), datetime.now(UTC)
    before = _learnt(loop.project)
    sent = play(loop.endpoint, one_product_by_robots(), lambda _count: None)
    assert sent.failed == 0, sent.failures
    watched = server.run("monitoring/production", seconds=SECONDS)
    assert watched.completed, watched
    training = server.triggered("training/production", since, seconds=SECONDS)
    return Poisoned(training, newest_verdict(loop.project), before, _learnt(loop.project))


def one_product_by_robots() -> list[Visit]:
    """Fifty users, of whom nobody has heard, who buy one product over and over, all in 1970."""
    return [
        Visit(f"robot{user}-{step}", f"robot{user}", "p0", "purchase", 1.0, NEVER_SET)
        for user in range(50)
        for step in range(6)
    ]


def _learnt(project: Project) -> dict[str, object]:
    """What comes after the gate and is not of the snapshot, in the folders and in what DVC says of the stages."""
    lock = YAML(typ="safe").load(project.root / "dvc.lock")["stages"]
    stages = {name: stage for name, stage in lock.items() if name not in ("ingest", "feedback", "warm")}
    return {"stages": stages} | {
        name: sha256(project.root / name) for name in ("data/gated", "data/prepared", "models")
    }


def test_a_poisoned_window_is_stopped_by_the_gate_and_nothing_is_learnt_from_it(poisoned: Poisoned) -> None:
    assert poisoned.verdict.verdict == "drift"
    assert poisoned.training.state == "Stopped by the gate", poisoned.training
    assert poisoned.after == poisoned.before


def test_the_champion_stays_and_the_verdict_says_what_stopped_it(loop: Loop, poisoned: Poisoned) -> None:
    assert (poisoned.verdict.version, poisoned.verdict.taken) == (2, poisoned.training.id)
    assert poisoned.verdict.ended == poisoned.training.message
    shown = show_history(loop.project)
    assert (shown.champion, live_model(loop.project.live).version) == (2, 2)
    assert httpx.post(f"{loop.endpoint}/model", json={}).json()["version"] == 2
    assert [(row.version, row.action) for row in shown.rows] == [(1, "promote"), (2, "promote")]


def test_a_rollback_is_taken_up_by_the_running_endpoint(loop: Loop) -> None:
    """Last in this file: it changes what is live."""
    done = subprocess.run(
        ["recloop", "rollback", "--reason", "a test"],
        env={**os.environ, "RECLOOP_ROOT": str(loop.project.root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "v1" in done.stdout
    assert show_history(loop.project).rows[-1].action == "rollback"
    _wait_until_live(loop.endpoint, 1)
