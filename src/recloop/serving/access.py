"""Who may come in: keys with scopes, and how much each may ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any, Literal

from recloop.config import Serving
from recloop.serving.keys import KeyRing, Scope
from recloop.serving.parsing import RefusedError
from recloop.serving.rate import RateLimit
from recloop.storage import now_us

WITH_A_KEY = "set serving.auth to required, and send a key: `recloop keys create` makes one"

__all__ = ["Access", "Caller", "Scope"]


@dataclass(frozen=True)
class Caller:
    """Who asks."""

    key_id: str | None
    """None where no key is needed."""


NOBODY = Caller(None)


class Access:
    """The door. Of one event loop.

    Args:
        serving: the section of `params.yaml`.
        keys: the keys of now.
    """

    def __init__(self, serving: Serving, keys: Callable[[], KeyRing]) -> None:
        self._required = serving.auth == "required"
        self._keys = keys
        self._rate = RateLimit(serving.requests_per_second, serving.burst)

    def admit(self, scope: Mapping[str, Any], needs: Scope | Literal["any"] | None) -> Caller:
        """Who asks, if they may.

        Args:
            scope: the request's, of ASGI.
            needs: what the key must be good for; None: no key is needed.

        Raises:
            RefusedError: 401 without a key that works, 403 with one that is not good for this, 429 where it asks for
                too much. Where no key is asked for, 403 for all but this machine, and for what a page of the web has a
                browser of this machine ask.
        """
        if needs is None:
            return NOBODY
        if not self._required:
            _check_is_here(scope)
            return NOBODY
        key = self._keys().find(_presented(scope["headers"]), now_us())
        if key is None:
            raise RefusedError(
                401,
                "no key, or one that does not work (any more)",
                "send `Authorization: Bearer <key>`; `recloop keys create` makes one",
                header=(b"www-authenticate", b"Bearer"),
            )
        caller = Caller(key.id)
        self.charge(caller, 1)  # before it is known whether it is good for this: what is refused is work, too
        if needs != "any" and needs not in key.scopes:
            raise RefusedError(
                403,
                f"key {key.id} ({key.name}) is good for {', '.join(key.scopes)}, not for {needs}",
                f"`recloop keys create NAME --scope {needs}` makes one that is",
            )
        return caller

    def charge(self, caller: Caller, cost: int, *, paid: int = 0) -> None:
        """Count `cost` more requests.

        Args:
            paid: as what so many of the same request were counted before.

        Raises:
            RefusedError: they are too many.
        """
        if caller.key_id is None or not cost:
            return
        wait = self._rate.take(caller.key_id, cost, paid=paid)
        if wait > 0:
            raise RefusedError(
                429,
                f"key {caller.key_id} asks for more than it may (serving.requests_per_second, serving.burst)",
                f"send it again in {math.ceil(wait)} s",
                retry_after=wait,
            )


def _check_is_here(scope: Mapping[str, Any]) -> None:
    """Refuse whoever is not this machine; and the browser of this machine where a page from elsewhere has it ask.

    Such a page needs no answer to do harm, and a browser asks nobody before it sends a body as plain text. It names the
    page as `Origin`; or, where a name on the web was made to lead here (DNS rebinding), that name as `Host`.
    """
    client = scope.get("client")
    if client is not None and not _is_here(client[0]):
        raise RefusedError(403, "without keys, only this machine is answered (serving.auth is off)", WITH_A_KEY)
    host = origin = None
    for name, value in scope["headers"]:
        if name == b"host":
            host = value
        elif name == b"origin":
            origin = value
    if host is not None and not _names_this_machine(host):
        raise RefusedError(
            403,
            f"without keys (serving.auth is off), nobody is answered who calls this machine {host.decode('latin-1')!r}",
            f"ask for 127.0.0.1 or localhost; or {WITH_A_KEY}",
        )
    if origin is not None and (host is None or origin.partition(b"://")[2] != host):
        raise RefusedError(
            403,
            f"without keys (serving.auth is off), no page of {origin.decode('latin-1')} is answered",
            f"let the page ask its own backend, and that the endpoint; or {WITH_A_KEY}",
        )


@lru_cache(1024)
def _names_this_machine(host: bytes) -> bool:
    """Whether a `Host` is a name or an address that leads nowhere but here, with any port."""
    name = host.decode("latin-1").lower()
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    try:
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


@lru_cache(1024)
def _is_here(address: str) -> bool:
    """Whether an address is this machine's own. What is not an address comes over a Unix socket, and is."""
    try:
        found = ip_address(address)
    except ValueError:
        return True
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return (mapped or found).is_loopback


def _presented(headers: list[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if name == b"authorization":
            kind, _, key = value.decode("latin-1").partition(" ")
            return key if kind.lower() == "bearer" else None
    return None
