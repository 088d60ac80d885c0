"""The monitor as a flow: judge the traffic, and ask for a retraining if the world has moved.

Asking means an event: the trigger in `prefect.yaml` starts the training because of it, with its reason.
What a task needs is imported by the task: deploying a flow imports this module, and need not pay for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.events import emit
from recloop.errors import RecloopError
from recloop.project import Project

if TYPE_CHECKING:
    from monitoring.verdicts import Verdict

DRIFT = "recloop.drift"


@flow(name="monitoring")
def monitoring() -> State[Any]:
    """Judge the traffic of the live model; ask for a retraining if it has drifted."""
    project = Project.find()
    if not (project.live / "champion.json").exists():
        return Completed(name="Nothing live", message="no model is live yet: there is nothing to monitor")
    try:
        verdict = judge(project)
        if verdict.should_retrain:
            verdict = ask_for_retraining(project, verdict)
        return Completed(message=str(verdict))
    except RecloopError as error:
        return Failed(message=str(error))


@task(name="judge", task_run_name="judge", cache_policy=NO_CACHE)
def judge(project: Project) -> Verdict:
    """Compare the traffic with the reference; keep the verdict, and show it in the UI."""
    from monitoring.run import monitor

    verdict = monitor(project)
    get_run_logger().info("%s", verdict)
    create_markdown_artifact(page(project, verdict), key="verdict", description=f"Verdict {verdict.id}")
    return verdict


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
    return f"drift, verdict {verdict.id}: {'; '.join(verdict.reasons)}"


def page(project: Project, verdict: Verdict) -> str:
    lines = [f"# {verdict.verdict}", "", f"Model version {verdict.version}, {verdict.events:,} events.", ""]
    lines += [f"- {line}" for line in verdict.reasons]
    if verdict.signals:
        lines += ["", "| signal | distance | matters from | chance reaches | drifted |", "|---|---:|---:|---:|---|"]
        for signal in verdict.signals:
            threshold = "" if signal.threshold is None else f"{signal.threshold:g}"
            drifted = "yes" if signal.drifted else ""
            lines.append(f"| {signal.name} | {signal.figure:.3f} | {threshold} | {signal.chance:.3f} | {drifted} |")
    if verdict.report:
        lines += ["", f"Report: `{project.root / verdict.report}`"]
    return "\n".join(lines)
