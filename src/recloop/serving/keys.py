"""API keys of the endpoint: who may ask it what.

A key is shown once, when it is made; the table `api_keys` holds only the hash of its secret. An endpoint works
with a `KeyRing`, all keys of one moment in memory: no request waits for the database, and while that does not
answer, the keys read last go on working.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

from sqlalchemy import JSON, BigInteger, Column, Connection, Engine, Row, Table, Text, insert, or_, select, update

from recloop.errors import ConfigError
from recloop.storage import metadata, now_us

Scope = Literal["recommend", "events", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    # A slow hash with salt makes guessing a password dear. Nobody guesses 256 random bits, and this one is computed
    # for every request.
    Column("secret_sha256", Text, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),  # null: never
    Column("revoked_at", BigInteger),
    Column("replaced_by", Text),  # the key that a rotation made
)

PREFIX = "rl"
"""By it a key is known for one of ours where it should not be: in a log, in a repository."""
ID_BYTES, SECRET_BYTES = 5, 32
LENGTH = len(PREFIX) + 1 + 8 + 1 + 43
"""Characters of a key: the bytes above are 8 in base32 and 43 in base64."""


@dataclass(frozen=True)
class KeyInfo:
    """All that is known of a key, beside its secret. Times are in microseconds since 1970 (UTC)."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    replaced_by: str | None = None

    def works(self, now: int) -> bool:
        """Whether it opens anything at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True)
class Record:
    """A key, and what its secret is known by."""

    secret_sha256: str
    info: KeyInfo


NOBODY = Record("0" * 64, KeyInfo("", "", (), created_at=0, revoked_at=0))
"""Stands in for a key that is not there, so that asking for one takes as long as asking for one that is."""


class KeyRing:
    """The keys of one moment; without a database, and never changed."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._by_id = {record.info.id: record for record in records}

    def find(self, presented: str | None, now: int) -> KeyInfo | None:
        """Whose key `presented` is. None: no key, a wrong one, or one that has expired or was revoked."""
        if presented is None or len(presented) != LENGTH or not presented.isascii():
            return None
        parts = presented.split("_", 2)  # the secret may hold more of them
        if len(parts) != 3 or parts[0] != PREFIX:
            return None
        record = self._by_id.get(parts[1], NOBODY)
        right = hmac.compare_digest(record.secret_sha256, _hash(parts[2]))
        return record.info if right and record.info.works(now) else None


