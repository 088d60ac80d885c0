"""Two processes that answer, and keys: what one takes changes the answers of both."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from recloop.serving.keys import KeyStore
from recloop.storage import connect
from tests.endpoint import Client, Endpoint, make_project, until
from tests.packages import point_at

pytestmark = pytest.mark.xdist_group("workers")

CONNECTIONS = 200
"""So many that both processes have accepted some by then"""


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    project = make_project(
        tmp_path_factory.mktemp("workers") / "project",
        {"serving.workers": 2, "serving.auth": "required", "serving.burst": 2000, "serving.requests_per_second": 1.0},
    )
    endpoint = Endpoint(project)
    point_at(endpoint.live, 1)
    endpoint.start()
    try:
        yield endpoint
    finally:
        endpoint.end(signal.SIGTERM)


@pytest.fixture(scope="module")
def store(endpoint: Endpoint) -> KeyStore:
    return KeyStore(connect(f"sqlite:///{endpoint.database}"))


@pytest.fixture(scope="module")
def clients(endpoint: Endpoint, store: KeyStore) -> list[Client]:
    """Connections to both processes, with a key that is known to both."""
    key = store.create("test", ["recommend", "events", "admin"])
    clients = [endpoint.client(key)]
    until(lambda: clients[0].send("GET", "/model")[0] == 200, 10)
    busy = threading.Event()

    def keep_busy() -> None:  # an idle process would accept everything before the other one is awake
        while not busy.is_set():
            clients[0].send("POST", "/recommend", b"{}")

    thread = threading.Thread(target=keep_busy)
    thread.start()
    try:
        while len(_reached(endpoint)) < 2:
            assert len(clients) < CONNECTIONS, "one process has all the connections: there is nothing to see"
            clients.append(endpoint.client(key))
            clients[-1].connect()
            time.sleep(0.01)
    finally:
        busy.set()
        thread.join()
    for client in clients:
        until(lambda: client.send("GET", "/model")[0] == 200, 10)  # noqa: B023
    return clients


def _reached(endpoint: Endpoint) -> list[psutil.Process]:
    """The processes that somebody is connected to."""
    return [worker for worker in endpoint.workers() if _accepted(worker, endpoint.port)]


def _accepted(worker: psutil.Process, port: int) -> bool:
    connections = worker.net_connections("tcp")
    return any(each.laddr.port == port and each.status == "ESTABLISHED" for each in connections)


def test_an_event_that_one_took_changes_the_answers_of_all_within_a_second(clients: list[Client]) -> None:
    for round_, item in enumerate("bcd"):
        taker = clients[-round_]  # the last one is the other process's
        taker.record({"event_id": f"e{round_}", "user_id": "ann", "item_id": item, "event": "click"})
        acknowledged = time.monotonic()
        assert item not in taker.items(user_id="ann"), "who took it knows at once"
        until(lambda: all(item not in client.items(user_id="ann") for client in clients), 5)  # noqa: B023
        assert time.monotonic() - acknowledged < 1.5  # a second, and the asking


def test_what_one_forgets_all_forget(clients: list[Client]) -> None:
    assert {client.recommend(user_id="bob")["strategy"] for client in clients} == {"model"}
    clients[0].send("DELETE", "/users/bob")
    until(lambda: {client.recommend(user_id="bob")["strategy"] for client in clients} == {"popular"}, 5)


def test_a_swap_reaches_all_and_the_split_too(endpoint: Endpoint, clients: list[Client]) -> None:
    point_at(endpoint.live, 2)
    until(lambda: {client.recommend()["model_version"] for client in clients} == {2}, 20)
    point_at(endpoint.live, 1, pointer="challenger.json")
    clients[0].post("/admin/split", {"challenger": 1.0})
    until(lambda: {client.recommend(user_id="x")["variant"] for client in clients} == {"challenger"}, 20)
    clients[0].post("/admin/split", {"challenger": 0.0})
    until(lambda: {client.recommend(user_id="x")["variant"] for client in clients} == {"champion"}, 20)


def test_nobody_comes_in_without_a_key_that_is_good_for_it(endpoint: Endpoint, store: KeyStore) -> None:
    stranger = endpoint.client()
    assert [stranger.send("GET", path)[0] for path in ("/livez", "/readyz", "/", "/docs.json")] == [200] * 4
    for method, path in (("POST", "/recommend"), ("GET", "/model"), ("GET", "/metrics"), ("DELETE", "/users/ann")):
        status, body = stranger.send(method, path, b"{}" if method == "POST" else None)
        assert (status, json.loads(body)["error"]) == (401, "no key, or one that does not work (any more)")

    key = store.create("page", ["recommend"])
    page = endpoint.client(key)
    until(lambda: page.send("POST", "/recommend", b"{}")[0] == 200, 10)
    for path in ("/events", "/admin/split"):
        status, body = page.send("POST", path, b"{}")
        assert (status, "(page) is good for recommend" in json.loads(body)["error"]) == (403, True)

    store.revoke(key.split("_")[1])
    until(lambda: page.send("POST", "/recommend", b"{}")[0] == 401, 10)


def test_a_key_that_asks_for_too_much_is_told_to_wait(endpoint: Endpoint, store: KeyStore) -> None:
    client = endpoint.client(store.create("greedy", ["events"]))
    events = [{"event_id": f"g{n}", "user_id": "g", "item_id": "a", "event": "view"} for n in range(30)]
    many = json.dumps({"events": events}).encode()
    until(lambda: client.send("POST", "/events", many)[0] == 200, 10)
    until(lambda: client.send("POST", "/events", many)[0] == 429, 20)


def test_an_admins_act_names_the_key(endpoint: Endpoint, store: KeyStore) -> None:
    key = store.create("operator", ["admin"])
    client = endpoint.client(key)
    until(lambda: client.send("POST", "/admin/reload", b"{}")[0] == 200, 10)
    acts = endpoint.rows("SELECT act FROM audit WHERE key_id = ?", key.split("_")[1])
    assert acts == [("reload",)]
