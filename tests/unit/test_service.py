"""The endpoint as its clients see it: a real `bentoml serve`, over HTTP, with a small package."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest

from recloop.registry.promotion import promote
from recloop.serving.admin import ROLLBACK_SECONDS
from recloop.serving.keys import KeyStore
from recloop.serving.parcel import package_sha256
from recloop.storage import connect
from tests import trained
from tests.endpoint import Client, Endpoint, make_project, until
from tests.packages import point_at, write_package
from tests.shop import change_params

pytestmark = pytest.mark.xdist_group("service")

LISTS = {1: ["a", "b", "c", "d", "e"], 2: ["e", "d", "c", "b", "a"]}
"""What each version recommends, best first."""
PATIENCE = ROLLBACK_SECONDS + 10
"""Seconds: the endpoint gives its registry up before we give up the endpoint."""


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    endpoint = Endpoint(make_project(tmp_path_factory.mktemp("serving") / "project"))
    point_at(endpoint.live, 1)
    with endpoint.running():
        yield endpoint


@pytest.fixture
def client(endpoint: Endpoint) -> Client:
    return endpoint.client()


def event(event_id: str, **fields: object) -> dict[str, object]:
    return {"event_id": event_id, "user_id": "nobody", "item_id": "a", "event": "click"} | fields


# Recommendations.


def test_an_answer_says_what_it_recommends_and_where_that_comes_from(client: Client) -> None:
    answer = client.recommend(user_id="bob", k=2)
    assert re.fullmatch("[0-9a-f]{32}", answer.pop("request_id"))
    assert answer == {
        "model_version": 1,
        "variant": "champion",
        "strategy": "model",
        "items": [
            {"item_id": "a", "title": "Item a", "score": 5.0},
            {"item_id": "d", "title": "Item d", "score": 2.0},
        ],
        "unknown_items": [],
    }


def test_everybody_gets_a_useful_answer(client: Client) -> None:
    unknown = client.recommend(user_id="nobody-yet", k=2)
    assert unknown["strategy"] == "popular"
    assert [item["item_id"] for item in unknown["items"]] == ["e", "d"]
    assert client.items() == client.items(user_id="ann", history=[]) == ["e", "d", "c", "b", "a"]
    guest = client.recommend(history=["x", "a"], k=1)
    assert (guest["strategy"], guest["items"][0]["item_id"], guest["unknown_items"]) == ("model", "b", ["x"])


def test_what_to_leave_out_can_be_said(client: Client) -> None:
    assert client.items(user_id="ann", exclude=["b", "d"]) == ["c", "e"]
    assert client.items(user_id="ann", exclude_seen=False, k=1) == ["a"]


def test_the_same_question_gets_the_list_made_before_with_an_id_of_its_own(client: Client) -> None:
    first = client.recommend(user_id="remembered", history=["a"])
    before = client.metrics()["recloop_recommendations_remembered_total"]
    second = client.recommend(user_id="remembered", history=["a"])
    assert client.metrics()["recloop_recommendations_remembered_total"] == before + 1
    assert first.pop("request_id") != second.pop("request_id")
    assert first == second


def test_several_lists_come_in_the_order_they_were_asked_for(client: Client) -> None:
    requests = [{"user_id": "ann", "k": 1}, {"history": ["a", "b"]}]
    status, answer = client.post("/recommend/batch", {"requests": requests})
    assert status == 200
    assert [[item["item_id"] for item in each["items"]] for each in answer["answers"]] == [["b"], ["c", "d", "e"]]
    assert len({each["request_id"] for each in answer["answers"]}) == 2


def test_items_are_filtered_by_what_they_are(client: Client) -> None:
    assert client.items(user_id="ann", filters={"title": ["Item c", "Item e"]}) == ["c", "e"]
    assert client.items(filters={"title": "Item c"}) == ["c"], "what is popular is filtered too"
    status, answer = client.post("/recommend", {"filters": {"colour": "red"}})
    assert (status, answer["remedy"]) == (422, "they have: item_id, title")
    assert "no attribute 'colour'" in answer["error"]


def test_why_an_item_is_there_is_said_on_request(client: Client) -> None:
    answer = client.recommend(user_id="ann", k=2, explain=True)
    assert answer["items"][0]["reason"] == {"because_of": [], "model_rank": 1, "moved_by": [], "propensity": None}
    assert answer["explanation"] == {"left_out": {}, "candidates": 2}


def test_items_like_one_come_without_it(client: Client) -> None:
    status, answer = client.post("/similar", {"item_id": "b", "k": 3, "exclude": ["c", "x"]})
    assert status == 200
    assert [item["item_id"] for item in answer["items"]] == ["a", "d", "e"]
    assert (answer["model_version"], answer["unknown_items"]) == (1, ["x"])
    status, answer = client.post("/similar", {"item_id": "zz"})
    assert (status, answer["error"]) == (404, "version 1 knows no item 'zz'")


# Events.


def test_an_acknowledged_event_changes_the_same_users_next_answer(client: Client) -> None:
    assert client.items(user_id="ann") == ["b", "c", "d", "e"]
    client.record(event("next-1", user_id="ann", item_id="c"))
    assert client.items(user_id="ann") == ["b", "d", "e"]
    assert client.items(user_id="bob") == ["a", "d", "e"]


def test_a_users_first_event_takes_them_from_popular_to_the_model(client: Client) -> None:
    client.record(event("first-1", user_id="carla", item_id="b", event="view"))
    answer = client.recommend(user_id="carla", k=1)
    assert (answer["strategy"], answer["items"][0]["item_id"]) == ("model", "a")


def test_a_dismissed_item_is_not_shown_again_and_is_no_history(client: Client) -> None:
    assert client.items(user_id="eli") == ["e", "d", "c", "b", "a"]
    client.record(event("dismiss-1", user_id="eli", item_id="d", event="dismiss"))
    answer = client.recommend(user_id="eli")
    assert answer["strategy"] == "popular"
    assert [item["item_id"] for item in answer["items"]] == ["e", "c", "b", "a"]
    client.record(event("dismiss-2", user_id="eli", item_id="b"))
    assert client.items(user_id="eli", exclude_seen=False) == ["a", "b", "c", "e"]


def test_an_event_sent_again_is_named_and_not_stored_again(endpoint: Endpoint, client: Client) -> None:
    one, two = event("again-1"), event("again-2")
    assert client.record(one) == {"stored": 1, "duplicates": []}
    assert client.record(one, two) == {"stored": 1, "duplicates": ["again-1"]}
    assert len(endpoint.rows("SELECT 1 FROM events WHERE event_id LIKE 'again-%'")) == 2


def test_an_event_is_stored_as_it_was_sent(endpoint: Endpoint, client: Client) -> None:
    before = time.time_ns() // 1000
    client.record(
        event("as-1", event="rating", value=4.5, timestamp="2026-01-31T13:00:00.25+01:00", request_id="r1"),
        event("as-2", timestamp=1_700_000_000.5),
        event("as-3", timestamp="2026-01-31T12:00:00"),
        event("as-4"),
    )
    rows = endpoint.rows("SELECT * FROM events WHERE event_id LIKE 'as-%' ORDER BY seq")
    assert [row[1:6] for row in rows[:2]] == [
        ("as-1", "nobody", "a", "rating", 4.5),
        ("as-2", "nobody", "a", "click", 1.0),
    ]
    noon = 1_769_860_800_000_000
    assert [row[6] for row in rows[:3]] == [noon + 250_000, 1_700_000_000_500_000, noon]
    assert [row[8] for row in rows[:2]] == ["r1", None]
    assert before <= rows[3][6] == rows[3][7] <= time.time_ns() // 1000


def test_one_bad_event_keeps_the_whole_batch_out(endpoint: Endpoint, client: Client) -> None:
    status, answer = client.post("/events", {"events": [event("whole-1"), event("whole-2", value="much")]})
    assert status == 422
    assert "events.1.value" in answer["error"]
    assert endpoint.rows("SELECT 1 FROM events WHERE event_id LIKE 'whole-%'") == []


def test_a_refused_event_is_counted_by_what_is_wrong_with_it(endpoint: Endpoint, client: Client) -> None:
    counted = "SELECT COALESCE(SUM(events), 0), COALESCE(SUM(requests), 0) FROM refusals WHERE reason = ?"
    (before,) = endpoint.rows(counted, "request_id: malformed")
    status, _ = client.post("/events", {"events": [event(f"why-{n}", request_id=n) for n in range(3)] + [event("ok")]})
    assert status == 422
    until(lambda: endpoint.rows(counted, "request_id: malformed") == [(before[0] + 3, before[1] + 1)], 15)


def test_without_its_database_it_says_so_and_recommends_on(endpoint: Endpoint, client: Client) -> None:
    endpoint.rows("ALTER TABLE events RENAME TO away")
    try:
        status, answer = client.post("/events", {"events": [event("away-1")]})
        assert (status, client.recommend(user_id="ann")["strategy"]) == (503, "model")
        assert "the database of events does not answer" in answer["error"]
        assert "send them again" in answer["remedy"]
    finally:
        endpoint.rows("ALTER TABLE away RENAME TO events")
    assert client.record(event("away-1"))["stored"] == 1


# What cannot be answered.

BAD = {
    "no JSON": ("/recommend", b'{"user_id": "ann"', 400, "the body is not JSON: EOF"),
    "no body": ("/recommend", b"", 400, "the body is not JSON"),
    "no UTF-8": ("/recommend", b'{"user_id": "\xff"}', 400, "the body is not JSON"),
    "half a surrogate": ("/recommend", b'{"user_id": "\\ud800"}', 400, "the body is not JSON"),
    "a list": ("/recommend", b"[]", 422, "the body is no JSON object"),
    "null": ("/events", b"null", 422, "the body is no JSON object"),
    "a number for a user": ("/recommend", b'{"user_id": 1}', 422, "user_id: Input should be a valid string"),
    "an empty user": ("/recommend", b'{"user_id": ""}', 422, "user_id: String should have at least 1"),
    "a NUL": ("/recommend", b'{"user_id": "a\\u0000"}', 422, "user_id: should hold no control characters"),
    "a long id": (
        "/recommend",
        b'{"user_id": "%s"}' % (b"u" * 257),
        422,
        "user_id: String should have at most",
    ),
    "an unknown key": ("/recommend", b'{"usr_id": "a"}', 422, "usr_id: unknown key; did you mean `user_id`?"),
    "k of zero": ("/recommend", b'{"k": 0}', 422, "k: Input should be greater than or equal to 1"),
    "k too large": ("/recommend", b'{"k": 21}', 422, "k: should be at most 20 (serving.max_k)"),
    "half of k": ("/recommend", b'{"k": 1.5}', 422, "k: Input should be a valid integer"),
    "a true k": ("/recommend", b'{"k": true}', 422, "k: Input should be a valid integer"),
    "k beyond reason": ("/recommend", b'{"k": 1' + b"0" * 50 + b"}", 422, "k: should be at most 20"),
    "k beyond numbers": ("/recommend", b'{"k": 1' + b"0" * 5000 + b"}", 400, "number out of range"),
    "a long history": (
        "/recommend",
        json.dumps({"history": ["a"] * 31}).encode(),
        422,
        "history: should hold at most 30 items (serving.max_history), not 31",
    ),
    "a filter with much": (
        "/recommend",
        json.dumps({"filters": {str(number): None for number in range(17)}}).encode(),
        422,
        "filters: should hold at most 16 names, not 17",
    ),
    "a reason with a NUL": (
        "/admin/rollback",
        b'{"reason": "\\u0000"}',
        422,
        "reason: should hold no control characters",
    ),
    "much to exclude": (
        "/recommend",
        json.dumps({"exclude": ["a"] * 31}).encode(),
        422,
        "exclude: should hold at",
    ),
    "a nested history": (
        "/recommend",
        b'{"history": [["a"]]}',
        422,
        "history.0: Input should be a valid string",
    ),
    "no end of nesting": ("/recommend", b"[" * 5000, 400, "the body is not JSON: recursion limit"),
    "no end at all": ("/recommend", b"[" + b" " * 1_000_000, 413, "the body is longer than"),
    "no events": ("/events", b'{"events": []}', 422, "events: must have at least 1 item"),
    "an event alone": ("/events", json.dumps(event("x")).encode(), 422, "events: is missing"),
    "many events": (
        "/events",
        json.dumps({"events": [event(str(n)) for n in range(31)]}).encode(),
        422,
        "events: should hold at most 30 events",
    ),
    "no event id": ("/events", b'{"events": [{"user_id": "a"}]}', 422, "events.0.event_id: is missing"),
    "a strange event": (
        "/events",
        json.dumps({"events": [event("x", event="Click me")]}).encode(),
        422,
        "events.0.event: should be a short lower-case name, e.g. click",
    ),
    "an event nobody expects": (
        "/events",
        json.dumps({"events": [event("x", event="teleport")]}).encode(),
        422,
        "events.0.event: should be one of view, click, purchase, rating, dismiss: gate.events in params.yaml",
    ),
    "no stars": (
        "/events",
        json.dumps({"events": [event("x", event="rating")]}).encode(),
        422,
        "events.0.value: is missing: a rating has one, from 0.5 to 5",
    ),
    "not a number": (
        "/events",
        json.dumps({"events": [event("x", value=float("nan"))]}).encode(),
        422,
        "events.0.value",
    ),
    "infinity": (
        "/events",
        json.dumps({"events": [event("x", value=1e999)]}).encode(),
        422,
        "events.0.value",
    ),
    "milliseconds": (
        "/events",
        json.dumps({"events": [event("x", timestamp=1_700_000_000_000)]}).encode(),
        422,
        "should lie between 1970 and tomorrow; a number is in seconds",
    ),
    "no time": (
        "/events",
        json.dumps({"events": [event("x", timestamp="noon")]}).encode(),
        422,
        "or ISO 8601",
    ),
    "a true time": (
        "/events",
        json.dumps({"events": [event("x", timestamp=True)]}).encode(),
        422,
        "or ISO 8601",
    ),
    "year one": (
        "/events",
        json.dumps({"events": [event("x", timestamp="0001-01-01T00:00:00")]}).encode(),
        422,
        "between 1970 and tomorrow",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_gets_one_message_with_cause_and_remedy(client: Client, case: str) -> None:
    path, body, expected, message = BAD[case]
    status, answer = client.send("POST", path, body)
    told = json.loads(answer)
    assert status == expected, told
    assert set(told) == {"error", "remedy"}
    assert message in told["error"]
    assert told["remedy"]
    assert "Traceback" not in told["error"]
    assert "\n" not in told["error"]
    assert len(told["error"]) < 1000


def test_all_faults_of_a_request_are_told_at_once(client: Client) -> None:
    _, answer = client.post("/recommend", {"user_id": 1, "k": 99, "what": 0})
    assert re.match("k: .*; user_id: .*; what: unknown key", answer["error"])


def test_a_wrong_method_is_told_the_right_one(client: Client) -> None:
    status, body = client.send("GET", "/recommend")
    assert status == 405
    assert json.loads(body) == {"error": "GET /recommend: method not allowed", "remedy": "allowed: POST"}


def test_without_keys_no_page_of_the_web_has_a_browser_do_what_an_admin_may(client: Client) -> None:
    """As a browser sends what a page asks of it without asking first, by this machine's name or by the page's own."""
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        headers |= {"Content-Type": "text/plain"}
        status, _, body = client.exchange("POST", "/admin/split", b'{"challenger": 0.5}', **headers)
        told = json.loads(body)
        assert (status, "evil.example" in told["error"]) == (403, True)
        assert "serving.auth" in told["remedy"]
    assert json.loads(client.send("GET", "/model")[1])["split"]["challenger"] == 0
    own = f"http://127.0.0.1:{client.port}"
    assert client.exchange("POST", "/recommend", b"{}", Origin=own)[0] == 200, "the page of the API itself"


STATIC = "/static_content/swagger-ui.css"


@pytest.mark.parametrize(
    "path", ["/", "/docs.json", "/docs.js", "/model", "/livez", "/healthz", "/readyz", "/metrics", STATIC, "/nope"]
)
def test_no_answer_is_taken_for_what_it_is_not_nor_kept_by_whoever_passes_it_on(client: Client, path: str) -> None:
    _, headers, _ = client.exchange("GET", path)
    assert headers["x-content-type-options"] == "nosniff"
    assert headers.get("cache-control") == (None if path == STATIC else "no-store")
    assert "server" not in headers
    assert ("content-security-policy" in headers) == (path == "/")


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/static_content/nope", 404),
        ("GET", "/static_content/%2e%2e/__init__.py", 404),
        ("POST", STATIC, 405),
        ("DELETE", "/livez", 405),
        ("POST", "/readyz", 405),
    ],
)
def test_what_bentoml_refuses_is_told_in_our_words(client: Client, method: str, path: str, expected: int) -> None:
    status, headers, body = client.exchange(method, path)
    assert (status, headers["content-type"], json.loads(body).keys()) == (
        expected, "application/json", {"error", "remedy"},
    )  # fmt: skip
    assert headers["x-content-type-options"] == "nosniff"
    assert ("allow" in headers) == (status == 405)


def test_no_bad_request_left_a_trace_in_the_log(endpoint: Endpoint) -> None:
    assert "Traceback" not in endpoint.log.read_text()


# What is live, and how it does.


def test_what_is_live_is_told_to_get_and_post(client: Client) -> None:
    status, body = client.send("GET", "/model")
    told = json.loads(body)
    assert (status, client.post("/model", {})) == (200, (200, told))
    assert {key: told[key] for key in ("version", "model", "reason", "items", "users", "metrics", "refused")} == {
        "version": 1,
        "model": "popularity",
        "reason": "it was better",
        "items": 5,
        "users": 2,
        "metrics": {"ndcg_at_10": 0.5},
        "refused": None,
    }


def test_every_answer_is_written_down(endpoint: Endpoint, client: Client) -> None:
    answer = client.recommend(user_id="bob", k=2)
    query = "SELECT * FROM impressions WHERE request_id = ?"
    until(lambda: len(endpoint.rows(query, answer["request_id"])) == 1, 10)
    row = endpoint.rows(query, answer["request_id"])[0]
    assert row[2] == "bob"
    assert row[4:7] == (1, "champion", "model")
    assert (json.loads(row[7]), json.loads(row[8]), row[9]) == (["a", "d"], [5.0, 2.0], 2)


def test_health_and_figures_are_there(client: Client) -> None:
    assert [client.send("GET", path)[0] for path in ("/healthz", "/livez", "/readyz")] == [200, 200, 200]
    before = client.metrics()
    client.recommend(user_id="ann")
    client.recommend(user_id="stranger")
    client.record(event("figures-1"))
    client.record(event("figures-1"))
    after = client.metrics()
    grown = {name for name in after if after[name] != before.get(name) and "impressions" not in name}
    assert {name for name in grown if "request_seconds" not in name and "remembered" not in name} == {
        'recloop_recommendations_total{strategy="model",variant="champion"}',
        'recloop_recommendations_total{strategy="popular",variant="champion"}',
        "recloop_events_stored_total",
        "recloop_events_duplicate_total",
    }
    answered = 'recloop_request_seconds_count{path="/recommend",status="200"}'
    assert after[answered] - before[answered] == 2
    assert after["recloop_live_version"] == 1
    assert after["recloop_impressions_dropped_total"] == 0


def test_the_page_describes_the_api_and_loads_nothing_from_elsewhere(client: Client) -> None:
    status, body = client.send("GET", "/")
    page = body.decode()
    assert status == 200
    assert "//" not in page
    for path in re.findall(r'(?:src|href)="\.(/[^"]+)"', page):
        assert client.send("GET", path)[0] == 200
    document = json.loads(client.send("GET", "/docs.json")[1])
    assert document["openapi"].startswith("3.")
    assert document["paths"].keys() == {
        "/recommend", "/recommend/batch", "/similar", "/events", "/model", "/users/{user_id}",
        "/admin/reload", "/admin/rollback", "/admin/split", "/livez", "/healthz", "/readyz", "/metrics",
    }  # fmt: skip
    named = set(re.findall("#/components/schemas/([A-Za-z]+)", json.dumps(document)))
    assert named <= document["components"]["schemas"].keys()
    request = document["components"]["schemas"]["RecommendRequest"]
    assert request["properties"].keys() == {
        "user_id", "k", "history", "exclude", "exclude_seen", "filters", "context", "age", "explain",
    }  # fmt: skip


# People.


def test_what_is_known_of_a_person_is_told_and_forgotten(endpoint: Endpoint, client: Client) -> None:
    client.record(event("person-1", user_id="fay/ö", item_id="a"), event("person-2", user_id="fay/ö", item_id="c"))
    shown = client.recommend(user_id="fay/ö")["request_id"]
    until(lambda: len(endpoint.rows("SELECT 1 FROM impressions WHERE request_id = ?", shown)) == 1, 10)
    path = "/users/fay%2F%C3%B6"
    told = json.loads(client.send("GET", path)[1])
    assert [(each["item_id"], each["event"]) for each in told["history"]] == [("a", "click"), ("c", "click")]
    assert (told["user_id"], told["in_model"], told["stored_events"], told["impressions"]) == ("fay/ö", False, 2, 1)

    status, body = client.send("DELETE", path)
    assert (status, json.loads(body)) == (200, {"user_id": "fay/ö", "events": 2, "impressions": 1})
    assert endpoint.rows("SELECT 1 FROM events WHERE user_id = ?", "fay/ö") == []
    assert endpoint.rows("SELECT user_id FROM impressions WHERE request_id = ?", shown) == [(None,)]
    assert client.recommend(user_id="fay/ö")["strategy"] == "popular"
    assert "fay" not in str(endpoint.rows("SELECT * FROM audit"))
    asked = endpoint.rows("SELECT user_id FROM forgotten ORDER BY seq DESC LIMIT 1")
    assert asked == [("fay/ö",)], "until lists that are on their way are written"
    until(lambda: endpoint.rows("SELECT count(*) FROM forgotten WHERE user_id = ?", "fay/ö") == [(0,)], 15)


def test_what_a_model_was_trained_with_is_not_used_once_its_user_is_forgotten(client: Client) -> None:
    assert client.recommend(user_id="bob")["strategy"] == "model"
    client.send("DELETE", "/users/bob")
    assert client.recommend(user_id="bob")["strategy"] == "popular"
    assert json.loads(client.send("GET", "/users/bob")[1])["history"] == []
    client.record(event("bob-again", user_id="bob", item_id="a"))
    assert client.items(user_id="bob") == ["b", "c", "d", "e"]


# What an admin does.


def test_the_split_changes_while_it_runs_and_users_stay_where_they_are(endpoint: Endpoint, client: Client) -> None:
    """Version 2 ranks the other way round."""
    point_at(endpoint.live, 2, pointer="challenger.json")

    def variants() -> dict[str, str]:
        answers = {user: client.recommend(user_id=user, history=["a"], k=1) for user in users}
        for answer in answers.values():
            expected = {"champion": (1, "b"), "challenger": (2, "e")}[answer["variant"]]
            assert (answer["model_version"], answer["items"][0]["item_id"]) == expected
        return {user: answer["variant"] for user, answer in answers.items()}

    users = [f"split-{number}" for number in range(200)]
    assert set(variants().values()) == {"champion"}
    assert client.post("/admin/split", {"challenger": 0.3}) == (200, {"challenger": 0.3, "shadow": False})
    some = variants()
    assert 30 < list(some.values()).count("challenger") < 90
    client.post("/admin/split", {"challenger": 0.6})
    more = variants()
    before, after = ({user for user in users if found[user] == "challenger"} for found in (some, more))
    assert before < after
    told = json.loads(client.send("GET", "/model")[1])
    assert (told["challenger"]["version"], told["split"]) == (2, {"challenger": 0.6, "shadow": False})
    client.post("/admin/split", {"challenger": 0})
    assert set(variants().values()) == {"champion"}
    acts = endpoint.rows("SELECT act, key_id, outcome FROM audit WHERE act = 'split' ORDER BY seq")
    assert [act[0] for act in acts] == ["split"] * 3
    assert acts[0][2] == '{"challenger":0.3,"shadow":false}'


def test_in_shadow_the_challengers_list_is_written_down_and_not_shown(endpoint: Endpoint, client: Client) -> None:
    point_at(endpoint.live, 2, pointer="challenger.json")
    client.post("/admin/split", {"challenger": 0, "shadow": True})
    try:
        requests = [client.recommend(user_id="shady", history=["a"], k=2) for _ in range(2)]
        for answer in requests:  # the second one was made before
            assert (answer["variant"], [item["item_id"] for item in answer["items"]]) == ("champion", ["b", "c"])
            query = "SELECT variant, version, items FROM impressions WHERE request_id = ? ORDER BY variant"
            until(lambda: len(endpoint.rows(query, answer["request_id"])) == 2, 10)  # noqa: B023
            assert endpoint.rows(query, answer["request_id"]) == [
                ("champion", 1, '["b","c"]'),
                ("shadow", 2, '["e","d"]'),
            ]
    finally:
        client.post("/admin/split", {"challenger": 0})


def test_a_reload_looks_at_once(endpoint: Endpoint, client: Client) -> None:
    assert client.post("/admin/reload", {}) == (200, {"version": 1, "changed": False, "refused": None})
    assert client.send("POST", "/admin/reload")[0] == 200, "as curl -X POST sends it"
    status, answer = client.post("/admin/reload", {"force": True})
    assert status == 422
    assert answer["error"] == "force: unknown key"


def test_a_rollback_that_the_registry_refuses_says_what_it_said(endpoint: Endpoint) -> None:
    status, answer = endpoint.client(patience=PATIENCE).post("/admin/rollback", {"reason": "it sells nothing"})
    assert status == 409
    assert "the registry did not roll back" in answer["error"]
    assert "there is no earlier champion to go back to" in answer["error"]
    act = endpoint.rows("SELECT details, outcome FROM audit WHERE act = 'rollback'")
    assert (act[0][0], act[0][1][:7]) == ('{"reason": "it sells nothing"}', "failed:")


def test_a_rollback_brings_the_champion_before_back_and_fails_nobody_meanwhile(tmp_path: Path) -> None:
    project = trained.make_project(tmp_path / "registered")
    change_params(project.root, {"serving": {"auth": "required", "requests_per_second": 1e6, "burst": 1_000_000}})
    for best in "od":  # d is right
        trained.write_model(project, best)
        promote(project, reason="a test")
    keys = KeyStore(connect(project.database_url))
    operator, shop = keys.create("operator", ["admin"]), keys.create("shop", ["recommend"])
    stop, failed, served = threading.Event(), list[object](), set[tuple[int, str]]()

    def ask() -> None:
        own = endpoint.client(shop)
        while not stop.wait(0.002):
            try:
                status, answer = own.post("/recommend", {"history": ["a"], "k": 1})
            except (OSError, HTTPException) as error:
                failed.append(error)
                return
            if status == 200:
                served.add((answer["model_version"], answer["items"][0]["item_id"]))
            else:
                failed.append(answer)

    endpoint = Endpoint(project.root)
    endpoint.start()
    thread = threading.Thread(target=ask)
    try:
        client = endpoint.client(operator, patience=PATIENCE)
        assert json.loads(client.send("GET", "/model")[1])["version"] == 2
        thread.start()
        until(lambda: bool(served), 10)
        status, answer = client.post("/admin/rollback", {"reason": "it sells nothing"})
        assert (status, answer["version"]) == (200, 1), answer
        assert answer["done"] == "v1 (popularity) is champion again, in v2's place"
        told = json.loads(client.send("GET", "/model")[1])
        assert (told["version"], told["reason"]) == (1, "it sells nothing")
        until(lambda: (1, "o") in served, 10)
    finally:
        stop.set()
        if thread.ident is not None:
            thread.join()
        endpoint.end(signal.SIGTERM)
    assert (failed, served) == ([], {(2, "d"), (1, "o")}), "and no answer mixes the two"
    act = endpoint.rows("SELECT key_id, details, outcome FROM audit WHERE act = 'rollback'")
    assert [(who, json.loads(details), json.loads(outcome)) for who, details, outcome in act] == [
        (operator.split("_")[1], {"reason": "it sells nothing"}, answer)
    ]


# Swaps and crashes.


def test_a_version_that_does_not_load_is_refused_and_shown(endpoint: Endpoint, client: Client) -> None:
    items = write_package(endpoint.live / "v9") / "items.parquet"
    sound, sha256 = items.read_bytes(), package_sha256(endpoint.live / "v9")
    items.write_bytes(b"PAR1")
    point_at(endpoint.live, 9, sha256=sha256)
    until(lambda: json.loads(client.send("GET", "/model")[1])["refused"] is not None, 30)
    told = json.loads(client.send("GET", "/model")[1])
    assert (told["version"], told["refused"]["version"]) == (1, 9)
    assert "items.parquet is damaged" in told["refused"]["error"]
    assert client.recommend(user_id="ann")["model_version"] == 1
    status, answer = client.post("/admin/reload", {})
    assert (status, answer["changed"], answer["refused"]["version"]) == (200, False, 9)
    items.write_bytes(sound)  # it is mended; by itself it would be tried again in half a minute
    assert client.post("/admin/reload", {}) == (200, {"version": 9, "changed": True, "refused": None})
    point_at(endpoint.live, 1)
    until(lambda: client.recommend(user_id="ann")["model_version"] == 1, 30)
    until(lambda: json.loads(client.send("GET", "/model")[1])["refused"] is None, 30)


def test_a_swap_under_load_fails_no_request_and_mixes_no_versions(endpoint: Endpoint, client: Client) -> None:
    stop, served, wrong = threading.Event(), {1: 0, 2: 0}, []

    def hammer() -> None:
        own = endpoint.client()
        while not stop.is_set():
            try:
                status, answer = own.post("/recommend", {"history": ["a"], "exclude_seen": False})
            except OSError as error:
                wrong.append(repr(error))
                own = endpoint.client()
                continue
            if status != 200 or [each["item_id"] for each in answer["items"]] != LISTS[answer["model_version"]]:
                wrong.append(answer)
            else:
                served[answer["model_version"]] += 1

    threads = [threading.Thread(target=hammer) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for version in (2, 1, 2, 1):
            endpoint.swap(version, client)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert min(served.values()) > 0


def test_a_swap_keeps_what_users_did_since_the_older_data(endpoint: Endpoint, client: Client) -> None:
    """Version 3 knows all events so far, version 1 none: going back must bring the events back."""
    client.record(event("since-1", user_id="dora", item_id="a"))
    (newest,) = endpoint.rows("SELECT max(seq) FROM events")[0]
    write_package(endpoint.live / "v3", watermark=newest, histories={"dora": ["a"], "bob": ["b", "c"]})
    endpoint.swap(3, client)
    assert client.items(user_id="dora") == ["b", "c", "d", "e"]
    client.record(event("since-2", user_id="dora", item_id="b"))
    assert client.items(user_id="dora") == ["c", "d", "e"]
    endpoint.swap(1, client)
    assert client.items(user_id="dora") == ["c", "d", "e"]


def test_swaps_under_load_with_a_split_mix_no_versions_in_a_batch_nor_in_what_is_like_an_item(
    endpoint: Endpoint, client: Client
) -> None:
    """The champion is version 4 or 5, which has them backwards; version 2 is the challenger, and answers cid."""
    lists = {4: ["c", "a", "e", "b", "d"], 5: ["d", "b", "e", "a", "c"], 2: LISTS[2]}
    for version in (4, 5):
        counts = {item: 5.0 - lists[version].index(item) for item in "abcde"}
        write_package(endpoint.live / f"v{version}", counts=counts)
    point_at(endpoint.live, 2, pointer="challenger.json")
    endpoint.swap(4, client)
    assert client.post("/admin/split", {"challenger": 0.5})[0] == 200
    requests = [{"user_id": user, "history": ["a"], "exclude_seen": False} for user in ("ann", "zoe", "cid")]
    stop, wrong = threading.Event(), list[object]()
    batched, liked = set[tuple[int, ...]](), set[int]()

    def batches() -> None:
        own = endpoint.client()
        while not stop.is_set():
            status, answer = own.post("/recommend/batch", {"requests": requests})
            made = answer.get("answers", [])
            versions = tuple(each["model_version"] for each in made)
            right = all([item["item_id"] for item in each["items"]] == lists[each["model_version"]] for each in made)
            if status != 200 or versions not in ((4, 4, 2), (5, 5, 2)) or not right:
                wrong.append(answer)
            batched.add(versions)

    def likes() -> None:
        own = endpoint.client()
        while not stop.is_set():
            status, answer = own.post("/similar", {"item_id": "e"})
            version, items = answer.get("model_version", 0), [item["item_id"] for item in answer.get("items", [])]
            if status != 200 or items != [item for item in lists.get(version, []) if item != "e"]:
                wrong.append(answer)
            liked.add(version)

    threads = [threading.Thread(target=ask) for ask in (batches, batches, likes)]
    for thread in threads:
        thread.start()
    try:
        for version in (5, 4, 5, 4):
            endpoint.swap(version, client)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        client.post("/admin/split", {"challenger": 0})
        endpoint.swap(1, client)
    assert wrong == []
    assert (batched, liked) == ({(4, 4, 2), (5, 5, 2)}, {4, 5})
