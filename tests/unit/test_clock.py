"""An endpoint whose clock is set, while it runs, a day forwards and from there two days back, to before its start."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from recloop.serving.events import Event, EventStore
from recloop.serving.keys import KeyStore
from recloop.storage import connect, now_us
from tests.clock import DAY_US, WallClock, days_ahead
from tests.endpoint import Client, Endpoint, make_project, until
from tests.packages import point_at, write_package

pytestmark = pytest.mark.xdist_group("clock")

TURNS = (0, 1, -1)
"""Days ahead of the true time, in this order"""


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> WallClock:
    return WallClock(tmp_path_factory.mktemp("clock") / "ahead")


@pytest.fixture(autouse=True)
def _set_right(clock: WallClock) -> Iterator[None]:
    yield
    clock.turn(0)


@pytest.fixture(scope="module")
def endpoint(clock: WallClock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    project = make_project(
        tmp_path_factory.mktemp("turned") / "project",
        {"serving.auth": "required", "serving.burst": 900, "serving.requests_per_second": 0.001},
    )
    endpoint = Endpoint(project, clock.environment)
    write_package(endpoint.live / "v1", counts={item: 8 - place for place, item in enumerate("abcdefgh")})
    point_at(endpoint.live, 1)
    with endpoint.running():
        yield endpoint


@pytest.fixture
def keys(endpoint: Endpoint) -> KeyStore:
    return KeyStore(connect(f"sqlite:///{endpoint.database}"))


@pytest.fixture
def client(endpoint: Endpoint, keys: KeyStore) -> Client:
    client = endpoint.client(keys.create("test", ["recommend", "events", "admin"]))
    until(lambda: client.send("GET", "/model")[0] == 200, 10)
    return client


def event(event_id: str, **fields: object) -> dict[str, object]:
    return {"event_id": event_id, "user_id": "nobody", "item_id": "a", "event": "click"} | fields


def test_every_event_counts_in_its_order_and_every_list_is_written_down(
    endpoint: Endpoint, client: Client, clock: WallClock
) -> None:
    elsewhere = EventStore(connect(f"sqlite:///{endpoint.database}"))  # another process, whose clock is right
    shown = {}
    for days, (own, others) in zip(TURNS, ("ab", "cd", "ef"), strict=True):
        clock.turn(days)
        client.record(event(own, user_id="kim", item_id=own))
        answer = client.recommend(user_id="kim")
        assert own not in [item["item_id"] for item in answer["items"]], "an acknowledged event changes the next answer"
        shown[answer["request_id"]] = days
        elsewhere.add([Event(others, "kim", others, "click", 1.0)])
        until(lambda: others not in client.items(user_id="kim"), 10)  # noqa: B023
    assert client.items(user_id="kim") == ["g", "h"]
    told = json.loads(client.send("GET", "/users/kim")[1])
    assert [known["item_id"] for known in told["history"]] == list("abcdef")

    stored = endpoint.rows("SELECT item_id, received_at FROM events WHERE user_id = 'kim' ORDER BY seq")
    assert [(item, days_ahead(at)) for item, at in stored] == [
        ("a", 0), ("b", 0), ("c", 1), ("d", 0), ("e", -1), ("f", 0),
    ]  # fmt: skip
    for request_id, days in shown.items():
        query = "SELECT served_at FROM impressions WHERE request_id = ?"
        until(lambda: len(endpoint.rows(query, request_id)) == 1, 10)  # noqa: B023
        assert days_ahead(endpoint.rows(query, request_id)[0][0]) == days

    endpoint.swap(2, client)
    endpoint.swap(1, client)
    figures = client.metrics()
    for name in ("requests_shed", "impressions_dropped", "follow_failures"):
        assert figures[f"recloop_{name}_total"] == 0
    assert "Traceback" not in endpoint.log.read_text()


def test_what_is_popular_goes_by_how_often_and_not_by_where_the_clock_stood(client: Client, clock: WallClock) -> None:
    here = {"country": "DE"}

    def click(item: str, times: int) -> None:
        client.record(*(event(f"{item}-{number}", item_id=item, context=here) for number in range(times)))

    clock.turn(1)
    click("g", 1)
    until(lambda: client.items(context=here)[0] == "g", 10)
    clock.turn(-1)
    click("h", 2)
    until(lambda: client.items(context=here)[:2] == ["h", "g"], 10)


def test_a_key_ends_when_its_time_has_come_and_no_jump_lets_it_ask_for_more(
    endpoint: Endpoint, keys: KeyStore, clock: WallClock
) -> None:
    today = keys.create("today", ["recommend"], expires_at=now_us() + DAY_US // 2)
    greedy = keys.create("greedy", ["events"])
    many = json.dumps({"events": [event(f"many-{number}") for number in range(30)]}).encode()

    def status(key: str | None, path: str, body: bytes = b"{}") -> int:
        return endpoint.client(key).send("POST", path, body)[0]

    until(lambda: status(greedy, "/events", many) == 429, 20)
    for days, expected in zip(TURNS, (200, 401, 200), strict=True):
        clock.turn(days)
        until(lambda: status(today, "/recommend") == expected, 10)  # noqa: B023
        assert status(None, "/recommend") == 401
        assert status(greedy, "/events", many) == 429
