"""One run of the monitor: window → features → Evidently → policy → report → verdict in the database."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection, Engine

from monitoring import verdicts
from monitoring.backend import duckdb
from monitoring.live import LiveModel, live_model
from monitoring.moments import spoken
from monitoring.pace import Pace, rate, usual_pace
from monitoring.pages import write_pages
from monitoring.policy import Judgement, judge, or_worse, quiet_until, with_new_data
from monitoring.probation import worse_than_before
from monitoring.quality import Quality, quality_of
from monitoring.recsys import recsys_snapshot
from monitoring.refused import sent_in
from monitoring.seen import look
from monitoring.traffic import Traffic, compare_traffic
from monitoring.verdicts import Verdict
from monitoring.window import HOUR, Window, attribution_of, count_events, count_new, newest_event
from recloop.config import Monitoring
from recloop.errors import RegistryError, StageError
from recloop.exclusive import Lock
from recloop.project import Project
from recloop.storage import connect, now_us

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

logger = logging.getLogger("recloop.monitoring")

LOOKED_BACK = 100
"""Earlier windows of a version that are remembered: for how many in a row, and for what is usual"""
MOST_DOUBLINGS = 6
TRICKLE = 0.1
"""Less than so much of what usually comes in is as good as nothing"""
MOST_REFUSED = 0.5
"""Where more of what is sent is refused, nobody waits for the window's end"""
CameTo = Literal["nothing", "cancelled"]
ASK_AGAIN = HOUR
"""An event that no training has taken up by then is taken to be lost"""


def monitor(
    project: Project,
    clock: Callable[[], int] = now_us,
    *,
    tell: Callable[[Verdict], None] = lambda _verdict: None,
    pages: bool = True,
) -> Verdict:
    """Judge the traffic since the last window of the live model that was judged, where there is enough of it.

    The verdict is stored, and a report written where there was enough traffic. Nothing is started: whoever called asks
    for the retraining that is `due`, and then says so with `mark_asked`.

    Args:
        project: whose traffic.
        clock: the time in µs since 1970 (UTC).
        tell: is told of the verdict once it is stored, before anything is written that may fail.
        pages: whether a report is written; the verdict is the same without.

    Raises:
        RegistryError: no model is live.
        StageError: the gated data is missing or damaged.
        BusyError: another process judges the same window.
    """
    policy = project.params.monitoring
    live = live_model(project.live)
    at = clock()
    with Lock(project.var / "monitor.lock", "a monitor"), _database(project) as database, ExitStack() as stack:
        earlier = verdicts.judged(database, live.version, live.since, at, LOOKED_BACK)
        window = Window.after(earlier[0].window_to if earlier else None, at, live)
        paces = [Pace.of(verdict) for verdict in earlier]
        found: Found | None = None
        with database.connect() as connection:
            events = count_events(connection, window)
            judgement = not_yet(events, window, policy)
            if judgement is not None:
                judgement = silent(connection, window, live, policy, paces) or judgement
            else:
                found = find(stack.enter_context(duckdb()), connection, project, window, live, paces)
                drifted = [{signal.name for signal in verdict.signals if signal.drifted} for verdict in earlier]
                back = live.previous is not None and not live.rolled_back
                judgement = judge(found.traffic.findings, policy.signals, drifted, can_roll_back=back)
                vain = verdicts.in_vain(database, live.version, live.since)
                asked = [each.asked_at for each in vain if each.asked_at is not None and each.asked_at <= at]
                new = count_new(connection, live, max(asked, default=0))
                judgement = with_new_data(judgement, new, found.traffic.learnt, policy.new_data)
            # In every run, and not with the window alone: of a bad version there is to be no day more than it takes.
            if judgement.outcome != "silent":
                judgement = or_worse(judgement, worse_than_before(connection, project.params, window, live))
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
            quality=None if found is None else json.loads(json.dumps(asdict(found.quality))),
        )
        if verdict.wants_training:
            verdict = replace(verdict, acted=_waits(database, live, at, policy))
        verdict = verdicts.store(database, verdict)
        tell(verdict)
        if pages and found is not None:
            try:
                report = write_pages(project, verdict, found.traffic, found.quality, found.lists())
                verdict = verdicts.note(database, verdict, report=report)
            except Exception as error:  # of Evidently's or of whatever lies under it: no page keeps anybody from acting
                logger.error("the report on verdict %d is not whole: %s: %s", verdict.id, type(error).__name__, error)
        return verdict


