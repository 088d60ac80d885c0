"""API keys: shown once, kept as a hash, found quickly, and gone when they are revoked."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import MetaData, event, make_url, select
from typer.testing import CliRunner, Result

from recloop.cli import app
from recloop.config import Serving, load_params, validated
from recloop.errors import ConfigError, DatabaseError
from recloop.project import Project
from recloop.serving.keys import LENGTH, NOBODY, KeyInfo, KeyRing, KeyStore, Record, api_keys, describe
from recloop.serving.tables import audit
from recloop.storage import connect, now_us
from tests.conftest import ROOT
from tests.unit.test_cli import recloop

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
SECRET = "A_b-" * 10 + "_x_"
"""43 characters, as base64 may give them, with the separator among them."""


class Clock:
    """A clock to turn."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database_url: str, clock: Clock) -> Iterator[KeyStore]:
    database = connect(database_url)
    yield KeyStore(database, clock=clock)
    database.dispose()


def id_of(key: str) -> str:
    return key.split("_")[1]


def ring_of(secret: str, **changes: int) -> KeyRing:
    """A ring of one key, `abcdefgh`, as the database would give it."""
    info = replace(KeyInfo("abcdefgh", "shop", ("recommend",), START), **changes)
    return KeyRing([Record(hashlib.sha256(secret.encode()).hexdigest(), info)])


def test_a_key_opens_what_it_was_made_for(store: KeyStore) -> None:
    key = store.create(" shop ", ["events", "recommend", "events"])
    assert store.read().find(key, START) == KeyInfo(id_of(key), "shop", ("recommend", "events"), START)
    prefix, id, secret = key.split("_", 2)
    assert (prefix, len(id), len(secret), len(key)) == ("rl", 8, 43, LENGTH)
    assert set(id) <= set(string.ascii_lowercase + "234567")


def test_every_key_is_another(store: KeyStore) -> None:
    made = [store.create("shop", ["recommend"]) for _ in range(20)]
    assert len({id_of(key) for key in made}) == len({key.split("_", 2)[2] for key in made}) == 20
    ring = store.read()
    assert [ring.find(key, START).id for key in made] == [id_of(key) for key in made]  # type: ignore[union-attr]


def test_the_secret_is_nowhere_in_the_database(store: KeyStore) -> None:
    first = store.create("shop", ["recommend"])
    texts = [first, store.rotate(id_of(first), grace_seconds=60)]
    tables = MetaData()
    tables.reflect(store._database)
    with store._database.connect() as connection:
        held = repr([connection.execute(select(table)).all() for table in tables.sorted_tables])
    assert id_of(first) in held
    for text in texts:
        secret = text.split("_", 2)[2]
        assert secret not in held
        assert secret not in repr(store.read()._by_id)
        assert secret not in repr(store.all())
    if store._database.dialect.name == "sqlite":
        file = Path(make_url(store._database.url).database or "")
        content = b"".join(part.read_bytes() for part in file.parent.glob(f"{file.name}*"))
        assert id_of(first).encode() in content
        assert not any(text.split("_", 2)[2].encode() in content for text in texts)


def test_a_key_ends_when_it_was_to(store: KeyStore, clock: Clock) -> None:
    key = store.create("shop", ["recommend"], expires_at=START + 10 * SECOND)
    ring = store.read()
    assert ring.find(key, START + 10 * SECOND - 1) is not None
    assert ring.find(key, START + 10 * SECOND) is None
    clock.now = START + 10 * SECOND
    assert store.read()._by_id == {}
    assert [each.id for each in store.all()] == [id_of(key)]


def test_a_revoked_key_is_not_found_in_the_next_ring(store: KeyStore, clock: Clock) -> None:
    key, other = store.create("shop", ["recommend"]), store.create("app", ["events"])
    before = store.read()
    clock.now += 5
    store.revoke(id_of(key))
    assert before.find(key, clock.now) is not None  # a ring does not change
    assert store.read().find(key, clock.now) is None
    assert store.read().find(other, clock.now) is not None
    clock.now += 5
    store.revoke(id_of(key))
    assert {each.name: each.revoked_at for each in store.all()} == {"shop": START + 5, "app": None}


def test_a_ring_itself_looks_at_what_a_key_is() -> None:
    key = f"rl_abcdefgh_{SECRET}"
    assert ring_of(SECRET).find(key, START) is not None
    assert ring_of(SECRET, revoked_at=START).find(key, START) is None
    assert ring_of(SECRET, expires_at=START).find(key, START) is None


