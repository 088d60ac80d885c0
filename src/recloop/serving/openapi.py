"""The description of the API (OpenAPI 3.1), made from the types that requests are parsed with."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic.json_schema import models_json_schema

import recloop
from recloop.serving import schemas
from recloop.serving.examples import EXAMPLES, FAILED
from recloop.serving.schemas import Answer, Request

ABOUT = """What users are to be shown next, from the model that is live, and what they did.

Bodies are JSON. A request that cannot be answered gets an `error` and a `remedy`. Where `serving.auth` is `required`,
*Authorize* takes a key, and `recloop keys create` makes one."""

TAGS = {
    "recommendations": "Lists for users, and of items like one.",
    "events": "What users did.",
    "people": "What is known of a person, and forgetting it.",
    "model": "What is live.",
    "administration": "Which version is live, and whom the challenger answers.",
    "health": "For whoever looks after processes.",
}

FAILURES = {
    "400": "The body is not JSON.",
    "401": "There is no key, or one that does not work.",
    "403": "The key is not good for this; or no keys are asked for, and this comes from another machine.",
    "404": "There is no such thing.",
    "408": "The body did not come in time.",
    "409": "As things are, it cannot be done.",
    "413": "The body is too long.",
    "422": "The request is not as it should be; every fault is named.",
    "429": "The key asks for more than it may. Try again after `Retry-After` seconds.",
    "503": "No champion is live, the database does not answer or not in time, or there is too much to do. Try again "
    "after `Retry-After` seconds.",
}
ALWAYS = ("401", "403", "429", "503")
WITH_BODY = ("400", "408", "413", "422")


@cache
def describe_api(events: tuple[str, ...]) -> dict[str, Any]:
    """The OpenAPI document. An operation is named as the Python client's method is.

    Args:
        events: those that may occur.
    """
    operations: dict[str, dict[str, Any]] = {
        "/recommend": {
            "post": _operation(
                "recommend",
                "recommendations",
                "A list for a user",
                "By what is known of the user, or by a `history` that the request has; of what is popular now where "
                "nothing is known. With `explain`, an `ExplainedAnswer`.",
                schemas.RecommendRequest,
                schemas.RecommendAnswer,
                schemas.ExplainedAnswer,
            )
        },
        "/recommend/batch": {
            "post": _operation(
                "recommend_batch",
                "recommendations",
                "Several lists",
                "In the order of the requests. It counts as so many requests of its key.",
                schemas.BatchRequest,
                schemas.BatchAnswer,
            )
        },
        "/similar": {
            "post": _operation(
                "similar",
                "recommendations",
                "Items like one",
                "404 for an item that the live version does not know.",
                schemas.SimilarRequest,
                schemas.SimilarAnswer,
                fails=("404",),
            )
        },
        "/events": {
            "post": _operation(
                "record",
                "events",
                "Store what users did",
                "All or none. They are stored for good, and count for the user's next list, when this is answered. "
                "Sending an `event_id` again is harmless.",
                schemas.EventsRequest,
                schemas.EventsAnswer,
            )
        },
        "/users/{user_id}": {
            "parameters": [
                {
                    "name": "user_id",
                    "in": "path",
                    "required": True,
                    "schema": {"type": "string", "minLength": 1, "maxLength": 256},
                    "example": "196",
                }
            ],
            "get": _operation(
                "user",
                "people",
                "What is known of a person",
                "A person of whom nothing is known has an empty history.",
                None,
                schemas.UserAnswer,
                fails=("422",),
            ),
            "delete": _operation(
                "forget",
                "people",
                "Forget a person",
                "Deletes their events, and takes their name off the lists they were shown. What the live model "
                "learnt from them is not used any more.",
                None,
                schemas.ForgottenAnswer,
                fails=("422",),
            ),
        },
        "/model": {
            "get": _operation(
                "model",
                "model",
                "What is live",
                "The champion, the challenger beside it, how traffic is split, and a version that was refused.",
                None,
                schemas.ModelAnswer,
            )
        },
        "/admin/reload": {
            "post": _operation(
                "reload",
                "administration",
                "Look now which version is to be live",
                "It is looked for every `serving.poll_seconds` anyway; one that was refused is tried again. No body is "
                "needed.",
                schemas.ReloadRequest,
                schemas.ReloadAnswer,
                needs_body=False,
            )
        },
        "/admin/rollback": {
            "post": _operation(
                "rollback",
                "administration",
                "Make the champion before this one live again",
                "In the registry too. Twice goes two versions back. It may take a minute or two.",
                schemas.RollbackRequest,
                schemas.RollbackAnswer,
                fails=("409",),
            )
        },
        "/admin/split": {
            "post": _operation(
                "split",
                "administration",
                "Share traffic out",
                "Every process follows within `serving.poll_seconds`, and a restart keeps it.",
                schemas.SplitRequest,
                schemas.SplitAnswer,
            )
        },
        "/livez": {"get": _probe("livez", "Whether the process lives")},
        "/healthz": {"get": _probe("healthz", "As `/livez`, by an older name")},
        "/readyz": {"get": _probe("readyz", "Whether it can answer", "There is no champion to answer yet, and why.")},
        "/metrics": {
            "get": _operation("metrics", "health", "Figures for Prometheus", "Any key is good for them.", None)
        },
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
    event = found["$defs"]["EventRequest"]["properties"]["event"]
    del event["pattern"]
    event["enum"] = list(events)
    return {
        "openapi": "3.1.0",
        "info": {"title": "recloop", "version": recloop.__version__, "description": ABOUT},
        "tags": [{"name": name, "description": what} for name, what in TAGS.items()],
        "security": [{"key": []}],
        "paths": operations,
        "components": {
            "schemas": found["$defs"],
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`recloop keys create` makes one; none is needed where `serving.auth` is `off`.",
                }
            },
        },
    }


def _operation(
    name: str,
    tag: str,
    summary: str,
    description: str,
    request: type[Request] | None,
    *answers: type[Answer],
    fails: tuple[str, ...] = (),
    needs_body: bool = True,
) -> dict[str, Any]:
    """One operation.

    Args:
        answers: what it may answer; nothing for plain text.
        fails: what it may answer instead, beside what all may.
        needs_body: whether `request` may be left out.
    """
    fails = (*ALWAYS, *(() if request is None else WITH_BODY), *fails)
    operation: dict[str, Any] = {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "description": description,
        "responses": {"200": {"description": "OK", "content": _content(*answers) if answers else TEXT}}
        | {status: _failure(status) for status in sorted(fails)},
    }
    if request is not None:
        operation["requestBody"] = {"required": needs_body, "content": _content(request)}
    return operation


def _probe(name: str, summary: str, unready: str | None = None) -> dict[str, Any]:
    """What BentoML answers to whoever asks; a process that hangs does not."""
    responses: dict[str, Any] = {"200": {"description": "It does.", "content": TEXT}}
    if unready is not None:
        responses["503"] = _failure("503") | {"description": unready}
    return {"operationId": name, "tags": ["health"], "summary": summary, "security": [], "responses": responses}


TEXT = {"text/plain": {"schema": {"type": "string"}}}


def _failure(status: str) -> dict[str, Any]:
    error, remedy = FAILED[status]
    content = {"schema": {"$ref": "#/components/schemas/Failure"}, "example": {"error": error, "remedy": remedy}}
    failure: dict[str, Any] = {"description": FAILURES[status], "content": {"application/json": content}}
    if status in ("429", "503"):
        failure["headers"] = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer", "minimum": 1}}}
    return failure


def _content(*models: type[Request] | type[Answer]) -> dict[str, Any]:
    references = [{"$ref": f"#/components/schemas/{model.__name__}"} for model in models]
    content: dict[str, Any] = {"schema": references[0] if len(references) == 1 else {"anyOf": references}}
    examples = {name: {"value": value} for model in models for name, value in EXAMPLES.get(model, {}).items()}
    if examples:
        content["examples"] = examples
    return {"application/json": content}
