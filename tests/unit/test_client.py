"""The Python client: what it sends, what it makes of answers, and what it tries again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from recloop.errors import EndpointError
from recloop.serving.client import ROLLBACK_SECONDS, Client
from recloop.serving.openapi import describe_api

ANSWER = {
    "request_id": "r1",
    "model_version": 3,
    "variant": "champion",
    "strategy": "model",
    "items": [{"item_id": "a", "title": None, "score": 0.5}],
    "unknown_items": [],
}


class Server:
    """Answers one after the other, and remembers what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []
        self.slept: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Client:
        client = Client("http://endpoint", sleep=self.slept.append, **settings)
        monkeypatch.setattr(client._http, "_transport", httpx.MockTransport(self))
        return client


def refusal(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"error": "not now", "remedy": "later"}, headers=headers)


def test_a_list_is_asked_for_with_the_key_and_without_what_was_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(httpx.Response(200, json=ANSWER))
    answer = server.client(monkeypatch, key="rl_x_y").recommend(user_id="ann", filters={"colour": "red"})
    assert (answer.items[0].item_id, answer.model_version) == ("a", 3)
    request = server.asked[0]
    assert (request.method, request.url.path) == ("POST", "/recommend")
    assert request.headers["authorization"] == "Bearer rl_x_y"
    assert json.loads(request.content) == {"user_id": "ann", "explain": False, "filters": {"colour": "red"}}


def test_events_get_an_id_once_so_that_trying_again_counts_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = httpx.Response(200, json={"stored": 1, "duplicates": []})
    server = Server(refusal(503, **{"Retry-After": "2"}), httpx.ConnectError("gone"), stored)
    answer = server.client(monkeypatch).record(user_id="ann", item_id="a", event="click")
    assert answer.stored == 1
    ids = {json.loads(request.content)["events"][0]["event_id"] for request in server.asked}
    assert len(ids) == 1
    assert server.slept == [2.0, 4.0]


@pytest.mark.parametrize(
    ("said", "waits"),
    [("Fri, 01 Jan 2100 00:00:00 GMT", 7.0), ("86400", 7.0), ("Sat, 01 Jan 2000 00:00:00 GMT", 0.0), ("soon", 0.1)],
)
def test_it_waits_as_it_is_told_and_no_longer_than_its_patience(
    monkeypatch: pytest.MonkeyPatch, said: str, waits: float
) -> None:
    server = Server(refusal(503, **{"Retry-After": said}), httpx.Response(200, json=ANSWER))
    assert server.client(monkeypatch, patience=7.0).recommend("ann").model_version == 3
    assert server.slept == [waits]


def test_events_that_may_not_be_stored_are_named_so_that_they_can_be_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(refusal(503), httpx.ReadTimeout("slow"))
    event = {"user_id": "ann", "item_id": "a", "event": "click"}
    with pytest.raises(EndpointError) as caught:
        server.client(monkeypatch, attempts=2).record_all([event, event | {"event_id": "mine"}])
    sent = [each["event_id"] for each in json.loads(server.asked[0].content)["events"]]
    assert caught.value.event_ids == tuple(sent)
    assert sent[1] == "mine"
    with pytest.raises(EndpointError) as caught:
        Server(refusal(404)).client(monkeypatch).similar("a")
    assert caught.value.event_ids == ()


