"""The training as a flow: one task a DVC stage, then promotion and what follows from it.

Which stages there are, and what depends on what, is read from DVC's own graph. A stage with nothing to do
ends as `Up to date`, one whose outputs were in DVC's cache as `Cached`. What stops a stage stops what depends
on it, and the flow, with the stage's own words; the last good data and the champion stay as they are.

What a task needs is imported by the task: deploying a flow imports this module, and need not pay for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefect import flow, get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.alerts import channels
from flows.events import emit
from flows.runs import alive, came_to
from recloop.errors import GateError, PromotionConflict, RecloopError, RegistryError, StageError
from recloop.project import Project
from recloop.watchdog import end_descendants

if TYPE_CHECKING:
    from monitoring.channels import Channel
    from recloop.pipeline.graph import StageNode
    from recloop.pipeline.repro import Outcome
    from recloop.registry.promotion import PromotionReport

STOPPED = "Stopped by the gate"
"""The state of a training whose data was not fit to learn from."""

STAGES_AT_ONCE = 2
"""A stage waits only for stages submitted before it, so even a single thread could not lock itself up."""

OUTCOMES: dict[Outcome, tuple[str, str]] = {
    "ran": ("Completed", "its command ran"),
    "restored": ("Cached", "DVC had the outputs of these inputs in its cache"),
    "unchanged": ("Up to date", "nothing that it reads or writes has changed"),
}
"""What came of a stage → the name and message of the task's state, for the UI."""

RUNNER: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=STAGES_AT_ONCE)


@flow(name="training", task_runner=RUNNER)  # type: ignore[arg-type]
def training(reason: str = "a person asked", verdict: str = "") -> State[Any]:
    """Bring data and models up to date; promote the winner if it beats the champion.

    Args:
        reason: why; kept with the version and in the history of champions.
        verdict: id of the verdict that asked for it, if one did: it is taken up once, however often it asked.
    """
    from monitoring.run import end, fail, take, take_waiting
    from monitoring.telling import alerting, training_failed

    project, run = Project.find(), str(runtime.flow_run.id)
    try:
        told = channels(project)  # what is wrong in the settings stops here, before a stage is tried, and tried again
    except RecloopError as error:
        return Failed(message=str(error))
    with alive(project, run):
        try:
            if verdict and not take(project, int(verdict), run):
                return Completed(name="Taken already", message=f"another training has taken up verdict {verdict}")
            take_waiting(project, run, came_to=came_to)
        except RecloopError as error:
            with alerting(project, told) as alerts:
                training_failed(type(error).__name__, str(error), alerts)
            return Failed(message=str(error))
        state = train(project, reason, told)
        # What the gate stops it would stop again. Anything else may have been a passing trouble: it is asked for again.
        note = end if state.is_completed() or state.name == STOPPED else fail
        note(project, run, str(state.message))
    return state


def train(project: Project, reason: str, told: Sequence[Channel]) -> State[Any]:
    """The training, and what it came to; `told` are told if that is nothing."""
    from monitoring.telling import alerting, training_failed, training_succeeded
    from recloop.pipeline.graph import stage_graph
    from recloop.pipeline.lock import arrange

    ended = threading.Event()
    try:
        take_feedback(project)
        graph = stage_graph(project)
        outcomes = run_stages(project, graph, ended)
        arrange(project, [node.name for node in graph])
        report = promote(project, reason)
        warnings = follow_up(project, report)
    except RecloopError as error:
        kind = "the gate" if isinstance(error, GateError) else type(error).__name__
        with alerting(project, told) as alerts:
            training_failed(kind, str(error), alerts)
        return Failed(name=STOPPED if kind == "the gate" else "Failed", message=str(error))
    except BaseException as error:  # or cancelled, or shut down: DVC and the stage it runs must not go on without us
        ended.set()
        end_descendants()
        if isinstance(error, Exception):
            with alerting(project, told) as alerts:
                training_failed(type(error).__name__, str(error), alerts)
        raise
    with alerting(project, told) as alerts:
        training_succeeded(alerts)
    return Completed(message="\n".join([counted(outcomes), str(report), *warnings]))


def run_stages(project: Project, graph: tuple[StageNode, ...], ended: threading.Event) -> list[Outcome]:
    """Bring every stage up to date, each after those it depends on.

    Args:
        project: the checkout.
        graph: its stages, each after those it depends on.
        ended: is set when the run is to end: nothing is waited for or tried again then.

    Raises:
        RecloopError: of the first stage that failed, in the graph's order.
    """
    futures: dict[str, PrefectFuture[Outcome]] = {}
    for node in graph:
        upstream = [futures[name] for name in node.depends_on]
        futures[node.name] = task_of(node.name, ended).submit(project, node.name, ended, wait_for=upstream)
    for future in futures.values():
        future.wait()
    return [future.result() for future in futures.values()]