@dataclass(frozen=True)
class Found:
    """What a window is judged by, and the pages on it are made of."""

    traffic: Traffic
    quality: Quality
    lists: Callable[[], Any | None]
    """Evidently's snapshot of the lists"""


def find(
    backend: Backend, connection: Connection, project: Project, window: Window, live: LiveModel, paces: Sequence[Pace]
) -> Found:
    """Look at the traffic of a window, and compare it with what was before.

    Args:
        backend: an Ibis DuckDB backend.
        connection: to the database of the endpoint.
        project: whose traffic.
        window: what is judged.
        live: the model that is served.
        paces: of the windows that were judged before.

    Raises:
        StageError: the gated data is missing or damaged.
    """
    params, attribution = project.params, attribution_of(project.params.monitoring)
    seen = look(backend, connection, window, live, params)
    return Found(
        traffic=compare_traffic(backend, connection, project.gated, seen, live, params, paces),
        quality=quality_of(seen.tallies, seen.shown, attribution, params.monitoring.clip),
        lists=partial(recsys_snapshot, backend, seen.feedback, project.gated, live, seen.shown, seen.tallies.k),
    )


def due(
    project: Project,
    clock: Callable[[], int] = now_us,
    *,
    came_to: Callable[[str], CameTo | None] = lambda _training: None,
) -> Verdict | None:
    """The verdict that a retraining is to be asked for now; None: nothing is due.

    That is the newest one on the live model that is a reason to retrain: once the cool-down and the quiet hours are
    over, and again where what was asked for never began, or began and was cut off or failed. What a person has
    cancelled is not asked for again; only what a training had taken up that had begun for another reason.

    Args:
        project: whose verdicts.
        clock: the time in µs since 1970 (UTC).
        came_to: what a training came to that took up a verdict, and never said what came of it; None: it goes on.

    Raises:
        RegistryError: no model is live.
    """
    policy, live, at = project.params.monitoring, live_model(project.live), clock()
    with _database(project) as database:
        verdict = verdicts.open_verdict(database, live.version, live.since)
        if verdict is None:
            return None
        lost = False
        if verdict.taken is not None:
            how = came_to(verdict.taken)
            if how == "cancelled":
                verdicts.cancel(database, verdict.taken)
                verdict = verdicts.open_verdict(database, live.version, live.since)
            if how is None or verdict is None:
                return None
        elif verdict.asked_at is not None:
            lost = abs(at - verdict.asked_at) >= ASK_AGAIN  # or the clock went ahead then
            if not lost:
                return None
        quiet = quiet_until(at, policy.quiet_hours)
        waits = (quiet and f"quiet hours until {quiet}") if lost else _waits(database, live, at, policy)
        if waits is None:  # free only now: until then whoever cut it off, or failed, keeps it, and the cool-down holds
            return verdict if verdict.taken is None else verdicts.note(database, verdict, taken=None)
        if waits != verdict.acted and not verdict.failed:  # why it failed says more than that it waits
            verdicts.note(database, verdict, acted=waits)
        return None


def mark_asked(project: Project, verdict: Verdict, how: str, clock: Callable[[], int] = now_us) -> Verdict:
    """Note that a retraining was asked for because of `verdict`: the cool-down starts.

    Args:
        project: whose verdict.
        verdict: as `due` returned it.
        how: e.g. the id of the event that was emitted.
        clock: the time in µs since 1970 (UTC).
    """
    with _database(project) as database:
        return verdicts.mark_asked(database, verdict, how, clock())


def worse(project: Project) -> Verdict | None:
    """The verdict that the live version does worse, as long as nothing was done about it."""
    live = live_model(project.live)
    with _database(project) as database:
        newest = verdicts.concluded(database, live.version, live.since)
    return newest if newest is not None and newest.verdict == "worse" and newest.acted is None else None


def mark_rolled_back(project: Project, verdict: Verdict, how: str) -> Verdict:
    """Note what was done about a version that does worse."""
    with _database(project) as database:
        return verdicts.note(database, verdict, acted=how)


def take(project: Project, verdict_id: int, training: str) -> bool:
    """Take up a verdict in a training. False: another training has, or the version that it accuses is live no more, so
    that there is nothing to do."""
    with _database(project) as database:
        accused = verdicts.version_of(database, verdict_id)
        if accused is not None and accused != live_model(project.live).version:
            return False
        return verdicts.take(database, verdict_id, training)


