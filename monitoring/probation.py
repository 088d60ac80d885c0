"""A version that has gone live is on probation: does it do worse than the one before it?"""

from __future__ import annotations

from sqlalchemy import Connection

from monitoring.live import LiveModel
from monitoring.quality import compare_versions, record_of
from monitoring.window import HOUR, Window, count_lists
from recloop.config import Monitoring, Params


def worse_than_before(connection: Connection, params: Params, window: Window, live: LiveModel) -> str | None:
    """By how much the live version does worse than the one before it did, in as long a time, for people.

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
    since_live = Window(live.since, window.shown(live, attribution).end)
    if live.previous is None or window.end - live.since > policy.probation_hours * HOUR:
        return None
    before = Window(2 * live.since - since_live.end, live.since)
    sides = ((live.version, since_live), (live.previous, before))
    if min(count_lists(connection, part, version) for version, part in sides) < policy.min_events:
        return None
    ours, theirs = (record_of(connection, part, attribution, k, version) for version, part in sides)
    if ours is None or theirs is None:
        return None
    found = compare_versions(ours, theirs, "ndcg")
    if not found.worse:
        return None
    low, high = found.difference.low, found.difference.high
    return (
        f"NDCG@{k} of what was shown is {found.live:.4f} under version {live.version}, and was {found.before:.4f} "
        f"under version {live.previous}: {found.difference.mean:+.4f} [{low:+.4f}, {high:+.4f}]"
    )


def attribution_of(policy: Monitoring) -> int:
    """For how long an event counts for a list: µs."""
    return round(policy.attribution_hours * HOUR)