def task_of(stage: str, ended: threading.Event) -> Any:
    """The task that runs `stage`. Reading the source may meet the network's moods, and is tried again."""
    named = run_stage.with_options(name=stage, task_run_name=stage)
    if stage != "ingest":
        return named
    return named.with_options(
        retries=2,
        retry_delay_seconds=[5, 30],
        retry_condition_fn=lambda _task, _run, state: failed_with(StageError, state) and not ended.is_set(),
    )


def failed_with(kind: type[RecloopError], state: State[Any]) -> bool:
    """Whether a task failed with this, and not with anything else."""
    return isinstance(state.result(raise_on_failure=False), kind)


@task(cache_policy=NO_CACHE)
def run_stage(project: Project, stage: str, ended: threading.Event) -> State[Outcome]:
    """Bring one DVC stage up to date; what it prints goes to the run's log."""
    from recloop.pipeline.repro import reproduce

    logger = get_run_logger()

    def pause(seconds: float) -> None:
        if ended.wait(seconds):
            raise StageError(f"stage {stage}: the run was ended while another process ran the same stage")

    outcome = reproduce(project, stage, on_line=lambda line: logger.log(level_of(line), line), sleep=pause)
    name, message = OUTCOMES[outcome]
    return Completed(name=name, message=message, data=outcome)


def level_of(line: str) -> int:
    """The log level of a line that DVC or a stage printed."""
    if line.startswith(("ERROR", "recloop: ")):
        return logging.ERROR
    return logging.WARNING if line.startswith("WARNING") else logging.INFO


@task(name="snapshot", task_run_name="snapshot", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[5, 60])
def take_feedback(project: Project) -> None:
    """Take the events of the endpoint into the data, versioned by DVC."""
    from recloop.pipeline.snapshot import snapshot

    get_run_logger().info("%s", snapshot(project))


@task(
    name="promote",
    task_run_name="promote",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=[5, 60],
    # Compared again, with the new champion; or MLflow was away.
    retry_condition_fn=lambda _task, _run, state: (
        failed_with(PromotionConflict, state) or failed_with(RegistryError, state)
    ),
)
def promote(project: Project, reason: str) -> PromotionReport:
    """Register the best model of the comparison; make it champion and live if it beats the champion."""
    from recloop.registry import promotion

    report = promotion.promote(project, None, reason=reason)
    get_run_logger().info("%s", report)
    return report


def follow_up(project: Project, report: PromotionReport) -> list[str]:
    """What follows from a promotion. The champion is live: what fails here is told, and undoes nothing."""
    following = [announce.submit(project, report), push.submit(project)]
    if report.changed:
        following.append(package.submit(project))
    warnings = []
    for future in following:
        future.wait()
        if not future.state.is_completed():
            problem = future.state.result(raise_on_failure=False)
            warnings.append(f"warning: {problem}")
            get_run_logger().warning("%s", problem)
    return warnings


@task(name="announce", task_run_name="announce", cache_policy=NO_CACHE)
def announce(project: Project, report: PromotionReport) -> None:
    """Show the comparison in the UI, and emit `recloop.promoted` or `recloop.rejected`."""
    create_markdown_artifact(page(project, report), key="comparison", description=str(report))
    if report.verdict == "unchanged":
        return
    payload = {name: str(value) for name, value in report.numbers.items()}
    payload |= {
        "verdict": report.verdict,
        "model": report.model,
        "version": str(report.version),
        "why": report.why,
    }
    event = "recloop.promoted" if report.changed else "recloop.rejected"
    emit(event, model_name=project.params.promotion.model_name, payload=payload)


@task(name="push", task_run_name="push", cache_policy=NO_CACHE, retries=1, retry_delay_seconds=10)
def push(project: Project) -> None:
    """Send what DVC has versioned to its remote."""
    from recloop.pipeline import repro

    repro.push(project, on_line=get_run_logger().info)


@task(name="package", task_run_name="package", cache_policy=NO_CACHE)
def package(project: Project) -> None:
    """Build a Bento with the new champion inside."""
    from recloop.serving.package import build_bento

    get_run_logger().info("%s", build_bento(project))


def counted(outcomes: list[Outcome]) -> str:
    """`9 stages: 3 ran, 6 unchanged`."""
    numbers = {outcome: outcomes.count(outcome) for outcome in OUTCOMES}
    return f"{len(outcomes)} stages: " + ", ".join(f"{n} {outcome}" for outcome, n in numbers.items() if n)


def page(project: Project, report: PromotionReport) -> str:
    """The comparison's table and the verdict, as Markdown."""
    table = project.reports / "comparison.csv"
    head, *rows = [line.split(",") for line in table.read_text(encoding="utf-8").splitlines()]
    lines = [f"# {report.verdict}: v{report.version} ({report.model})", "", report.why, ""]
    lines += [f"- {objection}" for objection in report.objections]
    lines += ["", *(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))]
    return "\n".join(lines)