def test_what_stands_in_for_an_unknown_key_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recloop.serving.keys._hash", lambda secret: NOBODY.secret_sha256)
    assert KeyRing().find(f"rl_abcdefgh_{SECRET}", 0) is None


def test_an_unknown_id_costs_the_same_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []
    monkeypatch.setattr("recloop.serving.keys.hmac.compare_digest", lambda *pair: compared.append(pair))
    ring_of("x" * 43).find(f"rl_abcdefgh_{SECRET}", START)
    ring_of("x" * 43).find(f"rl_zzzzzzzz_{SECRET}", START)
    assert [len(stored) for stored, _ in compared] == [64, 64]
    assert compared[0][1] == compared[1][1]


def test_rotation_gives_the_old_key_its_grace(store: KeyStore, clock: Clock) -> None:
    old = store.create("shop", ["events", "admin"])
    clock.now += 7 * SECOND
    new = store.rotate(id_of(old), grace_seconds=2.5)
    ring, end = store.read(), clock.now + 2_500_000
    assert ring.find(new, clock.now) == KeyInfo(id_of(new), "shop", ("events", "admin"), clock.now)
    assert ring.find(old, end - 1) == KeyInfo(
        id_of(old), "shop", ("events", "admin"), START, expires_at=end, replaced_by=id_of(new)
    )
    assert ring.find(old, end) is None
    assert ring.find(new, end) is not None


def test_rotation_without_grace_ends_the_old_key_now(store: KeyStore, clock: Clock) -> None:
    old = store.create("shop", ["events"])
    new = store.rotate(id_of(old), grace_seconds=0)
    assert store.read().find(old, clock.now) is None
    assert store.read().find(new, clock.now) is not None


def test_rotation_neither_prolongs_the_old_key_nor_makes_one_for_ever_of_it(store: KeyStore, clock: Clock) -> None:
    old = store.create("shop", ["events"], expires_at=START + 100 * SECOND)
    clock.now += 95 * SECOND
    new = store.rotate(id_of(old), grace_seconds=60)
    ends = {each.id: each.expires_at for each in store.all()}
    assert ends == {id_of(old): START + 100 * SECOND, id_of(new): START + 195 * SECOND}


def test_what_cannot_be_rotated_says_why_and_what_to_do(store: KeyStore, clock: Clock) -> None:
    rotated, revoked = store.create("a", ["events"]), store.create("b", ["events"])
    expired = store.create("c", ["events"], expires_at=START + 1)
    new = store.rotate(id_of(rotated), grace_seconds=60)
    store.revoke(id_of(revoked))
    clock.now += 1
    for key, said, mend in (
        (rotated, "was rotated before", f"keys rotate {id_of(new)}"),
        (revoked, "was revoked", "keys create"),
        (expired, "has expired", "keys create"),
    ):
        with pytest.raises(ConfigError, match=f"key {id_of(key)} {said}") as caught:
            store.rotate(id_of(key), grace_seconds=60)
        assert mend in (caught.value.remedy or "")
    assert len(store.all()) == 4


def test_of_two_that_rotate_a_key_at_once_one_is_told(store: KeyStore, database_url: str) -> None:
    old = store.create("shop", ["events"])
    other = connect(database_url)

    def meanwhile(*arguments: object) -> None:
        KeyStore(other).rotate(id_of(old), grace_seconds=60)

    event.listen(store._database, "after_cursor_execute", meanwhile, once=True)
    with pytest.raises(ConfigError, match=f"somebody else rotated or revoked key {id_of(old)} meanwhile"):
        store.rotate(id_of(old), grace_seconds=60)
    assert len(store.all()) == 2
    other.dispose()


def test_an_unknown_id_is_named(store: KeyStore) -> None:
    with pytest.raises(ConfigError, match="no key has the id 'nobody'") as caught:
        store.revoke("nobody")
    assert "`recloop keys list`" in (caught.value.remedy or "")
    with pytest.raises(ConfigError, match="no key has the id 'nobody'"):
        store.rotate("nobody", grace_seconds=60)


