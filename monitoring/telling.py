"""Who is told of what: alerts of verdicts, and of what became of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from monitoring.alerts import Alert, Alerts
from monitoring.channels import Channel
from monitoring.policy import UNJUDGED
from monitoring.verdicts import Verdict
from recloop.errors import DatabaseError
from recloop.project import Project
from recloop.storage import connect, now_us, unconnected

SILENCE = "silence: "


@contextmanager
def alerting(project: Project, channels: Sequence[Channel]) -> Iterator[Alerts]:
    """The project's alerts; what could not be told before is tried again at the end.

    Args:
        project: whose.
        channels: who is told beside the log.
    """
    try:
        database = connect(project.database_url)
    except DatabaseError:  # of which people are to hear, too
        database = unconnected(project.database_url)
    try:
        alerts = Alerts(database, project.params.alerts, channels, unrecorded=project.var / "alerts-unrecorded.json")
        yield alerts
        alerts.send(now_us())
    finally:
        database.dispose()


def tell_of(verdict: Verdict, alerts: Alerts) -> None:
    """Raise an alert for every signal that has drifted and is worth one, and resolve those that have not any more.

    While a window goes on, nothing new is known of what has drifted.
    """
    now, of_version = now_us(), f"drift of version {verdict.version}: "
    if verdict.verdict == "silent":
        alerts.raise_alert(Alert(f"{SILENCE}no events", "warn", "no events come in", "\n".join(verdict.reasons)), now)
    else:
        alerts.resolve(SILENCE, now)
    if verdict.verdict in UNJUDGED:
        return
    told = {f"{of_version}{signal.name}": signal for signal in verdict.signals if signal.counts}
    for cause, signal in told.items():
        title = f"{signal.name} has drifted under model version {verdict.version}"
        alerts.raise_alert(Alert(cause, signal.severity, title, f"{signal}\nverdict {verdict.id}"), now)
    if verdict.signals or verdict.verdict != "worse":  # found on probation, within a window, it says nothing of drift
        alerts.resolve("drift of version ", now, still=told)
    alerts.resolve(
        "version ", now, still=() if verdict.verdict != "worse" else (f"version {verdict.version} does worse",)
    )


def does_worse(verdict: Verdict, alerts: Alerts) -> None:
    """Raise an alert: a version did worse than the one before it, which takes its place."""
    title = f"model version {verdict.version} does worse than the one before it, and is rolled back"
    cause = f"version {verdict.version} does worse"
    alerts.raise_alert(Alert(cause, "roll back", title, "\n".join(verdict.reasons)), now_us())


def monitor_failed(why: str, alerts: Alerts) -> None:
    """Raise an alert: the traffic could not be judged, or what follows from that not be done."""
    alerts.raise_alert(Alert("monitoring failed: it", "error", "the monitor failed", why), now_us())


def monitor_succeeded(alerts: Alerts) -> None:
    """Resolve what it failed with before."""
    alerts.resolve("monitoring failed: ", now_us())


def training_failed(kind: str, why: str, alerts: Alerts) -> None:
    """Raise an alert: a training came to nothing.

    Args:
        kind: what stopped it, e.g. `gate`: one cause each.
        why: for people.
        alerts: who is told.
    """
    title = f"training failed: {kind}; the champion stays"
    alerts.raise_alert(Alert(f"training failed: {kind}", "error", title, why), now_us())


def training_succeeded(alerts: Alerts) -> None:
    """Resolve what trainings failed with before."""
    alerts.resolve("training failed: ", now_us())
