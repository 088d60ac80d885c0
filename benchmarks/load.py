"""Load from a process of its own: as many requests as the server takes, or a fixed number a second.

    python -m benchmarks.load --port 3000 --requests FILE --connections 16 --seconds 10 [--rate 2000]

A line of FILE is a path, a tab and a JSON body; connection after connection takes the next one, from the start again
after the last. Without `--rate` every connection sends its next request when it has its answer. With it, requests are
due at even distances whatever the server does, and a latency counts from when the request was due: a server that
stalls is not spared the requests it made wait. It prints one line of JSON.

It speaks plain HTTP/1.1 over uvloop and reads no more of an answer than its status and length, so that the load costs
little beside what is measured; the peers' load generators in Python take several times as much.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import resource
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import uvloop

Request = tuple[str, bytes]
"""A path, and the whole request to it"""
LATE_SECONDS = 5.0
"""How long answers that are still due at the end are waited for."""


class Load:
    """What is sent, and what came back.

    Args:
        requests: paths and whole requests, in the order they are sent.
        paced: whether they are sent when they are due; else whenever a connection is free.
    """

    def __init__(self, requests: Iterator[Request], paced: bool) -> None:
        self._requests, self._paced = requests, paced
        self._idle: deque[Connection] = deque()
        self._due: deque[float] = deque()
        self.sending = True
        self.latencies: defaultdict[str, list[float]] = defaultdict(list)
        """Path → seconds, in the order of the answers."""
        self.statuses: Counter[str] = Counter()
        self.open = 0
        """Requests without an answer yet."""

    def free(self, connection: Connection) -> None:
        """A connection has nothing to do."""
        if not self._paced:
            if self.sending:
                connection.send(next(self._requests), time.perf_counter())
        elif self._due:
            connection.send(next(self._requests), self._due.popleft())
        else:
            self._idle.append(connection)

    def due(self, at: float) -> None:
        """A request is due at `at`."""
        self.open += 1
        if self._idle:
            self._idle.popleft().send(next(self._requests), at)
        else:
            self._due.append(at)

    def answered(self, path: str, status: str, seconds: float) -> None:
        """An answer is there whole; `status` is three digits, or why there is none."""
        self.open -= self._paced
        self.statuses[status] += 1
        self.latencies[path].append(seconds)


class Connection(asyncio.Protocol):
    """One connection, with one request under way at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport
        self._path, self._since = "", 0.0
        self._waiting = False
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._load.free(self)

    def send(self, request: Request, since: float) -> None:
        """Send `request`, whose latency counts from `since`."""
        self._path, whole = request
        self._since, self._waiting = since, True
        self._transport.write(whole)

    def data_received(self, data: bytes) -> None:
        self._received = received = self._received + data if self._received else data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = received[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(received) < end + 4 + length:
            return
        self._received, self._waiting = b"", False
        self._load.answered(self._path, head[9:12].decode(), time.perf_counter() - self._since)
        if b"connection: close" not in head:  # else connection_lost comes
            self._load.free(self)

    def connection_lost(self, _error: Exception | None) -> None:
        if self._waiting:
            self._load.answered(self._path, "closed", time.perf_counter() - self._since)
        if self._load.sending:
            asyncio.get_running_loop().create_task(self._again())

    async def _again(self) -> None:
        """Another connection in this one's place."""
        transport = self._transport.get_extra_info("peername")
        try:
            await asyncio.get_running_loop().create_connection(lambda: Connection(self._load), *transport[:2])
        except OSError:
            self._load.statuses["refused"] += 1
            await asyncio.sleep(0.1)
            if self._load.sending:
                await self._again()


async def run(host: str, port: int, requests: list[Request], connections: int, seconds: float, rate: float) -> Load:
    """Send for `seconds` over so many connections; `rate` requests a second, or as many as go for 0."""
    load = Load(itertools.cycle(requests), paced=rate > 0)
    loop = asyncio.get_running_loop()
    begin = time.perf_counter()
    await asyncio.gather(*(loop.create_connection(lambda: Connection(load), host, port) for _ in range(connections)))
    if rate:
        for number in range(int(seconds * rate)):
            at = begin + number / rate
            if (wait := at - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            load.due(at)
    else:
        await asyncio.sleep(seconds)
    load.sending = False
    until = time.perf_counter() + LATE_SECONDS
    while load.open > 0 and time.perf_counter() < until:
        await asyncio.sleep(0.01)
    load.statuses["unanswered"] += max(0, load.open)
    return load


def read_requests(path: Path, headers: dict[str, str]) -> list[Request]:
    """Paths and whole requests from lines of a path, a tab and a body."""
    further = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    requests = []
    for line in path.read_bytes().splitlines():
        target, _, body = line.partition(b"\t")
        head = f"Host: localhost\r\nContent-Type: application/json\r\n{further}Content-Length: {len(body)}\r\n\r\n"
        requests.append((target.decode(), b"POST " + target + b" HTTP/1.1\r\n" + head.encode() + body))
    return requests


def quantiles(seconds: Iterable[float]) -> dict[str, float]:
    """Of latencies, in milliseconds."""
    found = np.fromiter(seconds, float)
    shares = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99, "p999_ms": 0.999}
    return {name: round(1000 * float(np.quantile(found, share)), 3) for name, share in shares.items() if len(found)}


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--host", default="127.0.0.1")
    told.add_argument("--port", type=int, required=True)
    told.add_argument("--requests", type=Path, required=True, help="lines of: path, tab, JSON body")
    told.add_argument("--skip", type=int, default=0, help="requests at the start of the file that are not sent")
    told.add_argument("--connections", type=int, default=16)
    told.add_argument("--seconds", type=float, default=10.0)
    told.add_argument("--rate", type=float, default=0.0, help="requests a second; 0: as many as go")
    told.add_argument("--header", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    given = told.parse_args()
    requests = read_requests(given.requests, dict(given.header))
    skip = given.skip % len(requests)
    requests = requests[skip:] + requests[:skip]
    begin = time.perf_counter()
    load = uvloop.run(run(given.host, given.port, requests, given.connections, given.seconds, given.rate))
    took = min(time.perf_counter() - begin, given.seconds)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    answered = load.statuses["200"]
    print(
        json.dumps(
            {
                "connections": given.connections,
                "seconds": round(took, 3),
                "rate": given.rate,
                "answered": answered,
                "per_second": round(answered / took, 1),
                "statuses": {name: count for name, count in load.statuses.items() if count},
                **quantiles(itertools.chain.from_iterable(load.latencies.values())),
                "by_path": {path: {"count": len(own), **quantiles(own)} for path, own in load.latencies.items()},
                "load_cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
