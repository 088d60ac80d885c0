"""Who is told of what: alerts of verdicts, and of what became of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from monitoring.alerts import Alert, Alerts
from monitoring.channels import Channel
from monitoring.policy import UNJUDGED
from monitoring.verdicts import Verdict
from recloop.config import SEVERITIES
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
    """Raise one alert for all signals that begin to drift together, for they have one cause as a rule; and resolve what
    has not drifted any more.

    Of a signal that was not compared nothing new is known. While a window goes on, that is every one.
    """
    now, of_version = now_us(), f"drift of version {verdict.version}: "
    if verdict.verdict == "silent":
        title = "no events come in, or hardly any"
        alerts.raise_alert(Alert(f"{SILENCE}no events", "warn", title, "\n".join(verdict.reasons)), now)
    else:
        alerts.resolve(SILENCE, now)
    if verdict.verdict in UNJUDGED:  # but what a version was accused of ended with it
        alerts.resolve("drift of version ", now, still=alerts.causes(of_version))
        return
    compared = {signal.name for signal in verdict.signals}
    drifted = {signal.name: signal for signal in verdict.signals if signal.counts}
    told = [cause.removeprefix(of_version).split(", ") for cause in alerts.causes(of_version)]
    new = [name for name in drifted if not any(name in names for names in told)]
    still = []
    for names in [*told, *([new] if new else [])]:
        cause, found = of_version + ", ".join(names), [drifted[name] for name in names if name in drifted]
        if found:
            gravest = max((signal.severity for signal in found), key=SEVERITIES.index)
            title = f"{_listed([signal.name for signal in found])} drifted under model version {verdict.version}"
            text = "\n".join([*map(str, found), f"verdict {verdict.id}"])
            alerts.raise_alert(Alert(cause, gravest, title, text), now)
        if found or not compared.issuperset(names):
            still.append(cause)
    alerts.resolve("drift of version ", now, still=still)
    alerts.resolve(
        "version ", now, still=() if verdict.verdict != "worse" else (f"version {verdict.version} does worse",)
    )


def _listed(names: Sequence[str]) -> str:
    """`a has`, `a and b have`, `a, b and c have`."""
    *others, last = names
    return f"{', '.join(others)} and {last} have" if others else f"{last} has"


def does_worse(verdict: Verdict, alerts: Alerts) -> None:
    """Raise an alert: a version did worse, and the one before it is to take its place."""
    title = f"model version {verdict.version} does worse, and the one before it is to take its place"
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
