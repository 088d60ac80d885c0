"""The training as a flow: one task a DVC stage, then promotion and what follows from it.

Which stages there are, and what depends on what, is read from DVC's own graph. A stage with nothing to do ends
as `Up to date`, one whose outputs DVC had in its cache as `Cached`. What stops a stage stops what depends on it
and the flow, with the stage's own words; the last good data and the champion stay as they are.
"""

from __future__ import annotations

import logging
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.events import emit
from recloop.errors import GateError, PromotionConflict, RecloopError, StageError
from recloop.pipeline import repro, snapshot
from recloop.pipeline.graph import StageNode, stage_graph
from recloop.project import Project
from recloop.registry import promotion
from recloop.registry.promotion import PromotionReport
from recloop.watchdog import end_descendants

STAGES_AT_ONCE = 2
"""A stage waits only for stages submitted before it, so even a single thread could not lock itself up."""

OUTCOMES: dict[repro.Outcome, tuple[str, str]] = {
    "ran": ("Completed", "its command ran"),
    "restored": ("Cached", "DVC had the outputs of these inputs in its cache"),
    "unchanged": ("Up to date", "nothing that it reads or writes has changed"),
}
"""What came of a stage → the name and message of the task's state, for the UI."""


RUNNER: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=STAGES_AT_ONCE)


@flow(name="training", task_runner=RUNNER)  # type: ignore[arg-type]
def training(reason: str = "a person asked") -> State[Any]:
    """Bring data and models up to date; promote the winner if it beats the champion.

    Args:
        reason: why; kept with the version and in the history of champions.
    """
    project = Project.find()
    try:
        project.params  # noqa: B018 (what is wrong in it stops here, before a stage is tried, and tried again)
        take_feedback(project)
        outcomes = run_stages(project, stage_graph(project))
        report = promote(project, reason)
        warnings = follow_up(project, report)
    except GateError as error:
        return Failed(name="Stopped by the gate", message=str(error))
    except RecloopError as error:
        return Failed(message=str(error))
    except BaseException:
        end_descendants()  # cancelled, or shut down: DVC and the stage it runs must not go on without us
        raise
    return Completed(message="\n".join([counted(outcomes), str(report), *warnings]))


def run_stages(project: Project, graph: tuple[StageNode, ...]) -> list[repro.Outcome]:
    """Bring every stage up to date, each after those it depends on.

    Raises:
        RecloopError: of the first stage that failed, in the graph's order.
    """
    futures: dict[str, PrefectFuture[repro.Outcome]] = {}
    for node in graph:
        upstream = [futures[name] for name in node.depends_on]
        futures[node.name] = task_of(node.name).submit(project, node.name, wait_for=upstream)
    for future in futures.values():
        future.wait()
    return [future.result() for future in futures.values()]


def task_of(stage: str) -> Any:
    """The task that runs `stage`. Reading the source may meet the network's moods, and is tried again."""
    retries: dict[str, Any] = (
        {"retries": 2, "retry_delay_seconds": [5, 30], "retry_condition_fn": failed_with(StageError)}
        if stage == "ingest"
        else {}
    )
    return run_stage.with_options(name=stage, task_run_name=stage, **retries)


def failed_with(*kinds: type[RecloopError]) -> Any:
    """A condition for retries: the task failed with one of these, not with anything else."""

    def condition(_task: Any, _run: Any, state: State[Any]) -> bool:
        return isinstance(state.result(raise_on_failure=False), kinds)

    return condition


@task(persist_result=False)
def run_stage(project: Project, stage: str) -> State[repro.Outcome]:
    """Bring one DVC stage up to date; what it prints goes to the run's log."""
    logger = get_run_logger()
    outcome = repro.reproduce(project, stage, on_line=lambda line: logger.log(level_of(line), line))
    name, message = OUTCOMES[outcome]
    return Completed(name=name, message=message, data=outcome)


def level_of(line: str) -> int:
    """The log level of a line that DVC or a stage printed."""
    if line.startswith(("ERROR", "recloop: ")):
        return logging.ERROR
    return logging.WARNING if line.startswith("WARNING") else logging.INFO


@task(name="snapshot", task_run_name="snapshot", persist_result=False)
def take_feedback(project: Project) -> None:
    """Take the events of the endpoint into the data, versioned by DVC."""
    get_run_logger().info("%s", snapshot.snapshot(project))


@task(
    name="promote",
    task_run_name="promote",
    persist_result=False,
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=failed_with(PromotionConflict),  # compared again, with the new champion
)
def promote(project: Project, reason: str) -> PromotionReport:
    """Register the best model of the comparison; make it champion and live if it beats the champion."""
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
        problem = future.state.result(raise_on_failure=False)
        if isinstance(problem, Exception):
            warnings.append(f"warning: {problem}")
            get_run_logger().warning("%s", problem)
    return warnings


@task(name="announce", task_run_name="announce", persist_result=False)
def announce(project: Project, report: PromotionReport) -> None:
    """Show the comparison in the UI, and emit `recloop.promoted` or `recloop.rejected`."""
    create_markdown_artifact(_page(project, report), key="comparison", description=str(report))
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


@task(name="push", task_run_name="push", persist_result=False, retries=1, retry_delay_seconds=10)
def push(project: Project) -> None:
    """Send what DVC has versioned to its remote."""
    repro.push(project, on_line=get_run_logger().info)


@task(name="package", task_run_name="package", persist_result=False)
def package(project: Project) -> None:
    """Build a Bento with the new champion inside."""
    from recloop.serving.package import build_bento

    get_run_logger().info("%s", build_bento(project))


def counted(outcomes: list[repro.Outcome]) -> str:
    """`9 stages: 3 ran, 6 unchanged`."""
    numbers = {outcome: outcomes.count(outcome) for outcome in OUTCOMES}
    return f"{len(outcomes)} stages: " + ", ".join(f"{n} {outcome}" for outcome, n in numbers.items() if n)


def _page(project: Project, report: PromotionReport) -> str:
    """The comparison's table and the verdict, as Markdown."""
    table = project.reports / "comparison.csv"
    head, *rows = [line.split(",") for line in table.read_text(encoding="utf-8").splitlines()]
    lines = [f"# {report.verdict}: v{report.version} ({report.model})", "", report.why, ""]
    lines += [f"- {objection}" for objection in report.objections]
    lines += ["", *(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))]
    return "\n".join(lines)