@pytest.mark.parametrize(
    ("name", "scopes", "message"),
    [
        ("", ["events"], "cannot have the name ''"),
        (" ", ["events"], "cannot have the name ' '"),
        ("a\nb", ["events"], "cannot have the name"),
        ("a\0b", ["events"], "cannot have the name"),
        ("shop", [], "without scopes"),
        ("shop", ["events", "recomend"], "there is no scope `recomend`"),
        ("shop", ["events", ""], "there is no scope ``"),
    ],
)
def test_a_key_that_would_be_good_for_nothing_is_not_made(
    store: KeyStore, name: str, scopes: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        store.create(name, scopes)
    assert caught.value.remedy
    assert store.all() == []


def test_a_database_that_does_not_answer_leaves_the_last_ring_as_it_was(store: KeyStore) -> None:
    key = store.create("shop", ["events"])
    ring = store.read()
    with store._database.begin() as connection:
        api_keys.drop(connection)
    with pytest.raises(DatabaseError, match="api_keys"):
        store.read()
    assert ring.find(key, START) is not None


@pytest.mark.parametrize(
    "presented",
    [
        None,
        "",
        "rl",
        "rl_abcdefgh",
        "rl_abcdefgh_",
        f"abcdefgh_{SECRET}",
        f"sk_abcdefgh_{SECRET}",
        f"RL_abcdefgh_{SECRET}",
        f"rl_ABCDEFGH_{SECRET}",
        f"rl_bcdefgha_{SECRET}",
        f"rl_abcdefgh-{SECRET}",
        f"rl_abcdefg_{SECRET}h",
        f"rl__abcdefgh{SECRET}",
        f"rl_abcdefgh_{SECRET[:-1]}",
        f"rl_abcdefgh_{SECRET}=",
        f"rl_abcdefgh_{SECRET[:-1]}y",
        f"rl_abcdefgh_{SECRET[:-1]}é",
        f"rl_abcdefgh_{SECRET[:-1]}\udc80",
        f" rl_abcdefgh_{SECRET}",
        f"rl_abcdefgh_{SECRET}\n",
        "x" * LENGTH,
        "_" * LENGTH,
        "rl_abcdefgh_" + "x" * 10_000_000,
    ],
)
def test_a_text_that_is_not_quite_the_key_is_none(presented: str | None) -> None:
    assert ring_of(SECRET).find(f"rl_abcdefgh_{SECRET}", START) is not None
    assert ring_of(SECRET).find(presented, START) is None


@given(st.text() | st.text(alphabet="rl_abcdefgh", min_size=LENGTH, max_size=LENGTH))
def test_no_text_that_was_not_given_out_is_found_or_breaks_anything(presented: str) -> None:
    assert ring_of(SECRET).find(presented, START) is None


@given(at=st.integers(0, 42), other=st.sampled_from(string.ascii_letters + string.digits + "-_"))
def test_a_secret_with_one_character_changed_opens_nothing(at: int, other: str) -> None:
    changed = SECRET[:at] + other + SECRET[at + 1 :]
    assert (ring_of(SECRET).find(f"rl_abcdefgh_{changed}", START) is not None) == (changed == SECRET)


def test_a_table_says_what_each_key_is() -> None:
    key = KeyInfo("aaaaaaaa", "shop", ("recommend", "events"), START)
    keys = [
        key,
        replace(key, id="bbbbbbbb", name="a", expires_at=START + 60 * SECOND, replaced_by="aaaaaaaa"),
        replace(key, id="cccccccc", name="b", scopes=("admin",), expires_at=START),
        replace(key, id="dddddddd", name="c", revoked_at=START + SECOND),
    ]
    assert describe(keys, START).splitlines() == [
        "id        name  scopes             created (UTC)        state",
        "aaaaaaaa  shop  recommend, events  2023-11-14 22:13:20  works",
        "bbbbbbbb  a     recommend, events  2023-11-14 22:13:20  works until 2023-11-14 22:14:20, replaced by aaaaaaaa",
        "cccccccc  b     admin              2023-11-14 22:13:20  expired 2023-11-14 22:13:20",
        "dddddddd  c     recommend, events  2023-11-14 22:13:20  revoked 2023-11-14 22:13:21",
    ]


# The command line.


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.setenv("RECLOOP_ROOT", str(tmp_path))
    return Project(tmp_path)


def keys(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments])


def test_a_key_made_at_the_command_line_is_printed_once_and_works(project: Project) -> None:
    made = keys("create", "shop", "--scope", "recommend", "--scope", "events", "--days", "30")
    assert made.exit_code == 0
    key = made.stdout.strip()
    assert "this key is not shown again" in made.stderr
    assert "endpoints take it within 2 s" in made.stderr
    assert key not in made.stderr
    found = KeyStore(connect(project.database_url)).read().find(key, now_us())
    assert found is not None
    assert (found.name, found.scopes) == ("shop", ("recommend", "events"))
    assert found.expires_at is not None
    assert (found.expires_at - found.created_at) / SECOND / 86_400 == pytest.approx(30)
    listed = keys("list").stdout
    assert id_of(key) in listed
    assert key.split("_", 2)[2] not in listed


