"""The Python client: what it sends, what it makes of answers, and what it tries again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from recloop.errors import ServingError
from recloop.serving.client import Client

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


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_would_be_refused_again_is_not_tried_again(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    server = Server(refusal(status))
    with pytest.raises(ServingError, match="not now\n  → later"):
        server.client(monkeypatch).similar("a")
    assert len(server.asked) == 1


def test_after_the_last_attempt_it_says_what_the_endpoint_said(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(*(refusal(429) for _ in range(2)))
    with pytest.raises(ServingError, match="not now"):
        server.client(monkeypatch, attempts=2).model()
    assert len(server.asked) == 2


@pytest.mark.parametrize("answer", [httpx.ConnectError("refused"), httpx.Response(502, text="<html>")])
def test_no_endpoint_is_said_to_be_none(monkeypatch: pytest.MonkeyPatch, answer: httpx.Response | Exception) -> None:
    server = Server(answer)
    with pytest.raises(ServingError, match=r"does not answer: refused|HTTP 502"):
        server.client(monkeypatch, attempts=1).model()


@pytest.mark.parametrize("call", [Client.user, Client.forget])
def test_ids_are_quoted_in_paths(monkeypatch: pytest.MonkeyPatch, call: Callable[..., Any]) -> None:
    server = Server(refusal(404))
    with pytest.raises(ServingError):
        call(server.client(monkeypatch), "a/b ö?")
    assert server.asked[0].url.raw_path == b"/users/a%2Fb%20%C3%B6%3F"
