"""`recloop platform` for real, on stages that take no time: what it runs, refuses and leaves behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling
from sqlalchemy import select

from flows.client import Run, Server
from flows.runs import came_to
from monitoring import verdicts
from monitoring.alerts import alerts
from monitoring.live import live_model
from monitoring.window import HOUR
from recloop.project import Project
from recloop.registry.deploy import current
from recloop.registry.history import show_history
from recloop.registry.promotion import promote
from recloop.storage import connect, now_us
from tests.conftest import clone_checkout
from tests.shop import change_params
from tests.trained import empty_registry, make_project, write_model, write_prepared
from tests.unit.test_verdicts import DRIFT

pytestmark = [pytest.mark.xdist_group("platform"), pytest.mark.timeout(900)]

SECONDS = 400.0
STAGES = """\
stages:
  ingest:
    cmd: sh -c 'mkdir -p data; echo raw > data/raw.txt'
    outs: [data/raw.txt]
  feedback:
    cmd: recloop feedback
    outs: [data/feedback/interactions.parquet: {persist: true}]
  gate:
    cmd: sh stage.sh gate touch data/gated.txt
    deps: [data/raw.txt, data/feedback/interactions.parquet]
    outs: [data/gated.txt: {persist: true}]
  prepare:
    cmd: sh stage.sh prepare cp -r better/data/prepared data
    deps: [data/gated.txt]
    outs: [data/prepared]
  train:
    matrix: {model: [popularity]}
    cmd: cp -r better/models better/reports .
    deps: [data/prepared]
    outs: ["models/${item.model}", "reports/training/${item.model}.json"]
  evaluate:
    matrix: {model: [popularity]}
    cmd: "true"
    deps: ["models/${item.model}"]
  compare:
    cmd: "true"
    deps: ["reports/training/popularity.json"]
"""
"""What they make is in the folder `better`: the model that a retraining comes to"""
STAGE = """\
echo $$ > "at-$1"
while [ -e "hold-$1" ]; do sleep 0.1; done
if [ "$1" = gate ] && [ -e rubbish ]; then
  echo 'recloop: 40% of the rows are rubbish' >&2
  echo '  → mend the source' >&2
  exit 3
fi
shift
exec "$@"
"""


TASKS = {
    "snapshot": "Completed",
    "ingest": "Up to date",  # the first training ran it
    "feedback": "Up to date",
    "gate": "Failed",
    **dict.fromkeys(("prepare", "train@popularity", "evaluate@popularity", "compare"), "NotReady"),
}
"""What comes of each of them in a training that the gate stops"""


@dataclass(frozen=True)
class Platform:
    root: Path
    process: subprocess.Popen[bytes]
    ports: dict[str, int]
    output: Path

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.ports['PREFECT']}/api"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['SERVING']}"

    @contextmanager
    def held(self, stage: str) -> Iterator[Path]:
        """Let the next training stop in a stage until this ends; the file that appears when it is there."""
        hold, there = self.root / f"hold-{stage}", self.root / f"at-{stage}"
        there.unlink(missing_ok=True)
        hold.touch()
        try:
            yield there
        finally:
            hold.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("platform")
    root = clone_checkout(folder / "clone")
    (root / "dvc.yaml").write_text(STAGES)
    change_params(root, {"train.warm_start": False})  # for which there would be a stage
    (root / "stage.sh").write_text(STAGE)
    make_champion(Project(root))
    write_model(make_project(root / "better"), "d")
    ports = free_ports("SERVING", "PREFECT", "MLFLOW")
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "recloop.cli", "platform"],
            cwd=root,
            env={key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"} | environment(ports),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    platform = Platform(root, process, ports, folder / "output")
    try:
        until(lambda: process.poll() is not None or "the platform runs" in platform.output.read_text(), SECONDS)
        assert process.poll() is None, platform.output.read_text()
        yield platform
    finally:
        process.kill()
        process.wait()


def make_champion(project: Project) -> None:
    """Version 1, which a better model can take the place of; and a monitor that need not rest between trainings."""
    change_params(
        project.root,
        {
            "zoo": ["popularity"],
            "models.popularity.half_life_days": None,
            "evaluate.bootstrap": 200,
            "promotion.min_users": 10,
            "promotion.max_latency_ms": 5000,
            "monitoring.cooldown_hours": 0,
        },
    )
    project = Project(project.root)  # which reads them
    project.var.mkdir(exist_ok=True)
    empty_registry(project)
    write_prepared(project.prepared)
    write_model(project, "o")
    promote(project, reason="the beginning", outdated=lambda _project, _stages: ())


def environment(ports: dict[str, int]) -> dict[str, str]:
    return {f"RECLOOP_{name}_PORT": str(port) for name, port in ports.items()}


def free_ports(*names: str) -> dict[str, int]:
    sockets = [socket.socket() for _ in names]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = {name: each.getsockname()[1] for name, each in zip(names, sockets, strict=True)}
    for each in sockets:
        each.close()
    return ports


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def test_each_server_answers_at_the_address_that_is_told(platform: Platform) -> None:
    output = platform.output.read_text()
    for path in (f"{platform.ports['MLFLOW']}", f"{platform.ports['PREFECT']}"):
        assert f"http://127.0.0.1:{path}\n" in output
        page = httpx.get(f"http://127.0.0.1:{path}/", follow_redirects=True)
        assert (page.status_code, page.headers["content-type"].split(";")[0]) == (200, "text/html")
    assert (platform.root / "var" / "mlflow.db").exists()
    assert not (platform.root / "mlflow.db").exists(), "MLflow's own default"
    assert f"{platform.endpoint}\n" in output
    assert served_version(platform) == 1


def test_a_second_platform_of_the_same_project_is_refused(platform: Platform) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "recloop.cli", "platform"], cwd=platform.root, capture_output=True, text=True
    )
    assert second.returncode == 2
    assert f"runs already, or is stopping (process {platform.process.pid})" in second.stderr


def test_the_schedules_plan_runs_with_their_reason(platform: Platform) -> None:
    def planned() -> set[str | None]:
        with SyncPrefectClient(platform.api) as client:
            runs = [run for run in client.read_flow_runs() if run.auto_scheduled]
        return {run.parameters.get("reason") for run in runs}

    until(lambda: planned() == {None, "the weekly schedule"})  # the monitor's have none


@dataclass(frozen=True)
class Trainings:
    """A person's training hangs in the gate. An event starts another, which waits. The first is cancelled."""

    by_person: Run
    meanwhile: str | None
    """State of the second while the first ran."""
    by_event: Run
    tasks: dict[str, str]
    """Of the second: task → its last state."""


