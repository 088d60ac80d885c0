"""Real events played as live traffic: clients ask for recommendations, and send what their users do."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NEVER_SET = "1970-01-01T00:00:00+00:00"


@dataclass(frozen=True)
class Visit:
    """One event of a user, as a client sends it."""

    event_id: str
    user_id: str
    item_id: str
    event: str
    value: float
    timestamp: str

    def as_json(self) -> dict[str, object]:
        return dict(self.__dict__)


def visits_between(interactions: pa.Table, since: datetime, count: int, spoil_every: int) -> list[Visit]:
    """The first `count` events from `since` on, in order of time, as visits.

    Every `spoil_every`-th one happened in 1970, as from a phone whose clock was never set. The endpoint takes it, which
    cannot know how old a log may be (`gate.earliest`): the gate must keep it out.
    """
    since_then = pa.scalar(since, interactions["timestamp"].type)
    after = interactions.filter(pc.greater_equal(interactions["timestamp"], since_then))
    rows = after.sort_by([("timestamp", "ascending"), ("user_id", "ascending"), ("item_id", "ascending")])
    return [
        Visit(
            event_id=f"demo-{number}",
            user_id=row["user_id"],
            item_id=row["item_id"],
            event=row["event"],
            value=row["value"],
            timestamp=NEVER_SET if number % spoil_every == spoil_every - 1 else _iso(row["timestamp"]),
        )
        for number, row in enumerate(rows.slice(0, count).to_pylist())
    ]


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


@dataclass
class Served:
    """What the clients saw. Latencies are of `POST /recommend`, in ms, connection kept open."""

    requests: int = 0
    failed: int = 0
    latencies: list[float] = field(default_factory=list)
    versions: Counter[int] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.latencies, share)) if self.latencies else float("nan")

    def add(self, other: Served) -> None:
        self.requests += other.requests
        self.failed += other.failed
        self.latencies += other.latencies
        self.versions += other.versions
        self.failures += other.failures


class Client:
    """One connection of a front end to the endpoint."""

    def __init__(self, address: str) -> None:
        self._http = httpx.Client(base_url=address, timeout=10)
        self.served = Served()

    def recommend(self, user_id: str) -> None:
        start = time.perf_counter()
        answer = self._post("/recommend", {"user_id": user_id})
        self.served.latencies.append((time.perf_counter() - start) * 1000)
        if answer is not None:
            self.served.versions[answer.json()["model_version"]] += 1

    def send(self, visits: Sequence[Visit]) -> None:
        self._post("/events", {"events": [visit.as_json() for visit in visits]})

    def _post(self, path: str, body: dict[str, object]) -> httpx.Response | None:
        self.served.requests += 1
        try:
            answer = self._http.post(path, json=body)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            self.served.failed += 1
            self.served.failures[str(error)[:200]] += 1
            return None
        return answer

    def close(self) -> None:
        self._http.close()


def sittings(visits: Sequence[Visit], at_most: int) -> list[list[Visit]]:
    """Each user's successive events, in groups of at most `at_most`, by the time of the first of each."""
    groups: list[list[Visit]] = []
    newest: dict[str, list[Visit]] = {}
    for visit in visits:
        group = newest.get(visit.user_id)
        if group is None or len(group) == at_most:
            group = newest[visit.user_id] = []
            groups.append(group)
        group.append(visit)
    return groups


def play(
    address: str,
    visits: Sequence[Visit],
    on_visit: Callable[[int], None],
    *,
    at_once: int = 2,
    sitting: int = 5,
) -> Served:
    """Play `visits`: a user asks for recommendations, then sends up to `sitting` events, and so on.

    Args:
        address: of the endpoint.
        visits: in order of time.
        on_visit: is told how many events have been sent.
        at_once: connections; each user stays on one, so that their own events stay in order.
        sitting: events between two requests for recommendations.
    """
    lanes: list[list[list[Visit]]] = [[] for _ in range(at_once)]
    lane_of_user: dict[str, int] = {}
    for group in sittings(visits, sitting):
        lanes[lane_of_user.setdefault(group[0].user_id, len(lane_of_user) % at_once)].append(group)

    def run(lane: list[list[Visit]]) -> Served:
        client = Client(address)
        for group in lane:
            client.recommend(group[0].user_id)
            client.send(group)
            on_visit(len(group))
        client.close()
        return client.served

    total = Served()
    with ThreadPoolExecutor(at_once) as pool:
        for served in pool.map(run, lanes):
            total.add(served)
    return total


@contextmanager
def steady_requests(address: str, users: Sequence[str], per_second: float) -> Iterator[Served]:
    """Ask for recommendations at a steady pace in the background, for as long as the block runs.

    The count that it yields grows while it runs; it is what shows whether a swap fails a request.
    """
    client = Client(address)
    stop = threading.Event()

    def run() -> None:
        for user_id in itertools.cycle(users):
            if stop.wait(1 / per_second):
                return
            client.recommend(user_id)

    thread = threading.Thread(target=run, name="steady-requests", daemon=True)
    thread.start()
    try:
        yield client.served
    finally:
        stop.set()
        thread.join()
        client.close()
