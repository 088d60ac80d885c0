"""The replay against an endpoint that runs: over HTTP, at the wall clock.

There is no other time than the machine's: events carry their own, but are received now, so the endpoint's monitor sees
years in minutes. Nor is there a policy: whether a version is retrained meanwhile is up to whatever platform runs there.
Only events that the live version cannot know are played.
"""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np

from recloop.config.section import Section
from recloop.errors import EndpointError, StageError
from recloop.replay.endpoint import K
from recloop.replay.figures import discounted
from recloop.replay.log import Log, Played
from recloop.serving.client import Client


class EndpointReport(Section):
    """What a client saw. A list or an event that failed counts as a miss; latencies are in ms."""

    endpoint: str
    events: int
    quality: float
    """NDCG@10, the mean over all played events"""
    hit_rate: float
    failed: int
    """Requests, of lists and of events"""
    p50_ms: float
    p99_ms: float
    """Of /recommend, answers alone"""
    versions: dict[str, int]
    """Version → lists"""
    ndcg_by_window: list[float]
    seconds: float

    def __str__(self) -> str:
        versions = ", ".join(f"version {version} {lists:,}" for version, lists in self.versions.items())
        return (
            f"{self.events:,} events in {self.seconds:.0f} s at {self.endpoint}: NDCG@10 {self.quality:.4f}, "
            f"hits@10 {self.hit_rate:.4f}; {self.failed} requests failed; lists p50 {self.p50_ms:.1f} ms, "
            f"p99 {self.p99_ms:.1f} ms ({versions})"
        )


def play(client: Client, address: str, log: Log) -> EndpointReport:
    """Before each event ask for its user's list, then send the event.

    Args:
        client: of the endpoint.
        address: for the report.
        log: what is played, as far as the live version cannot know it.

    Raises:
        EndpointError: nobody answers when it begins.
        StageError: the live version knows all of the log.
    """
    begun = time.perf_counter()
    bounds = _unknown(log, client.model().newest)
    places: list[int] = []
    latencies: list[float] = []
    versions: Counter[str] = Counter()
    failed = 0
    for event in log.events(bounds[0], bounds[-1]):
        place, request_id = 0, None
        asked = time.perf_counter()
        try:
            answer = client.recommend(event.user_id, k=K)
        except EndpointError:
            failed += 1
        else:
            latencies.append(1000 * (time.perf_counter() - asked))
            versions[str(answer.model_version)] += 1
            items = [item.item_id for item in answer.items]
            if event.item_id in items:
                place, request_id = items.index(event.item_id) + 1, answer.request_id
        places.append(place)
        failed += not _sent(client, event, request_id)
    found = np.array(places)
    ndcg = discounted(found)
    return EndpointReport(
        endpoint=address,
        events=len(places),
        quality=float(ndcg.mean()),
        hit_rate=float((found > 0).mean()),
        failed=failed,
        p50_ms=_percentile(latencies, 50),
        p99_ms=_percentile(latencies, 99),
        versions=dict(versions),
        ndcg_by_window=[float(ndcg[start - bounds[0] : end - bounds[0]].mean()) for start, end in pairwise(bounds)],
        seconds=time.perf_counter() - begun,
    )


def _unknown(log: Log, newest: str | None) -> list[int]:
    """The bounds of the windows, without events that a version knows whose newest one is of that time."""
    if newest is None:
        return list(log.bounds)
    moment = datetime.fromisoformat(newest)
    at = round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1e6)
    first = max(int(np.searchsorted(log.times, at, side="right")), log.bounds[0])
    if first >= log.bounds[-1]:
        raise StageError(
            f"the live version knows events up to {newest}, and {log.gated} has none after that to play",
            remedy="set source.until in params.yaml, train and deploy; then replay a project that has the later events",
        )
    return [first, *(bound for bound in log.bounds if bound > first)]


def _sent(client: Client, event: Played, request_id: str | None) -> bool:
    """Whether the endpoint took an event. Its id is its own: played again, nothing is counted twice."""
    told = {} if request_id is None else {"request_id": request_id}
    try:
        client.record(
            event_id=f"replay-{event.user_id}-{event.item_id}-{event.event}-{event.at}",
            user_id=event.user_id,
            item_id=event.item_id,
            event=event.event,
            value=event.value,
            timestamp=datetime.fromtimestamp(event.at / 1e6, UTC).isoformat(),
            **told,
        )
    except EndpointError:
        return False
    return True


def _percentile(latencies: list[float], share: float) -> float:
    return float(np.percentile(latencies, share)) if latencies else 0.0
