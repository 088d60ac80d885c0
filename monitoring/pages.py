"""What a judged window leaves for people: Evidently's pages in `reports/drift`, and its workspace over time."""

from __future__ import annotations

from typing import Any

from monitoring.figures import drift_figures, figures_snapshot, quality_figures, told
from monitoring.quality import Quality
from monitoring.report import write_report
from monitoring.traffic import Traffic
from monitoring.verdicts import Verdict
from monitoring.workspace import keep
from recloop.project import Project


def write_pages(project: Project, verdict: Verdict, traffic: Traffic, quality: Quality, lists: Any | None) -> str:
    """Write the report of a verdict, and put what was found into the workspace.

    Args:
        project: whose reports.
        verdict: a stored one.
        traffic: what it was found in.
        quality: of the lists.
        lists: Evidently's snapshot of them; None where there were none.

    Returns:
        The path of the first page, relative to the project.

    Raises:
        OSError: it cannot be written.
    """
    count = project.params.monitoring.keep_reports
    snapshots = {name: page.snapshot() for name, page in traffic.pages.items()}
    heading = "\n".join([verdict.summary(), *traffic.notes, *told(quality)])
    path = write_report(project.reports / "drift", verdict.at, snapshots, heading, keep=count)
    drift = {f"drift: {name}": snapshot for name, snapshot in snapshots.items()}
    signals = figures_snapshot(drift_figures(verdict.events, verdict.signals))
    keep(project, verdict.window_to, {**drift, "signals": signals}, verdict.version, count)
    of_lists = {"quality": figures_snapshot(quality_figures(quality, verdict.version)), "recsys": lists}
    keep(project, quality.end, of_lists, verdict.version, count)
    return path.relative_to(project.root).as_posix()
