"""The description of the API (OpenAPI 3.1), made from the types that requests are parsed with; its page."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic.json_schema import models_json_schema

import recloop
from recloop.serving.schemas import (
    Answer,
    EventsAnswer,
    EventsRequest,
    Failure,
    ModelAnswer,
    RecommendAnswer,
    RecommendRequest,
    Request,
)

FAILURES = {
    "400": "The body is not JSON.",
    "413": "The body is too long.",
    "422": "The request is not as it should be; every fault is named.",
    "503": "No champion is live, or the database does not answer. Try again.",
}

# BentoML's own page for this loads a tracker from the internet. This one uses the same files only.
PAGE = """<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="UTF-8">
    <title>recloop</title>
    <link rel="stylesheet" href="./static_content/swagger-ui.css">
  </head>
  <body>
    <div id="swagger-ui"></div>
    <script src="./static_content/swagger-ui-bundle.js"></script>
    <script src="./static_content/swagger-ui-standalone-preset.js"></script>
    <script src="./static_content/swagger-initializer.js"></script>
  </body>
</html>
"""


@cache
def describe_api() -> dict[str, Any]:
    """The OpenAPI document."""
    models: list[type[Request] | type[Answer]] = [
        RecommendRequest,
        RecommendAnswer,
        EventsRequest,
        EventsAnswer,
        ModelAnswer,
        Failure,
    ]
    _, schemas = models_json_schema(
        [(model, "validation" if issubclass(model, Request) else "serialization") for model in models],
        ref_template="#/components/schemas/{model}",
    )
    model = _operation("What is live", None, ModelAnswer)
    return {
        "openapi": "3.1.0",
        "info": {"title": "recloop", "version": recloop.__version__},
        "paths": {
            "/recommend": {"post": _operation("A list for a user", RecommendRequest, RecommendAnswer)},
            "/events": {"post": _operation("Store what users did", EventsRequest, EventsAnswer)},
            "/model": {"get": model, "post": model},
            "/livez": {"get": _plain("Whether the process lives")},
            "/readyz": {"get": _plain("Whether it can answer (200), or has no champion yet (503)")},
            "/metrics": {"get": _plain("Figures for Prometheus")},
        },
        "components": {"schemas": schemas["$defs"]},
    }


def _operation(summary: str, request: type[Request] | None, answer: type[Answer]) -> dict[str, Any]:
    failures = FAILURES if request is not None else {"503": FAILURES["503"]}
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {
            "200": {"description": "OK", "content": _content(answer)},
            **{
                status: {"description": description, "content": _content(Failure)}
                for status, description in failures.items()
            },
        },
    }
    if request is not None:
        operation["requestBody"] = {"required": True, "content": _content(request)}
    return operation


def _content(model: type[Request] | type[Answer]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}


def _plain(summary: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": "OK", "content": {"text/plain": {}}}}}
