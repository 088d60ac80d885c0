"""The endpoint's HTTP side: an ASGI app that takes the endpoint's own paths before BentoML's middlewares do.

BentoML opens the place for it (`service_class`): health, metrics and static files stay with BentoML (but for why
nobody is ready), and what a user waits for passes none of its spans, histograms and timers, which cost several times
what an answer costs. Scoring happens on the event loop: it takes about a millisecond of a processor that another thread
would only compete for. What waits for a disk happens in a thread.
"""

from __future__ import annotations

import json
import logging
import math
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from recloop.config import Gate, Serving
from recloop.errors import ConflictError, NotFoundError, OverloadError, RecloopError, RequestError
from recloop.serving.aside import Places
from recloop.serving.deadline import Deadlines, LateError
from recloop.serving.openapi import describe_api
from recloop.serving.page import PAGE, SCRIPT
from recloop.serving.parsing import RefusedError, parse
from recloop.serving.schemas import (
    Answer,
    BatchRequest,
    EventsRequest,
    Failure,
    Id,
    Limits,
    RecommendRequest,
    ReloadRequest,
    Request,
    RollbackRequest,
    SimilarRequest,
    SplitRequest,
)
from recloop.serving.web import (
    JSON_HEADERS,
    PAGE_HEADERS,
    SCRIPT_HEADERS,
    STATIC,
    Asgi,
    Headers,
    Message,
    Receive,
    Send,
    in_our_words,
    send_answer,
)

if TYPE_CHECKING:  # it imports torch, and the process that only starts the worker imports this
    from recloop.serving.access import Access, Caller, Scope
    from recloop.serving.admin import Admin
    from recloop.serving.endpoint import Endpoint
    from recloop.serving.metrics import Metrics

logger = logging.getLogger("recloop.serving")

OPEN = ("/livez", "/healthz", "/readyz")
"""BentoML's, for whoever can reach the port: they tell an orchestrator how we are, and nothing else"""
SECONDS = 10.0
"""How long a request may take, its body included"""
ACT_SECONDS = 130.0
"""How long an act of an admin may: the registry has two minutes, and a large model its time to load"""
CLOSED = 1 / 2000
"""Share of answers after which a connection is closed, where several processes answer: connections that were all made
at a quiet moment are all with one process, and spread out when they are made anew."""
R = TypeVar("R", bound=Request)


@dataclass(frozen=True)
class Call:
    """What was asked, and by whom."""

    body: bytes
    caller: Caller
    argument: str
    """The rest of the path, where it has one"""