class KeyStore:
    """The keys of one database.

    Args:
        database: where the table is.
        clock: microseconds since 1970 (UTC).
    """

    def __init__(self, database: Engine, *, clock: Callable[[], int] = now_us) -> None:
        self._database = database
        self._clock = clock

    def create(self, name: str, scopes: Iterable[str], *, expires_at: int | None = None) -> str:
        """Make a key. What this returns is kept nowhere and can be had only now.

        Raises:
            ConfigError: there is no name, no scope, or no such scope.
        """
        if not name.strip() or not name.isprintable():
            raise ConfigError(f"a key cannot have the name {name!r}", remedy="name it after who will use it")
        wanted = set(scopes)
        if not wanted or not wanted.issubset(SCOPES):
            what = (
                f"no scope `{min(wanted.difference(SCOPES))}`" if wanted else "nothing that a key without scopes opens"
            )
            raise ConfigError(f"there is {what}", remedy=f"give it some of: {', '.join(SCOPES)}")
        info = KeyInfo(
            _new_id(), name.strip(), tuple(scope for scope in SCOPES if scope in wanted), self._clock(), expires_at
        )
        with self._database.begin() as connection:
            return _add(connection, info)

    def rotate(self, id: str, *, grace_seconds: float) -> str:
        """Make a key in the place of another, which goes on working for `grace_seconds`, and return it.

        It has the name and scopes of the old one, and as long a life as that was given.

        Raises:
            ConfigError: there is no such key, or it was revoked or rotated before, or has expired.
        """
        now = self._clock()
        with self._database.begin() as connection:
            old = _get(connection, id)
            if old.replaced_by is not None:
                raise ConfigError(f"key {id} was rotated before", remedy=f"`recloop keys rotate {old.replaced_by}`")
            if not old.works(now):
                gone = "has expired" if old.revoked_at is None else "was revoked"
                raise ConfigError(f"key {id} {gone}", remedy="`recloop keys create` makes another")
            lifetime = None if old.expires_at is None else old.expires_at - old.created_at
            end = now + int(grace_seconds * 1e6)
            new = KeyInfo(_new_id(), old.name, old.scopes, now, None if lifetime is None else now + lifetime)
            ending = (
                update(api_keys)
                .where(api_keys.c.id == id, api_keys.c.revoked_at.is_(None), api_keys.c.replaced_by.is_(None))
                .values(
                    expires_at=end if old.expires_at is None else min(end, old.expires_at),
                    replaced_by=new.id,
                )
            )
            if connection.execute(ending).rowcount != 1:
                raise ConfigError(
                    f"somebody else rotated or revoked key {id} meanwhile",
                    remedy="`recloop keys list` says what it is now",
                )
            return _add(connection, new)

    def revoke(self, id: str) -> None:
        """End a key now. One that was revoked before stays so.

        Raises:
            ConfigError: there is no such key.
        """
        with self._database.begin() as connection:
            _get(connection, id)
            query = update(api_keys).where(api_keys.c.id == id, api_keys.c.revoked_at.is_(None))
            connection.execute(query.values(revoked_at=self._clock()))

    def all(self) -> list[KeyInfo]:
        """Every key there ever was, oldest first."""
        with self._database.connect() as connection:
            rows = connection.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id))
            return [_info(row) for row in rows]

    def read(self) -> KeyRing:
        """The keys that work now. The others stay in the table for people, and cost an endpoint nothing."""
        alive = or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > self._clock())
        with self._database.connect() as connection:
            rows = connection.execute(select(api_keys).where(api_keys.c.revoked_at.is_(None), alive))
            return KeyRing(Record(row.secret_sha256, _info(row)) for row in rows)


def describe(keys: Sequence[KeyInfo], now: int) -> str:
    """A table of keys for people."""
    if not keys:
        return "there is no key yet: `recloop keys create` makes one"
    lines = [("id", "name", "scopes", "created (UTC)", "state")]
    lines += [(key.id, key.name, ", ".join(key.scopes), _moment(key.created_at), _state(key, now)) for key in keys]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, [*widths, 0], strict=True)) for line in lines
    )


def id_of(key: str) -> str:
    """The part of a key that everybody may know."""
    return key.split("_", 2)[1]


def _state(key: KeyInfo, now: int) -> str:
    replaced = "" if key.replaced_by is None else f", replaced by {key.replaced_by}"
    if key.revoked_at is not None:
        return f"revoked {_moment(key.revoked_at)}{replaced}"
    if key.expires_at is None:
        return "works"
    return f"{'works until' if key.works(now) else 'expired'} {_moment(key.expires_at)}{replaced}"


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _new_id() -> str:
    return base64.b32encode(secrets.token_bytes(ID_BYTES)).decode().lower()


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _add(connection: Connection, info: KeyInfo) -> str:
    """Store a new key, with a secret of its own; the key's text."""
    secret = secrets.token_urlsafe(SECRET_BYTES)
    row = {
        "id": info.id,
        "name": info.name,
        "secret_sha256": _hash(secret),
        "scopes": list(info.scopes),
        "created_at": info.created_at,
        "expires_at": info.expires_at,
    }
    connection.execute(insert(api_keys).values(row))
    return f"{PREFIX}_{info.id}_{secret}"


def _get(connection: Connection, id: str) -> KeyInfo:
    row = connection.execute(select(api_keys).where(api_keys.c.id == id)).one_or_none()
    if row is None:
        raise ConfigError(f"no key has the id {id!r}", remedy="`recloop keys list` shows which there are")
    return _info(row)


def _info(row: Row[tuple[object, ...]]) -> KeyInfo:
    fields = row._asdict()
    del fields["secret_sha256"]
    return KeyInfo(**fields | {"scopes": tuple(row.scopes)})
