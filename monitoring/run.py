"""One run of the monitor: window → features → Evidently → policy → report → verdict in the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from sqlalchemy import Engine

from monitoring import verdicts
from monitoring.live import live_model
from monitoring.policy import judge, too_few
from monitoring.report import write_report
from monitoring.traffic import Compared, compare_traffic
from monitoring.verdicts import Verdict
from monitoring.window import Window, count_events
from recloop.project import Project
from recloop.storage import connect, now_us


def monitor(project: Project, clock: Callable[[], int] = now_us) -> Verdict:
    """Compare the traffic since the live model went live, or of the last hours, with the training reference.

    The verdict is stored, and a report written where there was enough traffic. Nothing is started: whoever
    called asks for a retraining if `should_retrain`, and then says so with `mark_asked`.

    Args:
        project: whose traffic.
        clock: the time in µs since 1970 (UTC).

    Raises:
        RegistryError: no model is live.
        StageError: the gated data is missing or damaged.
    """
    policy = project.params.monitoring
    live = live_model(project.live)
    at = clock()
    window = Window.ending(at, policy.window_hours, live)
    with _database(project) as database:
        compared = None
        with database.connect() as connection:
            events = count_events(connection, window)
            judgement = too_few(events, policy.min_events)
            if judgement is None:
                compared = compare_traffic(connection, project.gated, window, live, policy)
                judgement = judge(compared.findings, policy.thresholds.model_dump(), policy.min_drifted_signals)
        verdict = Verdict(
            id=0,
            at=at,
            window_from=window.start,
            window_to=window.end,
            version=live.version,
            events=events,
            verdict=judgement.outcome,
            signals=judgement.signals,
            reasons=judgement.reasons,
            report=None,
        )
        if verdict.verdict == "drift":
            last = verdicts.last_asked(database)
            verdict = replace(verdict, acted=verdicts.cooling(last, at, policy.cooldown_hours))
        if compared is not None:
            verdict = replace(verdict, report=_report(project, verdict, compared))
        return verdicts.store(database, verdict)


def mark_asked(project: Project, verdict: Verdict, how: str) -> Verdict:
    """Note that a retraining was asked for because of `verdict`: the cool-down starts.

    Args:
        project: whose verdict.
        verdict: as `monitor` returned it.
        how: e.g. the id of the event that was emitted.
    """
    with _database(project) as database:
        return verdicts.mark_asked(database, verdict, how)


def _report(project: Project, verdict: Verdict, compared: Compared) -> str:
    """Write the pages; returns the path of the first, relative to the project."""
    path = write_report(
        project.reports / "drift",
        verdict.at,
        {name: page.snapshot for name, page in compared.pages.items()},
        "\n".join([verdict.summary(), *compared.notes]),
        keep=project.params.monitoring.keep_reports,
    )
    return path.relative_to(project.root).as_posix()


@contextmanager
def _database(project: Project) -> Iterator[Engine]:
    database = connect(project.database_url)
    try:
        yield database
    finally:
        database.dispose()
