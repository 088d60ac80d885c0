"""An endpoint that is asked too much at once, or by halves: what is too much is told so, and the rest stays quick."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from recloop.serving.keys import KeyStore
from recloop.storage import connect
from tests.endpoint import Client, Endpoint, make_project, until
from tests.packages import point_at

pytestmark = pytest.mark.xdist_group("crowding")


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    settings: dict[str, object] = {
        "serving.max_requests": 4,
        "serving.auth": "required",
        "serving.burst": 200,
        "serving.requests_per_second": 0.01,
    }
    endpoint = Endpoint(make_project(tmp_path_factory.mktemp("crowding") / "project", settings))
    point_at(endpoint.live, 1)
    with endpoint.running():
        yield endpoint


@pytest.fixture
def key(endpoint: Endpoint) -> str:
    """A key that nobody else uses, and so its tokens."""
    database = connect(f"sqlite:///{endpoint.database}")
    key = KeyStore(database).create("shop", ["recommend", "events"])
    database.dispose()
    until(lambda: endpoint.client(key).send("GET", "/model")[0] == 200, 10)
    return key


def head(key: str, length: int) -> bytes:
    lines = ("POST /recommend HTTP/1.1", "Host: localhost", f"Authorization: Bearer {key}", f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def half_sent(endpoint: Endpoint, key: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", endpoint.port), timeout=20)
    connection.sendall(head(key, 100) + b"{")
    return connection


def answer_of(connection: socket.socket) -> tuple[int, str]:
    """Status and all else, until it is closed."""
    pieces = []
    while piece := connection.recv(65_536):
        pieces.append(piece)
    text = b"".join(pieces).decode()
    return int(text.split()[1]), text


def test_whoever_sends_half_a_body_takes_nobodys_place_and_is_not_waited_for(endpoint: Endpoint, key: str) -> None:
    client = endpoint.client(key)
    halves = [half_sent(endpoint, key) for _ in range(20)]
    begun = time.monotonic()
    for _ in range(20):
        client.recommend(user_id="ann")
    assert time.monotonic() - begun < 5
    told = [answer_of(connection) for connection in halves]
    assert 9 < time.monotonic() - begun < 15
    assert {status for status, _ in told} == {408}
    assert "the body did not come in 10 s" in told[0][1]
    half = half_sent(endpoint, key)
    begun = time.monotonic()
    endpoint.end(signal.SIGTERM)
    assert time.monotonic() - begun < 20
    assert answer_of(half)[0] == 408
    endpoint.start()


def test_what_is_too_much_is_refused_at_once_and_the_others_stay_quick(endpoint: Endpoint, key: str) -> None:
    """It is held while they come, so that it finds them all there."""
    (worker,) = endpoint.workers()
    connections = [socket.create_connection(("127.0.0.1", endpoint.port), timeout=20) for _ in range(40)]
    for connection in connections:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.recv(65_536)
    worker.suspend()
    for number, connection in enumerate(connections):
        body = json.dumps({"user_id": "ann", "context": {"visit": str(number)}}).encode()
        connection.sendall(head(key, len(body)).replace(b"Host", b"Connection: close\r\nHost") + body)
    begun = time.monotonic()
    worker.resume()
    told = [answer_of(connection) for connection in connections]
    assert time.monotonic() - begun < 2
    served, refused = ([text for status, text in told if status == wanted] for wanted in (200, 503))
    assert len(served) + len(refused) == 40
    assert len(served) >= 4
    assert len(refused) >= 20
    assert all("retry-after: 1\r\n" in text for text in refused)
    assert "4 requests are under way already" in refused[0]
    until(lambda: shed(endpoint.client(key)) >= len(refused), 5)


def shed(client: Client) -> float:
    return client.metrics()["recloop_requests_shed_total"]


def test_what_waits_for_the_database_takes_half_of_the_places(endpoint: Endpoint, key: str) -> None:
    client, told = endpoint.client(key), list[tuple[int, str | None]]()

    def send(number: int) -> None:
        event = {"event_id": f"lock-{number}", "user_id": "ann", "item_id": "a", "event": "click"}
        body = json.dumps({"events": [event]}).encode()
        status, headers, _ = endpoint.client(key).exchange("POST", "/events", body)
        told.append((status, headers.get("retry-after")))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(6)]
    with closing(sqlite3.connect(endpoint.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for thread in threads:
            thread.start()
        until(lambda: len(told) == 4, 3)
        for _ in range(20):
            client.recommend(user_id="ann")
        other.execute("ROLLBACK")
    for thread in threads:
        thread.join()
    assert told == [(503, "1")] * 4 + [(200, None)] * 2


def test_a_key_that_asks_for_too_much_is_told_when_to_come_back(endpoint: Endpoint, key: str) -> None:
    client = endpoint.client(key)
    answers = [client.exchange("POST", "/recommend", b"{}") for _ in range(201)]
    status, headers, body = answers[-1]
    assert (answers[0][0], status) == (200, 429)
    assert 90 < int(headers["retry-after"]) <= 100
    assert json.loads(body)["remedy"] == f"send it again in {headers['retry-after']} s"