def test_keys_are_rotated_and_revoked_at_the_command_line(project: Project) -> None:
    assert keys("list").stdout == "there is no key yet: `recloop keys create` makes one\n"
    old = keys("create", "shop", "--scope", "events").stdout.strip()
    rotated = keys("rotate", id_of(old), "--grace-hours", "1")
    new = rotated.stdout.strip()
    assert "this key is not shown again" in rotated.stderr
    assert f"{id_of(old)} for 1 more hours at most" in rotated.stderr
    store = KeyStore(connect(project.database_url))
    assert store.read().find(old, now_us() + 3_590 * SECOND) is not None
    assert store.read().find(old, now_us() + 3_600 * SECOND) is None
    revoked = keys("revoke", id_of(new))
    assert revoked.stdout == f"{id_of(new)} is revoked: endpoints refuse it within 2 s\n"
    assert store.read().find(new, now_us()) is None
    states = [line.split("  ")[-1] for line in keys("list").stdout.splitlines()]
    assert [state.split()[0] for state in states] == ["state", "works", "revoked"]


def test_what_is_done_to_keys_at_the_command_line_leaves_a_line_without_a_secret(project: Project) -> None:
    old = keys("create", "shop", "--scope", "events").stdout.strip()
    new = keys("rotate", id_of(old), "--grace-hours", "1").stdout.strip()
    keys("revoke", id_of(new))
    keys("revoke", "nobody")
    with connect(project.database_url).connect() as connection:
        rows = connection.execute(select(audit.c.act, audit.c.details, audit.c.outcome).order_by(audit.c.seq)).all()
    assert [tuple(row) for row in rows] == [
        (
            "create key",
            {"id": id_of(old), "name": "shop", "scopes": ["events"], "days": None},
            "done, at the command line",
        ),
        ("rotate key", {"id": id_of(old), "new_id": id_of(new), "grace_hours": 1}, "done, at the command line"),
        ("revoke key", {"id": id_of(new)}, "done, at the command line"),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "shop"],
        ["create", "shop", "--scope", "events", "--days", "0"],
        ["create", "shop", "--scope", "events", "--days", "99999"],
        ["rotate", "abcdefgh", "--grace-hours", "-1"],
    ],
)
def test_arguments_that_cannot_be_are_refused(project: Project, arguments: list[str]) -> None:
    refused = keys(*arguments)
    assert refused.exit_code == 2
    assert "--" in refused.stderr
    assert not project.var.exists()


def test_a_wrong_id_at_the_command_line_is_a_message_and_not_a_traceback(project: Project) -> None:
    done = recloop(project.root, "keys", "revoke", "nobody")
    assert done.returncode == 2
    assert done.stderr.startswith("recloop: no key has the id 'nobody'\n  → `recloop keys list`")
    assert "Traceback" not in done.stderr


# The settings.


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1"])
def test_on_loopback_nobody_needs_a_key(host: str) -> None:
    assert validated(Serving, {"host": host}, where="serving").auth == "off"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "8.8.8.8", "fe80::1"])  # noqa: S104
def test_off_loopback_an_endpoint_without_keys_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match=r"serving\.auth is off, and serving\.host .* is not a loopback") as caught:
        validated(Serving, {"host": host}, where="serving")
    assert host in str(caught.value)
    assert "`recloop keys create`" in str(caught.value)
    assert validated(Serving, {"host": host, "auth": "required"}, where="serving").host == host


def test_the_file_is_refused_that_opens_the_endpoint_to_all(project: Project) -> None:
    path = project.root / "params.yaml"
    path.write_text(path.read_text().replace("host: 127.0.0.1", "host: 0.0.0.0"))
    with pytest.raises(ConfigError, match=r"serving: serving\.auth is off"):
        load_params(path)
    path.write_text(path.read_text().replace("auth: off", "auth: required"))
    assert load_params(path).serving.auth == "required"


@pytest.mark.parametrize(
    ("key", "value"),
    [("auth", "on"), ("auth", False), ("requests_per_second", 0), ("requests_per_second", float("inf")), ("burst", 0)],
)
def test_limits_that_let_nothing_through_are_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{key}: "):
        validated(Serving, {key: value}, where="serving")