def test_what_is_no_answer_of_an_endpoint_is_said_to_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    page = httpx.Response(200, html="<h1>Welcome to nginx</h1>")
    with pytest.raises(EndpointError, match=r"gave what is no ModelAnswer \(text/html.*Welcome to nginx") as caught:
        Server(page).client(monkeypatch).model()
    assert caught.value.status == 200
    assert "the address" in (caught.value.remedy or "")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_would_be_refused_again_is_not_tried_again(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    server = Server(refusal(status))
    with pytest.raises(EndpointError, match="not now\n  → later") as caught:
        server.client(monkeypatch).similar("a")
    assert len(server.asked) == 1
    assert caught.value.status == status


def test_after_the_last_attempt_it_says_what_the_endpoint_said(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(*(refusal(429) for _ in range(2)))
    with pytest.raises(EndpointError, match="not now") as caught:
        server.client(monkeypatch, attempts=2).model()
    assert len(server.asked) == 2
    assert caught.value.status == 429


@pytest.mark.parametrize(
    ("answer", "status"), [(httpx.ConnectError("refused"), None), (httpx.Response(502, text="<html>"), 502)]
)
def test_no_endpoint_is_said_to_be_none(
    monkeypatch: pytest.MonkeyPatch, answer: httpx.Response | Exception, status: int | None
) -> None:
    server = Server(answer)
    with pytest.raises(EndpointError, match=r"does not answer: refused|HTTP 502") as caught:
        server.client(monkeypatch, attempts=1).model()
    assert caught.value.status == status


@pytest.mark.parametrize("call", [Client.user, Client.forget])
def test_ids_are_quoted_in_paths(monkeypatch: pytest.MonkeyPatch, call: Callable[..., Any]) -> None:
    server = Server(refusal(404))
    with pytest.raises(EndpointError):
        call(server.client(monkeypatch), "a/b ö?")
    assert server.asked[0].url.raw_path == b"/users/a%2Fb%20%C3%B6%3F"


def test_several_lists_come_as_they_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    explained = ANSWER | {
        "items": [
            {
                "item_id": "a",
                "title": None,
                "score": 0.5,
                "reason": {"because_of": ["b"], "model_rank": 1, "moved_by": [], "propensity": None},
            }
        ],
        "explanation": {"left_out": {}, "candidates": 1},
    }
    server = Server(httpx.Response(200, json={"answers": [ANSWER, explained]}))
    answer = server.client(monkeypatch).recommend_batch([{"user_id": "ann"}, {"history": ["b"], "explain": True}])
    assert [type(each).__name__ for each in answer.answers] == ["RecommendAnswer", "ExplainedAnswer"]
    assert server.asked[0].url.path == "/recommend/batch"
    assert json.loads(server.asked[0].content) == {
        "requests": [{"user_id": "ann"}, {"history": ["b"], "explain": True}]
    }


def test_an_admin_reloads_and_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ({"version": 3, "changed": True}, {"challenger": 0.1, "shadow": False})
    server = Server(*(httpx.Response(200, json=answer) for answer in answers))
    client = server.client(monkeypatch)
    assert client.reload().changed
    assert client.split(0.1).challenger == 0.1
    assert [(asked.url.path, json.loads(asked.content)) for asked in server.asked] == [
        ("/admin/reload", {}),
        ("/admin/split", {"challenger": 0.1, "shadow": False}),
    ]


@pytest.mark.parametrize("answer", [httpx.ReadTimeout("slow"), refusal(503), refusal(429)])
def test_a_rollback_is_never_sent_twice_and_waited_for(
    monkeypatch: pytest.MonkeyPatch, answer: httpx.Response | Exception
) -> None:
    server = Server(answer)
    with pytest.raises(EndpointError):
        server.client(monkeypatch).rollback("it sells nothing")
    (asked,) = server.asked
    assert (asked.url.path, json.loads(asked.content)) == ("/admin/rollback", {"reason": "it sells nothing"})
    assert asked.extensions["timeout"]["read"] == ROLLBACK_SECONDS


def test_every_operation_of_the_api_is_a_method_of_its_name() -> None:
    paths = describe_api(("click",))["paths"].values()
    operations = [operation for path in paths for operation in path.values() if "tags" in operation]
    named = {operation["operationId"] for operation in operations if operation["tags"] != ["health"]}
    assert len(named) == 10
    assert {name for name in named if not callable(getattr(Client, name, None))} == set()


def test_it_needs_only_httpx_and_pydantic() -> None:
    """Another project installs these, and not torch, BentoML and a database's drivers."""
    script = "import sys, recloop.serving.client; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"torch", "numpy", "pyarrow", "bentoml", "sqlalchemy", "psycopg", "ruamel", "mlflow"}
    assert {"httpx", "pydantic"} <= set(loaded)
    assert heavy & set(loaded) == set()
