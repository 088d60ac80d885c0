"""What goes over the wire: ASGI's types, the headers of every answer, and what BentoML says in our words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from recloop.serving.parsing import RefusedError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Message, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

STATIC = "/static_content/"
"""BentoML's, for the page of the API"""
NO_SNIFFING = (b"x-content-type-options", b"nosniff")
SECURITY = [NO_SNIFFING, (b"cache-control", b"no-store")]
JSON_HEADERS = [(b"content-type", b"application/json"), *SECURITY]
PAGE_HEADERS = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"),
    *SECURITY,
]
SCRIPT_HEADERS = [(b"content-type", b"text/javascript; charset=utf-8"), *SECURITY]
REFUSED = {
    404: ("not found", "`/docs.json` describes what there is"),
    405: ("method not allowed", "`/docs.json` describes what there is"),
    500: ("this should not have happened", "the endpoint's log says more"),
    503: ("it is not ready", "try again in a moment"),
}
"""What BentoML may say of its own paths, in our words"""


async def send_answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send all of it."""
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def in_our_words(
    bentoml: Asgi,
    scope: Message,
    receive: Receive,
    send: Send,
    failed: Callable[[Exception, Message], tuple[int, Headers, bytes]],
) -> None:
    """What BentoML answers, with our headers; and what it refuses, as `failed` puts it."""
    refused: int | None = None

    async def ours(message: Message) -> None:
        nonlocal refused
        if message["type"] == "http.response.start":
            if message["status"] in REFUSED:
                refused = message["status"]
                error, remedy = REFUSED[refused]
                allow = next((each for each in message.get("headers", ()) if each[0] == b"allow"), None)
                what = RefusedError(refused, f"{scope['method']} {scope['path']}: {error}", remedy, header=allow)
                await send_answer(send, *failed(what, scope))
            else:
                # Files are kept by browsers: they are large, and those of one version do not change.
                own = [NO_SNIFFING] if scope["path"].startswith(STATIC) else SECURITY
                await send({**message, "headers": [*message.get("headers", ()), *own]})
        elif refused is None:
            await send(message)

    await bentoml(scope, receive, ours)