class App:
    """The endpoint over HTTP. `use` says what answers; until then all is BentoML's."""

    def __init__(self) -> None:
        self._bentoml: Asgi
        self._endpoint: Endpoint | None = None
        self._under_way = 0
        self._deadlines = Deadlines()

    def before(self, bentoml: Asgi) -> Asgi:
        """This app, with `bentoml` for all that is not the endpoint's own."""
        self._bentoml = bentoml
        return self

    def use(
        self, endpoint: Endpoint, admin: Admin, access: Access, serving: Serving, gate: Gate, metrics: Metrics
    ) -> None:
        """What answers; `serving` and `gate` are the sections of `params.yaml`."""
        self._admin, self._access, self._limits, self._metrics = admin, access, Limits.of(serving, gate), metrics
        self._most, self._share = serving.max_requests, serving.workers > 1
        self._places = Places(max(1, self._most // 2))
        self._endpoint = endpoint

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if scope["type"] != "http":
            await self._bentoml(scope, receive, send)
            return
        if self._endpoint is None or path in OPEN or path.startswith(STATIC):
            if self._endpoint is not None and path == "/readyz" and (unready := self._endpoint.unready):
                await send_answer(send, *self._failed(unready, scope))  # BentoML would say 503 too, and not why
            else:
                await in_our_words(self._bentoml, scope, receive, send, self._failed)
            return
        begin = time.perf_counter()
        name, argument = ("/users/{id}", path[len("/users/") :]) if path.startswith("/users/") else (path, "")
        operations = OPERATIONS.get(name, {})
        operation = operations.get(scope["method"])
        body: bytes | None = None
        try:
            if operation is None:
                raise _wrong(scope["method"], path, operations)
            caller = self._access.admit(scope, operation.needs)
            if operation.answer is None:
                await in_our_words(self._bentoml, scope, receive, send, self._failed)
                return
            with self._deadlines.until(begin + SECONDS) as deadline:
                body = await self._body(receive) if scope["method"] == "POST" else b""
                deadline.moment = begin + operation.seconds
                # Only now: whoever sends half a body, and no more, takes nobody's place.
                if self._under_way >= self._most:
                    raise OverloadError(f"{self._most} requests are under way already", remedy="try again in a moment")
                self._under_way += 1
                try:
                    answering = operation.answer(self, Call(body, caller, argument))
                    answer = await (self._places.held(answering) if operation.waits else answering)
                finally:
                    self._under_way -= 1
            status, headers = 200, operation.headers
        except LateError:
            status, headers, answer = self._failed(_late(scope["method"], path, body, operation), scope)
        except Exception as error:
            status, headers, answer = self._failed(error, scope)
        if self._share and random.random() < CLOSED:  # noqa: S311 (nothing is to be kept secret here)
            headers = [*headers, (b"connection", b"close")]
        await send_answer(send, status, headers, answer)
        self._metrics.requests.labels(name if operations else "other", status).observe(time.perf_counter() - begin)

    async def recommend(self, call: Call) -> bytes:
        """`POST /recommend`"""
        known = self._served().recall(call.body)
        if known is not None:
            return known
        return await self._served().recommend(self._parse(RecommendRequest, call), call.body)

    async def recommend_all(self, call: Call) -> bytes:
        """`POST /recommend/batch`"""
        requests = self._parse(BatchRequest, call).requests
        self._access.charge(call.caller, len(requests) - 1, paid=1)
        return await self._served().recommend_all(requests)

    async def similar(self, call: Call) -> bytes:
        """`POST /similar`"""
        return _json(self._served().similar(self._parse(SimilarRequest, call)))

    async def events(self, call: Call) -> bytes:
        """`POST /events`"""
        try:
            request = self._parse(EventsRequest, call)
        except RefusedError as error:
            self._served().count_refused(error)
            raise
        self._access.charge(call.caller, len(request.events) - 1, paid=1)
        return _json(await self._served().record(request))

    async def model(self, _call: Call) -> bytes:
        """`GET /model`"""
        return _json(self._served().describe())

    async def person(self, call: Call) -> bytes:
        """`GET /users/{id}`"""
        return _json(await self._admin.person(_user(call), call.caller.key_id))

    async def forget(self, call: Call) -> bytes:
        """`DELETE /users/{id}`"""
        return _json(await self._admin.forget(_user(call), call.caller.key_id))

    async def reload(self, call: Call) -> bytes:
        """`POST /admin/reload`"""
        if call.body:  # it needs none: `curl -X POST` sends none
            self._parse(ReloadRequest, call)
        return _json(await self._admin.reload(call.caller.key_id))

    async def rollback(self, call: Call) -> bytes:
        """`POST /admin/rollback`"""
        return _json(await self._admin.rollback(self._parse(RollbackRequest, call), call.caller.key_id))

    async def split(self, call: Call) -> bytes:
        """`POST /admin/split`"""
        return _json(await self._admin.split(self._parse(SplitRequest, call), call.caller.key_id))

    async def docs(self, _call: Call) -> bytes:
        """`GET /docs.json`"""
        return json.dumps(describe_api(tuple(self._limits.events))).encode()

    async def page(self, _call: Call) -> bytes:
        """`GET /`"""
        return PAGE.encode()

    async def script(self, _call: Call) -> bytes:
        """`GET /docs.js`"""
        return SCRIPT.encode()

    def _served(self) -> Endpoint:
        assert self._endpoint is not None  # noqa: S101 – `__call__` has seen to it
        return self._endpoint

    def _parse(self, model: type[R], call: Call) -> R:
        return parse(model, call.body, self._limits)

    async def _body(self, receive: Receive) -> bytes:
        """The body, read no further than a valid one can be long."""
        pieces: list[bytes] = []
        length = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            piece = message.get("body", b"")
            length += len(piece)
            if length > self._limits.body_bytes:
                raise RefusedError(
                    413,
                    f"the body is longer than {self._limits.body_bytes:,} bytes",
                    "send fewer events, or a shorter history",
                )
            pieces.append(piece)
            if not message.get("more_body", False):
                return b"".join(pieces)

    def _failed(self, error: Exception, scope: Message) -> tuple[int, Headers, bytes]:
        """What is said of an error: its cause and its mend, and never a traceback."""
        match error:
            case RefusedError():
                status, retry = error.status, error.retry_after
            case ClientGoneError():
                return 400, JSON_HEADERS, b""  # nobody is there to read it
            case RequestError():
                status, retry = 422, None
            case NotFoundError():
                status, retry = 404, None
            case ConflictError():
                status, retry = 409, None
            case OverloadError():
                self._metrics.shed.inc()
                status, retry = 503, 1.0
            case RecloopError():
                status, retry = 503, 2.0
            case _:
                logger.error("%s %s", scope["method"], scope["path"], exc_info=error)
                failure = Failure(error="this should not have happened", remedy="the endpoint's log says more")
                return 500, JSON_HEADERS, _json(failure)
        headers = list(JSON_HEADERS)
        if retry is not None:
            headers.append((b"retry-after", b"%d" % math.ceil(retry)))
        if isinstance(error, RefusedError) and error.header is not None:
            headers.append(error.header)
        return status, headers, _json(Failure(error=error.message, remedy=error.remedy))


@dataclass(frozen=True)
class Operation:
    """What answers one method of one path."""

    answer: Callable[[App, Call], Coroutine[Any, Any, bytes]] | None
    """None: BentoML does"""
    needs: Scope | Literal["any"] | None
    """What the caller's key must be good for; None: no key at all"""
    headers: Headers = field(default_factory=lambda: JSON_HEADERS)
    waits: bool = False
    """Whether it waits for the database"""
    seconds: float = SECONDS
    """How long it may take"""
    late: str = "try again in a moment"
    """What to do where it takes longer"""


SENT_AGAIN = "send them again: it is not known whether they were stored, and an event_id counts once"


def _act(answer: Callable[[App, Call], Coroutine[Any, Any, bytes]]) -> Operation:
    """An act of an admin."""
    late = "it may come about all the same: the log, and the table `audit`, say what came of it"
    return Operation(answer, "admin", waits=True, seconds=ACT_SECONDS, late=late)


OPERATIONS: dict[str, dict[str, Operation]] = {
    "/recommend": {"POST": Operation(App.recommend, "recommend")},
    "/recommend/batch": {"POST": Operation(App.recommend_all, "recommend")},
    "/similar": {"POST": Operation(App.similar, "recommend")},
    "/events": {"POST": Operation(App.events, "events", waits=True, late=SENT_AGAIN)},
    "/model": {"GET": Operation(App.model, "any"), "POST": Operation(App.model, "any")},
    "/users/{id}": {"GET": Operation(App.person, "admin", waits=True), "DELETE": _act(App.forget)},
    "/admin/reload": {"POST": _act(App.reload)},
    "/admin/rollback": {"POST": _act(App.rollback)},
    "/admin/split": {"POST": _act(App.split)},
    "/metrics": {"GET": Operation(None, "any")},
    "/docs.json": {"GET": Operation(App.docs, None)},
    "/docs.js": {"GET": Operation(App.script, None, SCRIPT_HEADERS)},
    "/": {"GET": Operation(App.page, None, PAGE_HEADERS)},
}


class ClientGoneError(Exception):
    """Whoever asked has hung up."""


def _wrong(method: str, path: str, operations: Mapping[str, Operation]) -> RefusedError:
    if not operations:
        return RefusedError(404, f"{method} {path}: not found", "`/docs.json` describes what there is")
    allowed = ", ".join(sorted(operations))
    return RefusedError(
        405, f"{method} {path}: method not allowed", f"allowed: {allowed}", header=(b"allow", allowed.encode())
    )


def _late(method: str, path: str, body: bytes | None, operation: Operation | None) -> RefusedError:
    if body is None or operation is None:
        return RefusedError(
            408, f"the body did not come in {SECONDS:g} s", "send it whole", header=(b"connection", b"close")
        )
    return RefusedError(503, f"{method} {path} took longer than {operation.seconds:g} s", operation.late, retry_after=2)


def _user(call: Call) -> str:
    try:
        return TypeAdapter(Id).validate_python(call.argument)
    except ValidationError:
        raise RefusedError(422, "that is no user's id", "1 to 256 characters, no control characters") from None


def _json(answer: Answer) -> bytes:
    return answer.model_dump_json().encode()
