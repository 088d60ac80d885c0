"""The monitor as a flow: judge the traffic, and ask for a retraining if there is a reason to.

Asking means an event: the trigger in `prefect.yaml` starts the training because of it, with its reason. What was asked
for and never began, was cut off or failed, is asked for again.
What a task needs is imported by the task: deploying a flow imports this module, and need not pay for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.alerts import channels
from flows.events import emit
from flows.runs import came_to, killed
from recloop.errors import BusyError, RecloopError
from recloop.project import Project

if TYPE_CHECKING:
    from monitoring.channels import Channel
    from monitoring.verdicts import Verdict

DRIFT = "recloop.drift"


@flow(name="monitoring")
def monitoring() -> State[Any]:
    """Judge the traffic of the live model; ask for a retraining if there is a reason to."""
    from monitoring.telling import alerting, monitor_failed, monitor_succeeded

    project = Project.find()
    if not (project.live / "champion.json").exists():
        return Completed(name="Nothing live", message="no model is live yet: there is nothing to monitor")
    try:
        told = channels(project)
    except RecloopError as error:
        return Failed(message=str(error))
    try:
        said = judge_and_act(project, told)
    except BusyError as error:
        return Completed(name="Judged by another", message=str(error))
    except Exception as error:
        ours = isinstance(error, RecloopError)
        with alerting(project, told) as alerts:
            monitor_failed(str(error) if ours else f"{type(error).__name__}: {error}", alerts)
        if not ours:
            raise
        return Failed(message=str(error))
    with alerting(project, told) as alerts:
        monitor_succeeded(alerts)
    return Completed(message="\n".join(said))


def judge_and_act(project: Project, told: Sequence[Channel]) -> list[str]:
    """Judge what came in, and do what is due, be it since an earlier run; what was found and done."""
    from monitoring.run import due, worse
    from monitoring.telling import alerting, training_failed

    said = [str(judge(project, told))]
    if (why := killed(project)) is not None:
        with alerting(project, told) as alerts:
            training_failed("killed", why, alerts)
    try:
        if (accused := worse(project)) is not None:
            said.append(roll_back(project, accused, told))
    finally:  # where it cannot be rolled back, a new version is all that helps
        pending = due(project, came_to=came_to)
        if pending is not None:
            asked = ask_for_retraining(project, pending)
            said.append(f"verdict {asked.id}: {asked.acted}")
    return said


@task(name="judge", task_run_name="judge", cache_policy=NO_CACHE)
def judge(project: Project, told: Sequence[Channel]) -> Verdict:
    """Compare the traffic with the reference; keep the verdict, show it in the UI, and alert who is to know."""
    from monitoring.run import monitor
    from monitoring.telling import alerting, tell_of

    with alerting(project, told) as alerts:
        verdict = monitor(project, tell=lambda found: tell_of(found, alerts))
    get_run_logger().info("%s", verdict)
    create_markdown_artifact(page(project, verdict), key="verdict", description=f"Verdict {verdict.id}")
    return verdict


@task(name="roll back", task_run_name="roll back", cache_policy=NO_CACHE, retries=1, retry_delay_seconds=10)
def roll_back(project: Project, verdict: Verdict, told: Sequence[Channel]) -> str:
    """Make the version before this one champion again, which every endpoint takes up; and say so."""
    from monitoring.run import mark_rolled_back
    from monitoring.telling import alerting, does_worse
    from recloop.registry.rollback import rollback

    try:
        report = rollback(project, f"verdict {verdict.id}: {verdict.reasons[0]}", expected=verdict.version)
        mark_rolled_back(project, verdict, f"rolled back: {report}")
    finally:  # afterwards: whoever is slow to hear of it keeps nobody's lists bad
        with alerting(project, told) as alerts:
            does_worse(verdict, alerts)
    get_run_logger().warning("%s", report)
    return str(report)


@task(name="ask for retraining", task_run_name="ask for retraining", cache_policy=NO_CACHE)
def ask_for_retraining(project: Project, verdict: Verdict) -> Verdict:
    """Emit the event that starts the training; then the cool-down runs."""
    from monitoring.run import mark_asked

    payload = {"reason": reason(verdict), "verdict_id": str(verdict.id), "version": str(verdict.version)}
    event = emit(DRIFT, model_name=project.params.promotion.model_name, payload=payload)
    get_run_logger().info("emitted %s, event %s: %s", DRIFT, event, payload["reason"])
    return mark_asked(project, verdict, f"event {event}")


def reason(verdict: Verdict) -> str:
    """Why to retrain: the verdict and its figures, in one line."""
    return f"{verdict.verdict}, verdict {verdict.id}: {'; '.join(verdict.reasons)}"


def page(project: Project, verdict: Verdict) -> str:
    lines = [f"# {verdict.verdict}", "", f"Model version {verdict.version}, {verdict.events:,} events.", ""]
    lines += [f"- {line}" for line in verdict.reasons]
    if verdict.signals:
        lines += ["", "| signal | moved by | matters from | chance reaches | drifted |", "|---|---:|---:|---:|---|"]
        for signal in verdict.signals:
            threshold = "" if signal.threshold is None else f"{signal.threshold:g}"
            drifted = f"yes: {signal.severity}" if signal.counts else "yes, awaited" if signal.drifted else ""
            lines.append(f"| {signal.name} | {signal.figure:.3f} | {threshold} | {signal.chance:.3f} | {drifted} |")
    if verdict.report:
        lines += ["", f"Report: `{project.root / verdict.report}`"]
    return "\n".join(lines)