@pytest.fixture(scope="module")
def trainings(platform: Platform) -> Trainings:
    server, since = Server(platform.api), datetime.now(UTC)
    rubbish = platform.root / "rubbish"
    rubbish.touch()
    with ThreadPoolExecutor() as pool, SyncPrefectClient(platform.api) as client:
        with platform.held("gate") as there:
            by_person = pool.submit(server.run, "training/production", {"reason": "I asked"}, seconds=SECONDS)
            until(lambda: there.exists() and there.read_text().endswith("\n"), SECONDS)
            stage = int(there.read_text())
            emit_from_another_process(platform.api, "drift, verdict 7: all is new")
            by_event = pool.submit(server.triggered, "training/production", since, seconds=SECONDS)
            until(lambda: "AwaitingConcurrencySlot" in {run.state_name for run in client.read_flow_runs()})
            both = [run for run in client.read_flow_runs() if not run.auto_scheduled]
            (running,) = [run for run in both if run.state_name == "Running"]
            (waiting,) = [run for run in both if run.id != running.id]
            client.set_flow_run_state(running.id, Cancelling())
            until(lambda: not psutil.pid_exists(stage))
        found = Trainings(
            by_person.result(), waiting.state_name, by_event.result(), tasks_of(client, UUID(by_event.result().id))
        )
    rubbish.unlink()
    return found


def tasks_of(client: SyncPrefectClient, run: UUID) -> dict[str, str]:
    """Task → its last state. Prefect learns of a task's states by events, which may come in after the run's end."""
    of_run, tasks = FlowRunFilter(id=FlowRunFilterId(any_=[run])), dict[str, str]()
    deadline = time.monotonic() + 60
    while tasks != TASKS and time.monotonic() < deadline:
        time.sleep(0.5)
        tasks = {task.name: task.state_name or "" for task in client.read_task_runs(flow_run_filter=of_run)}
    return tasks


def emit_from_another_process(api: str, reason: str) -> None:
    code = (
        "import sys\n"
        "from flows.events import emit\n"
        "emit('recloop.drift', model_name='recloop', payload={'reason': sys.argv[1], 'verdict_id': '7'})"
    )
    environment = {**os.environ, "PREFECT_API_URL": api}
    subprocess.run([sys.executable, "-c", code, reason], env=environment, check=True)


def test_a_person_and_an_event_start_trainings_each_with_its_reason(trainings: Trainings) -> None:
    assert trainings.by_person.parameters["reason"] == "I asked"
    assert trainings.by_event.parameters == {"reason": "drift, verdict 7: all is new", "verdict": "7"}


