"""The description of the API (OpenAPI 3.1), made from the types that requests are parsed with; its page."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic.json_schema import models_json_schema

import recloop
from recloop.serving import schemas
from recloop.serving.schemas import Answer, Failure, Request

FAILURES = {
    "400": "The body is not JSON.",
    "401": "There is no key, or one that does not work.",
    "403": "The key is not good for this.",
    "404": "There is no such thing.",
    "409": "As things are, it cannot be done.",
    "413": "The body is too long.",
    "422": "The request is not as it should be; every fault is named.",
    "429": "The key asks for more than it may. Try again after `Retry-After` seconds.",
    "503": "No champion is live, the database does not answer, or there is too much to do. Try again later.",
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
    operations: dict[str, dict[str, dict[str, Any]]] = {
        "/recommend": {
            "post": _operation(
                "A list for a user",
                schemas.RecommendRequest,
                schemas.RecommendAnswer,
                "With `explain`, an `ExplainedAnswer`.",
                schemas.ExplainedAnswer,
            )
        },
        "/recommend/batch": {"post": _operation("Several lists", schemas.BatchRequest, schemas.BatchAnswer)},
        "/similar": {"post": _operation("Items like one", schemas.SimilarRequest, schemas.SimilarAnswer)},
        "/events": {
            "post": _operation(
                "Store what users did",
                schemas.EventsRequest,
                schemas.EventsAnswer,
                "They are stored for good, and count for the user's next list, when this is answered. Sending an "
                "`event_id` again is harmless.",
            )
        },
        "/model": {"get": _operation("What is live", None, schemas.ModelAnswer)},
        "/users/{user_id}": {
            "get": _operation("What is known of a person", None, schemas.UserAnswer),
            "delete": _operation("Forget a person", None, schemas.ForgottenAnswer),
            "parameters": [  # type: ignore[dict-item]
                {
                    "name": "user_id",
                    "in": "path",
                    "required": True,
                    "schema": {"type": "string", "minLength": 1, "maxLength": 256},
                }
            ],
        },
        "/admin/reload": {
            "post": _operation("Look now which version is to be live", schemas.ReloadRequest, schemas.ReloadAnswer)
        },
        "/admin/rollback": {
            "post": _operation(
                "Make the champion before this one live again", schemas.RollbackRequest, schemas.RollbackAnswer
            )
        },
        "/admin/split": {
            "post": _operation("Share traffic out", schemas.SplitRequest, schemas.SplitAnswer),
        },
        "/livez": {"get": _plain("Whether the process lives")},
        "/readyz": {"get": _plain("Whether it can answer (200), or has no champion yet (503)")},
        "/metrics": {"get": _plain("Figures for Prometheus")},
    }
    models: list[type[Request] | type[Answer]] = [
        each
        for each in vars(schemas).values()
        if isinstance(each, type) and issubclass(each, Request | Answer) and each not in (Request, Answer)
    ]
    _, found = models_json_schema(
        [(model, "validation" if issubclass(model, Request) else "serialization") for model in models],
        ref_template="#/components/schemas/{model}",
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "recloop", "version": recloop.__version__},
        "security": [{"key": []}],
        "paths": operations,
        "components": {
            "schemas": found["$defs"],
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`recloop keys create` makes one; none is needed where `serving.auth` is off.",
                }
            },
        },
    }


def _operation(
    summary: str,
    request: type[Request] | None,
    answer: type[Answer],
    description: str | None = None,
    *others: type[Answer],
) -> dict[str, Any]:
    answers: dict[str, Any] = {"200": {"description": "OK", "content": _content(answer, *others)}}
    answers |= {
        status: {"description": what, "content": _content(Failure)}
        for status, what in FAILURES.items()
        if request is not None or status not in ("400", "413")
    }
    operation: dict[str, Any] = {"summary": summary, "responses": answers}
    if description is not None:
        operation["description"] = description
    if request is not None:
        operation["requestBody"] = {"required": True, "content": _content(request)}
    return operation


def _content(*models: type[Request] | type[Answer]) -> dict[str, Any]:
    references = [{"$ref": f"#/components/schemas/{model.__name__}"} for model in models]
    return {"application/json": {"schema": references[0] if len(references) == 1 else {"anyOf": references}}}


def _plain(summary: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "security": [],
        "responses": {"200": {"description": "OK", "content": {"text/plain": {}}}, "503": {"description": "Not now"}},
    }
