"""The door: who may come in, and how much each may ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from recloop.config import Serving
from recloop.serving.access import Access, Scope
from recloop.serving.keys import KeyStore
from recloop.serving.parsing import RefusedError
from recloop.storage import connect


def request(
    key: str | None = None,
    client: str = "127.0.0.1",
    kind: str = "Bearer",
    host: str = "localhost:3000",
    origin: str = "",
) -> dict[str, Any]:
    headers = [(b"host", host.encode())]
    headers += [] if key is None else [(b"authorization", f"{kind} {key}".encode())]
    headers += [(b"origin", origin.encode())] if origin else []
    return {"headers": headers, "client": (client, 50_000)}


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(connect(f"sqlite:///{tmp_path / 'recloop.db'}"))


def door(store: KeyStore, **serving: Any) -> Access:
    return Access(Serving(auth="required", **serving), store.read)


def refused(access: Access, scope: dict[str, Any], needs: Scope | Literal["any"]) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        access.admit(scope, needs)
    return caught.value


def test_a_key_opens_what_it_is_good_for_and_no_more(store: KeyStore) -> None:
    access, key = door(store), store.create("shop", ["recommend"])
    caller = access.admit(request(key), "recommend")
    assert caller.key_id == key.split("_")[1]
    assert access.admit(request(key), "any") == caller
    error = refused(access, request(key), "admin")
    assert (error.status, "(shop) is good for recommend, not for admin" in error.message) == (403, True)


@pytest.mark.parametrize("key", [None, "", "rl_abc", "rl_aaaaaaaa_" + "A" * 43])
def test_without_a_key_that_works_nobody_comes_in(store: KeyStore, key: str | None) -> None:
    error = refused(door(store), request(key), "any")
    assert (error.status, error.header) == (401, (b"www-authenticate", b"Bearer"))
    assert "recloop keys create" in error.remedy


def test_a_key_is_sent_as_a_bearer(store: KeyStore) -> None:
    access, key = door(store), store.create("shop", ["recommend"])
    assert access.admit(request(key, kind="bearer"), "recommend").key_id
    assert refused(access, request(key, kind="Basic"), "recommend").status == 401


def test_a_revoked_key_opens_nothing_any_more(store: KeyStore) -> None:
    access, key = door(store), store.create("shop", ["recommend"])
    store.revoke(key.split("_")[1])
    assert refused(access, request(key), "recommend").status == 401


def test_what_needs_no_key_gets_none(store: KeyStore) -> None:
    assert door(store).admit(request(client="10.1.2.3"), None).key_id is None


@pytest.mark.parametrize("client", ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"])
def test_without_keys_this_machine_is_answered(store: KeyStore, client: str) -> None:
    assert Access(Serving(), store.read).admit(request(client=client), "admin").key_id is None


@pytest.mark.parametrize("client", ["10.0.0.7", "::2", "::1234", "::ffff:10.0.0.7", "128.0.0.1"])
def test_without_keys_nobody_else_is(store: KeyStore, client: str) -> None:
    error = refused(Access(Serving(), store.read), request(client=client), "recommend")
    assert (error.status, "serving.auth is off" in error.message) == (403, True)


def test_a_key_that_asks_for_too_much_is_told_when_to_come_back(store: KeyStore) -> None:
    access, key = door(store, requests_per_second=0.5, burst=3), store.create("shop", ["events"])
    other = store.create("app", ["events"])
    for _ in range(3):
        caller = access.admit(request(key), "events")
    error = refused(access, request(key), "events")
    assert error.status == 429
    assert error.retry_after is not None
    assert 1 < error.retry_after <= 2
    assert error.remedy == "send it again in 2 s", "as the header says, which has whole seconds"
    access.admit(request(other), "events")
    with pytest.raises(RefusedError):
        access.charge(caller, 1)
    access.charge(caller, 0)


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:3000", "127.0.0.1", "127.0.0.1:80", "127.1.2.3:3000", "[::1]", "[::1]:3000"]
)
def test_without_keys_this_machine_goes_by_its_own_names(store: KeyStore, host: str) -> None:
    access = Access(Serving(), store.read)
    assert access.admit(request(host=host), "admin").key_id is None
    assert access.admit(request(host=host, origin=f"http://{host}"), "admin").key_id is None


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:3000", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.7", "", "["],
)
def test_a_name_that_somebody_made_lead_here_opens_nothing_without_keys(store: KeyStore, host: str) -> None:
    error = refused(Access(Serving(), store.read), request(host=host), "admin")
    assert (error.status, f"calls this machine {host!r}" in error.message) == (403, True)
    assert "recloop keys create" in error.remedy


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:8000", "http://127.0.0.1:3000"])
def test_without_keys_no_page_from_elsewhere_has_a_browser_ask(store: KeyStore, origin: str) -> None:
    error = refused(Access(Serving(), store.read), request(origin=origin), "admin")
    assert (error.status, f"no page of {origin} is answered" in error.message) == (403, True)


def test_with_keys_it_does_not_matter_how_this_machine_is_called(store: KeyStore) -> None:
    key = store.create("shop", ["recommend"])
    asked = request(key, host="shop.example", origin="https://shop.example", client="10.0.0.7")
    assert door(store).admit(asked, "recommend").key_id is not None


def test_what_a_key_is_not_good_for_counts_too(store: KeyStore) -> None:
    access, key = door(store, requests_per_second=0.5, burst=3), store.create("shop", ["events"])
    assert [refused(access, request(key), "admin").status for _ in range(4)] == [403, 403, 403, 429]


def test_what_costs_more_than_a_burst_is_let_through_when_the_key_was_quiet(store: KeyStore) -> None:
    """As the endpoint counts it: one to come in, the others when it is known how many there are."""
    access, key = door(store, requests_per_second=1e-3, burst=50), store.create("shop", ["recommend"])
    access.charge(access.admit(request(key), "recommend"), 60 - 1, paid=1)
    assert refused(access, request(key), "recommend").status == 429, "and is paid for afterwards"