def test_the_second_training_waits_for_the_first(trainings: Trainings) -> None:
    assert trainings.meanwhile == "AwaitingConcurrencySlot"


def test_a_training_that_is_cancelled_says_so(platform: Platform, trainings: Trainings) -> None:
    """And ends the stage that it runs, which the fixture waits for."""
    assert trainings.by_person.state == "Cancelled"
    with temporary_settings({PREFECT_API_URL: platform.api}):
        assert came_to(trainings.by_person.id) == "cancelled"


def test_the_gate_stops_a_training_with_its_own_words(trainings: Trainings) -> None:
    run = trainings.by_event
    assert (run.state, run.completed) == ("Stopped by the gate", False)
    assert run.message == "stage gate: 40% of the rows are rubbish\n  → mend the source"


def test_each_stage_of_dvc_is_a_task_that_says_what_came_of_it(trainings: Trainings) -> None:
    assert trainings.tasks == TASKS


@dataclass(frozen=True)
class Standing:
    """Who is champion, how that came about, and what came of the verdict that asked for a retraining."""

    served: int
    """By the endpoint"""
    live: int | None
    """In `var/live`"""
    alias: int | None
    """In MLflow"""
    history: tuple[tuple[int, int | None, str], ...]
    """Version, the one before it, and the action"""
    verdict: verdicts.Verdict


def standing(platform: Platform) -> Standing:
    project = Project(platform.root)
    shown, live = show_history(project), current(project)  # it adds a row for whatever it did not know of
    return Standing(
        served=served_version(platform),
        live=None if live is None else live.version,
        alias=shown.champion,
        history=tuple((row.version, row.previous, row.action) for row in shown.rows),
        verdict=next(found for found in all_verdicts(project) if found.verdict == "drift"),
    )


def served_version(platform: Platform) -> int:
    answer = httpx.post(f"{platform.endpoint}/recommend", json={"user_id": "u01"})
    return int(answer.raise_for_status().json()["model_version"])


def all_verdicts(project: Project) -> tuple[verdicts.Verdict, ...]:
    database = connect(project.database_url)
    try:
        return verdicts.latest(database, 100)
    finally:
        database.dispose()


def store_lost_verdict(project: Project) -> None:
    """A drift of version 1 whose event was emitted two hours ago and reached nobody."""
    now, live = now_us(), live_model(project.live)
    drift = replace(DRIFT, at=now, window_from=live.since, window_to=now, version=1)
    database = connect(project.database_url)
    verdicts.mark_asked(database, verdicts.store(database, drift), "event e1", now - 2 * HOUR)
    database.dispose()


@dataclass(frozen=True)
class Faults:
    """A verdict's event is lost, the training that comes of the next one is killed with its worker, and in the middle
    of the one after that the Prefect server is, and MLflow is gone when it comes to promote."""

    first_look: Run
    """Of the monitor, after the event was lost"""
    killed: Run
    after_kill: Standing
    second_look: Run
    retraining: Run
    promote: tuple[str, ...]
    """The states of its last task, in turn"""
    after_retraining: Standing
    late: Run
    """A training that the same verdict asks for once more"""
    after_late: Standing


@pytest.fixture(scope="module")
def faults(platform: Platform, trainings: Trainings) -> Faults:
    server, project = Server(platform.api), Project(platform.root)
    store_lost_verdict(project)
    with platform.held("gate") as there:
        first_look, training = look(server)
        until(there.exists, SECONDS)
        kill_with_its_worker(platform)
    after_kill = standing(platform)

    promote, mlflow = list[str](), project.var / "mlflow.db"
    with ThreadPoolExecutor(1) as pool:
        with platform.held("prepare") as there:
            cut_off = training
            second_look, training = look(server)
            killed = server.ended(cut_off, seconds=SECONDS)
            until(there.exists, SECONDS)
            kill_prefect(platform)
            sound = mlflow.read_bytes()
            mlflow.write_bytes(b"this is no database" * 100)
            run = pool.submit(patiently, server, training, promote)
        until(lambda: "AwaitingRetry" in promote, SECONDS)
        mlflow.write_bytes(sound)  # the same file: who has it open sees it mended
        retraining = run.result()
    if retraining.completed:
        until(lambda: served_version(platform) == 2)
    after_retraining = standing(platform)

    parameters = {"reason": "drift, once more", "verdict": str(after_retraining.verdict.id)}
    late = server.run("training/production", parameters, seconds=SECONDS)
    return Faults(
        first_look,
        killed,
        after_kill,
        second_look,
        retraining,
        tuple(promote),
        after_retraining,
        late,
        standing(platform),
    )


