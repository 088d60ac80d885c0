"""From bytes to a request: a filter that is none is told what it may be, once."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from recloop.config import Gate, Serving
from recloop.serving.parsing import RefusedError, parse
from recloop.serving.schemas import BatchRequest, Between, EventsRequest, Limits, RecommendRequest, Request

LIMITS = Limits.of(Serving(), Gate())


def filtered(condition: Any) -> Any:
    body = json.dumps({"filters": {"release_year": condition}}).encode()
    return parse(RecommendRequest, body, LIMITS).filters["release_year"]


@pytest.mark.parametrize("condition", ["Acme", 1990, 1.5, True, ["Drama", 3, False], []])
def test_a_filter_is_a_value_or_a_list(condition: Any) -> None:
    assert filtered(condition) == condition


@pytest.mark.parametrize(
    ("condition", "low", "high"), [({"min": 1990}, 1990, None), ({"min": "2020-01-01", "max": 5.5}, "2020-01-01", 5.5)]
)
def test_or_a_range(condition: Any, low: Any, high: Any) -> None:
    assert filtered(condition) == Between(min=low, max=high)


@pytest.mark.parametrize(
    "condition",
    [
        {"gte": 300},
        {"min": 1, "gte": 300},
        {"min": [1]},
        None,
        [[1]],
        ["a"] * 101,
        "a" * 257,
        float("inf"),
        {"max": float("nan")},
    ],
)
def test_what_is_none_is_told_what_a_filter_may_be(condition: Any) -> None:
    with pytest.raises(RefusedError) as caught:
        filtered(condition)
    said, given = caught.value.message.split(" (got ")
    assert said == (
        'filters.release_year: should be a value, a list of at most 100 values, or {"min": …, "max": …}; '
        "a value is text of at most 256 characters, a number, true or false"
    )
    assert given[:3] == repr(condition)[:3]
    assert caught.value.status == 422


def refused(model: type[Request], content: object, limits: Limits = LIMITS) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        parse(model, content if isinstance(content, bytes) else json.dumps(content).encode(), limits)
    return caught.value


MANY = {f"{number:x}": None for number in range(60_000)}


@pytest.mark.parametrize(
    ("model", "content"),
    [
        (RecommendRequest, {"filters": MANY}),
        (RecommendRequest, {"context": MANY}),
        (RecommendRequest, MANY),
        (RecommendRequest, b"{" + b",".join([b'"a":0'] * 400_000) + b"}"),
        (RecommendRequest, {"filters": {"year": [None] * 600_000}}),
        (EventsRequest, {"events": [MANY]}),
        (EventsRequest, {"events": [{f"{number:x}": 0 for number in range(33)}] * 1000}),
        (BatchRequest, {"requests": [{"exclude": [0] * 1000, "history": [0] * 1000}] * 100}),
    ],
    ids=["filters", "context", "names", "one name", "values", "an event", "events", "lists"],
)
def test_no_body_within_the_limits_costs_much_to_be_refused(model: type[Request], content: object) -> None:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    assert len(body) < LIMITS.body_bytes
    tracemalloc.start()
    error = refused(model, body)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 40 * len(body), "a fault for every entry would take hundreds of times the body"
    assert error.status == 422
    assert len(error.message) < 1000


def test_filters_and_contexts_are_counted_before_they_are_looked_at() -> None:
    many = {str(number): None for number in range(17)}
    assert refused(RecommendRequest, {"filters": many}).message.startswith(
        "filters: should hold at most 16 names, not 17 (got "
    )
    assert refused(RecommendRequest, {"context": many}).message.startswith("context: should hold at most 8 names, not")


def recorded(**fields: object) -> float | None:
    event = {"event_id": "1", "user_id": "ann", "item_id": "a"} | fields
    return parse(EventsRequest, json.dumps({"events": [event]}).encode(), LIMITS).events[0].value


def test_a_rating_has_a_value_and_what_else_has_none_counts_as_one() -> None:
    assert (recorded(event="rating", value=4.5), recorded(event="click"), recorded(event="click", value=None)) == (
        4.5, 1.0, 1.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"event": "rating"}, "events.0.value: is missing: a rating has one, from 0.5 to 5"),
        ({"event": "rating", "value": None}, "events.0.value: is missing: a rating has one, from 0.5 to 5"),
        ({"event": "rating", "value": 77}, "events.0.value: should lie between 0.5 and 5 for a rating: gate.events in"),
        ({"event": "click", "value": -1}, "events.0.value: should lie between 0 and 1e+06 for a click: gate.events in"),
        (
            {"event": "teleport"},
            "events.0.event: should be one of view, click, purchase, rating, dismiss: gate.events in params.yaml",
        ),
    ],
)
def test_what_the_gate_would_throw_out_is_not_taken(fields: dict[str, object], message: str) -> None:
    with pytest.raises(RefusedError) as caught:
        recorded(**fields)
    assert (caught.value.status, caught.value.message[: len(message)]) == (422, message)


def test_events_of_ones_own_are_taken_where_the_gate_names_them() -> None:
    limits = Limits.of(Serving(), Gate(events={"teleport": (2.0, float("inf"))}))
    event = {"event_id": "1", "user_id": "ann", "item_id": "a", "event": "teleport", "value": 1e9}
    assert parse(EventsRequest, json.dumps({"events": [event]}).encode(), limits).events[0].value == 1e9
    assert "between 2 and inf" in refused(EventsRequest, {"events": [event | {"value": 1}]}, limits).message
