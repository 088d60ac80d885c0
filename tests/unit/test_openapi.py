"""The description of the API: everything in it is explained, and its examples are what they are examples of."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recloop.config import Gate, Serving
from recloop.serving.app import OPERATIONS
from recloop.serving.examples import EXAMPLES
from recloop.serving.openapi import describe_api
from recloop.serving.parsing import parse
from recloop.serving.schemas import Answer, Limits, Request

DOCUMENT = describe_api(tuple(Gate().events))
DESCRIBED: dict[str, dict[str, Any]] = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
    if method != "parameters"
}


def test_every_field_is_explained() -> None:
    fields = {
        f"{name}.{field}": content.get("description")
        for name, schema in DOCUMENT["components"]["schemas"].items()
        for field, content in schema.get("properties", {}).items()
    }
    assert len(fields) > 60
    assert [field for field, description in fields.items() if not description] == []
    assert [name for name, schema in DOCUMENT["components"]["schemas"].items() if not schema.get("description")] == []
    assert fields["EventRequest.event_id"] == "The sender's name for it: sending it again is harmless."


def test_every_operation_has_a_name_of_its_own_a_family_and_a_summary() -> None:
    names = [operation["operationId"] for operation in DESCRIBED.values()]
    assert len(set(names)) == len(names) == 14
    families = [tag["name"] for tag in DOCUMENT["tags"]]
    assert {tag for operation in DESCRIBED.values() for tag in operation["tags"]} == set(families)
    assert all(operation["summary"] for operation in DESCRIBED.values())


@pytest.mark.parametrize("model", EXAMPLES)
def test_an_example_is_what_it_is_an_example_of(model: type[Request] | type[Answer]) -> None:
    for example in EXAMPLES[model].values():
        if issubclass(model, Request):
            parse(model, json.dumps(example).encode(), Limits.of(Serving(), Gate()))
        else:
            assert model.model_validate_json(json.dumps(example)).model_dump(mode="json") == example


@pytest.mark.parametrize("name", DESCRIBED)
def test_whoever_tries_it_out_is_offered_an_example(name: str) -> None:
    body = DESCRIBED[name].get("requestBody")
    answer = DESCRIBED[name]["responses"]["200"]["content"]
    assert body is None or body["content"]["application/json"]["examples"]
    assert "text/plain" in answer or answer["application/json"]["examples"]


@pytest.mark.parametrize("name", DESCRIBED)
def test_a_key_is_asked_for_where_it_is_said_to_be(name: str) -> None:
    method, path = name.split()
    served = OPERATIONS.get(path.replace("user_id", "id"), {}).get(method)  # BentoML's own ask for none
    needs_key = served is not None and served.needs is not None
    assert ("401" in DESCRIBED[name]["responses"]) == needs_key
    assert DESCRIBED[name].get("security", DOCUMENT["security"]) == ([{"key": []}] if needs_key else [])


def test_only_a_reload_needs_no_body() -> None:
    bodies = {name: each["requestBody"]["required"] for name, each in DESCRIBED.items() if "requestBody" in each}
    assert [name for name, required in bodies.items() if not required] == ["POST /admin/reload"]