def look(server: Server) -> tuple[Run, UUID]:
    """Let the monitor look; what it said, and the training that it asked for."""
    since = datetime.now(UTC)
    looked = server.run("monitoring/production", seconds=SECONDS)
    return looked, server.asked("training/production", since, seconds=SECONDS)


def kill_with_its_worker(platform: Platform) -> None:
    """Kill the training that is under way, and at the same moment who watches it, as a machine does that is out of
    memory."""
    ends = (["-m", "prefect.engine"], ["--name", "retrainer"])
    ours = [each for each in psutil.process_iter() if works_on(platform.root, each)]
    found = [each for each in ours if each.cmdline()[-2:] in ends]
    assert len(found) == 2, found
    for each in found:
        each.suspend()
    for each in found:
        each.kill()


def kill_prefect(platform: Platform) -> None:
    servers = [each for each in psutil.Process(platform.process.pid).children() if "server" in each.cmdline()]
    (server,) = [each for each in servers if "prefect" in " ".join(each.cmdline())]
    server.kill()
    until(lambda: not server.is_running())
    until(lambda: is_healthy(platform), SECONDS)


def patiently(server: Server, run: UUID, promote: list[str]) -> Run:
    """Wait for a training's end, whether the server answers meanwhile or not; note the states of its promotion."""

    def note(task: str, state: str) -> None:
        if task == "promote":
            promote.append(state)

    while True:
        try:
            return server.ended(run, seconds=SECONDS, on_task=note)
        except httpx.TransportError:
            time.sleep(0.5)


FIRST = ((1, None, "promote"),)
BOTH = (*FIRST, (2, 1, "promote"))


def test_a_verdict_whose_event_was_lost_is_asked_for_again_by_the_next_run_of_the_monitor(faults: Faults) -> None:
    assert faults.first_look.completed, faults.first_look
    assert "verdict 1: asked for retraining: event " in faults.first_look.message
    assert faults.killed.parameters["verdict"] == "1"
    assert "event e1" not in str(faults.after_kill.verdict.acted), "that was the lost one"


def test_of_a_training_that_is_killed_the_champion_stays_and_its_verdict_is_open(
    platform: Platform, faults: Faults
) -> None:
    assert faults.killed.state == "Crashed"
    left = faults.after_kill
    assert (left.served, left.live, left.alias, left.history) == (1, 1, 1, FIRST)
    assert (left.verdict.taken, left.verdict.ended) == (faults.killed.id, None)
    with temporary_settings({PREFECT_API_URL: platform.api}):
        assert came_to(faults.killed.id) == "nothing"
        assert came_to(str(uuid4())) == "nothing", "one that nobody knows"
    assert "verdict 1: asked for retraining: event " in faults.second_look.message
    database = connect(Project(platform.root).database_url)
    with database.connect() as connection:
        told = (
            connection.execute(select(alerts.c.text).where(alerts.c.cause == "training failed: killed")).scalars().all()
        )
    database.dispose()
    assert told == [f"training {faults.killed.name}: {faults.killed.message}"]


def test_a_retraining_outlives_the_prefect_server_and_waits_for_mlflow_and_its_winner_goes_live(
    faults: Faults,
) -> None:
    assert faults.retraining.state == "Completed", faults.retraining
    assert "AwaitingRetry" in faults.promote, "MLflow was gone"
    left = faults.after_retraining
    assert (left.served, left.live, left.alias, left.history) == (2, 2, 2, BOTH)
    assert left.verdict.taken == faults.retraining.id
    assert "v2 (popularity) is champion in v1's place" in str(left.verdict.ended)


def test_of_a_verdict_that_asks_twice_one_training_comes(faults: Faults) -> None:
    assert (faults.late.state, faults.late.completed) == ("Taken already", True)
    assert faults.after_late == faults.after_retraining


def is_healthy(platform: Platform) -> bool:
    try:
        return httpx.get(f"{platform.api}/health").status_code == 200
    except httpx.TransportError:
        return False


def test_killed_it_leaves_nothing_behind(platform: Platform) -> None:
    """Last in this file: nothing runs after it."""
    ours = [process for process in psutil.process_iter() if works_on(platform.root, process)]
    assert len(ours) > 5, "the servers and the workers, at least"
    platform.process.kill()
    psutil.wait_procs(ours, timeout=60)
    assert [process.cmdline() for process in ours if process.is_running()] == []
    for port in platform.ports.values():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


def works_on(root: Path, process: psutil.Process) -> bool:
    try:
        return bool(process.environ().get("RECLOOP_ROOT") == str(root))
    except psutil.Error:
        return False