def take_waiting(
    project: Project,
    training: str,
    clock: Callable[[], int] = now_us,
    *,
    came_to: Callable[[str], CameTo | None] = lambda _training: None,
) -> None:
    """Take up what waits for a training, in one that began for another reason: it learns from the same events. The
    cool-down starts.

    Args:
        project: whose verdicts.
        training: the run that is under way.
        clock: the time in µs since 1970 (UTC).
        came_to: as `due` has it.
    """
    try:
        live = live_model(project.live)
    except (RegistryError, StageError):  # none is, or it is damaged: a training is what mends that
        return
    with _database(project) as database:
        found = verdicts.open_verdict(database, live.version, live.since)
        if found is None or found.taken == training:
            return
        if found.taken is None or found.failed or came_to(found.taken) is not None:
            acted = f"{verdicts.IN_PLACE}: run {training} had begun"
            verdicts.note(database, found, taken=training, acted=acted, asked_at=clock())


def end(project: Project, training: str, how: str) -> None:
    """Note what came of a training, in the verdicts that it has taken up."""
    with _database(project) as database:
        verdicts.end(database, training, how)


def silent(
    connection: Connection, window: Window, live: LiveModel, policy: Monitoring, paces: Sequence[Pace]
) -> Judgement | None:
    """`silent`, if for too long nothing has come in, or hardly anything, or if most is refused; None: it is not.

    Args:
        connection: to the database of the endpoint.
        window: one that goes on.
        live: the version that is served.
        policy: how long is too long.
        paces: of the windows that were judged before.
    """
    sent = sent_in(connection, window)
    if sent.refused.total() >= policy.min_events and sent.share > MOST_REFUSED:
        reason = f"{sent.refused.total():,} of {sent.events:,} events that were sent were refused: {sent.named()}"
        return Judgement("silent", reasons=(reason,))
    if policy.silence_hours is None:
        return None
    since = newest_event(connection) or live.since
    hours = (window.end - since) / HOUR
    if hours >= policy.silence_hours:
        found = f"no event has come in for {hours:,.0f} h, since {spoken(since)}"
    else:
        lately = Window(window.end - round(policy.silence_hours * HOUR), window.end)
        came, usual = rate(count_events(connection, lately), lately), usual_pace(paces)
        if lately.start < live.since or usual is None or came >= TRICKLE * usual:
            return None
        found = f"{came:,.1f} events an hour came in for {policy.silence_hours:g} h, where {usual:,.0f} are usual"
    reason = (
        f"{found}; monitoring.silence_hours is {policy.silence_hours:g}. Either nobody came, or what they do does not "
        "reach POST /events any more, or is refused there"
    )
    return Judgement("silent", reasons=(reason,))


def fail(project: Project, training: str, why: str) -> None:
    """Note that a training came to nothing: the verdict that it has taken up is asked for again."""
    with _database(project) as database:
        verdicts.fail(database, training, why)


def not_yet(events: int, window: Window, policy: Monitoring) -> Judgement | None:
    """`insufficient`, if the window goes on; None: it is to be judged."""
    if events < policy.min_events:
        return Judgement(
            "insufficient",
            reasons=(f"{events:,} events in the window; monitoring.min_events is {policy.min_events:,}",),
        )
    hours = (window.end - window.start) / HOUR
    if events < policy.window_events and hours < policy.window_hours:
        reason = (
            f"the window goes on: {events:,} events in {hours:.1f} h; it is judged after monitoring.window_hours, "
            f"{policy.window_hours:g}, or with monitoring.window_events, {policy.window_events:,}"
        )
        return Judgement("insufficient", reasons=(reason,))
    return None


def _waits(database: Engine, live: LiveModel, at: int, policy: Monitoring) -> str | None:
    """Why a retraining is not asked for now; None: it may be. The rest doubles with every training in vain."""
    vain = min(len(verdicts.in_vain(database, live.version, live.since)), MOST_DOUBLINGS)
    asked = verdicts.last_asked(database, at, ASK_AGAIN)
    cooling = verdicts.cooling(asked, at, policy.cooldown_hours * 2**vain)
    quiet = quiet_until(at, policy.quiet_hours)
    return cooling or (f"quiet hours until {quiet}" if quiet else None)


@contextmanager
def _database(project: Project) -> Iterator[Engine]:
    database = connect(project.database_url)
    try:
        yield database
    finally:
        database.dispose()
