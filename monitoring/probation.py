"""A version that has gone live is on probation: does it do worse than the one before it?"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, func, select

from monitoring.backend import duckdb
from monitoring.feedback import read_feedback
from monitoring.live import LiveModel
from monitoring.quality import Record, compare_versions, record_of, shown_to_enough
from monitoring.tallies import Tallies
from monitoring.window import HOUR, Window, attribution_of, count_lists, newest_event
from recloop.config import Params
from recloop.serving.impressions import impressions

DAY = 24 * HOUR
DAYS = 7
"""So far is gone back"""
WIDER = 1.6
"""The interval is taken so much wider, for a version is looked at again in every run of the monitor: of those that are
no worse than the one before, 1.1% are found worse in some one of 72 looks (200,000 random walks)"""


def worse_than_before(connection: Connection, params: Params, window: Window, live: LiveModel) -> str | None:
    """By how much the live version does worse than the one before it did, in as long a time, for people.

    That is at the same hours of the days before it went live, for by night others come than by day; where the one
    before it was not live then, the time right before. Where that one has shown too little, it is the one before it.

    Args:
        connection: to the database of the endpoint.
        params: `params.yaml`.
        window: the one that is judged.
        live: the version that is served.

    Returns:
        None where it does not, or is on probation no more, or one of them has shown too little.
    """
    policy, k = params.monitoring, params.serving.default_k
    attribution = attribution_of(policy)
    # Where events stopped coming in, nothing can have been taken since: that accuses nobody.
    judged_until = min(window.shown(live, attribution).end, (newest_event(connection) or 0) - attribution)
    since_live = Window(live.since, max(live.since, judged_until))
    if live.previous is None or window.end - live.since > policy.probation_hours * HOUR:
        return None
    if live.rolled_back:  # what it took the place of is no measure for it
        return None
    ours = _record(connection, params, since_live, live.version)
    if ours is None or shown_to_enough(ours) < policy.min_events:
        return None
    measured = _earlier(connection, params, live, since_live.end - since_live.start)
    if measured is None:
        return None
    version, theirs = measured
    found = compare_versions(ours, theirs, "ndcg")
    wide = found.difference.mean + WIDER * (found.difference.high - found.difference.mean)
    if wide >= 0:
        return None
    low, high = found.difference.low, found.difference.high
    return (
        f"NDCG@{k} of what was shown is {found.live:.4f} under version {live.version}, and was {found.before:.4f} "
        f"under version {version}: {found.difference.mean:+.4f} [{low:+.4f}, {high:+.4f}]"
    )


def _earlier(connection: Connection, params: Params, live: LiveModel, length: int) -> tuple[int, Record] | None:
    """The last version before `live` that has shown enough, and what came of so long a time of it."""
    fewest = params.monitoring.min_events
    days = -(-length // DAY)
    for version in _versions(connection, live):
        for back in (*(day * DAY for day in range(days, days + DAYS)), length):
            before = Window(live.since - back, live.since - back + length)
            if count_lists(connection, before, version) >= fewest:
                found = _record(connection, params, before, version)
                if found is not None and shown_to_enough(found) >= fewest:
                    return version, found
    return None


def _versions(connection: Connection, live: LiveModel) -> Iterator[int]:
    """That which was live before `live`, and those before that one, newest first."""
    if live.previous is None:
        return
    yield live.previous
    shown = impressions.c.served_at
    query = (
        select(impressions.c.version)
        .where(shown >= live.since - DAYS * DAY, shown < live.since, impressions.c.variant == "champion")
        .where(impressions.c.version.not_in([live.version, live.previous]))
        .group_by(impressions.c.version)
        .order_by(func.max(shown).desc())
    )
    yield from connection.execute(query).scalars()


def _record(connection: Connection, params: Params, window: Window, version: int) -> Record | None:
    with duckdb() as backend:
        feedback = read_feedback(backend, connection, window, attribution_of(params.monitoring))
        return record_of(Tallies(backend, feedback, params.serving.default_k), window, version)
