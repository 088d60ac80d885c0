"""`recloop platform` for real, on stages that take no time: what it runs, refuses and leaves behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling

from flows.client import Run, Server
from flows.monitoring import was_cut_off
from tests.conftest import clone_checkout

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
    cmd: sh gate.sh
    deps: [data/raw.txt, data/feedback/interactions.parquet]
    outs: [data/gated.txt: {persist: true}]
  train:
    matrix: {model: [mf, sasrec]}
    cmd: sh -c 'echo ${item.model} > data/${item.model}.txt'
    deps: [data/gated.txt]
    outs: ["data/${item.model}.txt"]
"""
GATE = """\
if [ -e HANG ]; then echo $$ > hangs; exec sleep 600; fi
if [ -e SLOW ]; then touch slow; while [ -e SLOW ]; do sleep 0.1; done; fi
echo 'recloop: 40% of the rows are rubbish' >&2
echo '  → mend the source' >&2
exit 3
"""


@dataclass(frozen=True)
class Platform:
    root: Path
    process: subprocess.Popen[bytes]
    ports: dict[str, int]
    output: Path

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.ports['PREFECT']}/api"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("platform")
    root = clone_checkout(folder / "clone")
    (root / "dvc.yaml").write_text(STAGES)
    (root / "gate.sh").write_text(GATE)
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
    endpoint = f"http://127.0.0.1:{platform.ports['SERVING']}"
    assert f"{endpoint}\n" in output
    assert httpx.post(f"{endpoint}/recommend", json={"user_id": "1"}).status_code == 503, "no champion yet"


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
    stage: int
    """Process id of what hung in the gate."""
    meanwhile: str | None
    """State of the second while the first ran."""
    by_event: Run
    tasks: dict[str, str]
    """Of the second: task → its last state."""


@pytest.fixture(scope="module")
def trainings(platform: Platform) -> Trainings:
    server, tasks, since = Server(platform.api), dict[str, str](), datetime.now(UTC)
    hangs = platform.root / "hangs"
    (platform.root / "HANG").touch()
    with ThreadPoolExecutor() as pool, SyncPrefectClient(platform.api) as client:
        by_person = pool.submit(server.run, "training/production", {"reason": "I asked"}, seconds=SECONDS)
        until(lambda: hangs.exists() and hangs.read_text().endswith("\n"), SECONDS)
        emit_from_another_process(platform.api, "drift, verdict 7: all is new")
        by_event = pool.submit(
            server.triggered, "training/production", since, seconds=SECONDS, on_task=tasks.__setitem__
        )
        until(lambda: "AwaitingConcurrencySlot" in {run.state_name for run in client.read_flow_runs()})
        both = [run for run in client.read_flow_runs() if not run.auto_scheduled]
        (running,) = [run for run in both if run.state_name == "Running"]
        (waiting,) = [run for run in both if run.id != running.id]
        (platform.root / "HANG").unlink()
        client.set_flow_run_state(running.id, Cancelling())
        return Trainings(by_person.result(), int(hangs.read_text()), waiting.state_name, by_event.result(), tasks)


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


def test_cancelling_a_training_ends_the_stage_that_it_runs(trainings: Trainings) -> None:
    assert trainings.by_person.state == "Cancelled"
    until(lambda: not psutil.pid_exists(trainings.stage))


def test_the_gate_stops_a_training_with_its_own_words(trainings: Trainings) -> None:
    run = trainings.by_event
    assert (run.state, run.completed) == ("Stopped by the gate", False)
    assert run.message == "stage gate: 40% of the rows are rubbish\n  → mend the source"


def test_each_stage_of_dvc_is_a_task_that_says_what_came_of_it(trainings: Trainings) -> None:
    assert trainings.tasks == {
        "snapshot": "Completed",
        "ingest": "Up to date",  # the first training ran it
        "feedback": "Up to date",
        "gate": "Failed",
        "train@mf": "NotReady",
        "train@sasrec": "NotReady",
    }


@pytest.fixture
def slow_training(platform: Platform, trainings: Trainings) -> Iterator[Future[Run]]:
    """A training that waits in the gate until `SLOW` is gone."""
    server, slow = Server(platform.api), platform.root / "SLOW"
    slow.touch()
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(patiently, server, {"reason": "I asked for a slow one"})
        try:
            until(lambda: (platform.root / "slow").exists(), SECONDS)
            yield run
        finally:
            slow.unlink(missing_ok=True)
            (platform.root / "slow").unlink()


def patiently(server: Server, parameters: dict[str, object]) -> Run:
    """Start a training, and wait for its end, whether the server answers meanwhile or not."""
    run_id = server.start("training/production", parameters)
    while True:
        try:
            return server.ended(run_id, seconds=SECONDS)
        except httpx.TransportError:
            time.sleep(0.5)


def test_a_training_goes_on_while_the_prefect_server_is_killed_and_comes_back(
    platform: Platform, slow_training: Future[Run]
) -> None:
    servers = [each for each in psutil.Process(platform.process.pid).children() if "server" in each.cmdline()]
    (server,) = [each for each in servers if "prefect" in " ".join(each.cmdline())]
    server.kill()
    until(lambda: not server.is_running())
    until(lambda: is_healthy(platform), SECONDS)
    (platform.root / "SLOW").unlink()

    run = slow_training.result(SECONDS)

    assert run.state == "Stopped by the gate", run
    assert run.message.startswith("stage gate: 40% of the rows are rubbish")


def test_a_training_that_is_killed_is_known_to_have_been_cut_off(
    platform: Platform, slow_training: Future[Run]
) -> None:
    (worker,) = [
        process
        for process in psutil.process_iter()
        if works_on(platform.root, process) and process.cmdline()[1:] == ["-m", "prefect.engine"]
    ]
    worker.kill()

    run = slow_training.result(SECONDS)

    assert run.state == "Crashed"
    with temporary_settings({PREFECT_API_URL: platform.api}):
        assert was_cut_off(run.id)
        assert was_cut_off(str(uuid4())), "one that nobody knows"


def is_healthy(platform: Platform) -> bool:
    try:
        return httpx.get(f"{platform.api}/health").status_code == 200
    except httpx.TransportError:
        return False


def test_the_monitor_says_when_there_is_nothing_to_monitor(platform: Platform) -> None:
    run = Server(platform.api).run("monitoring/production", seconds=SECONDS)
    assert (run.state, run.completed) == ("Nothing live", True)


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
