"""What the endpoint writes down of its own doings."""

from __future__ import annotations

import hashlib

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Integer, Table, Text

from recloop.storage import metadata

traffic = Table(
    "traffic",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("by", Text, nullable=False),
    Column("challenger", Float(53), nullable=False),  # share of the users, 0 to 1
    Column("shadow", Boolean, nullable=False),
    sqlite_autoincrement=True,
)
"""A row is a change of how traffic is shared out; the newest one holds."""

audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False, index=True),
    Column("key_id", Text),  # null: nobody was named
    Column("act", Text, nullable=False),
    Column("details", JSON, nullable=False),
    Column("outcome", Text, nullable=False),
    sqlite_autoincrement=True,
)
"""A row is something that an admin did, or tried to do."""

forgotten = Table(
    "forgotten",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("user_hash", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("events", Integer, nullable=False),  # that were deleted
    Column("last_event", BigInteger),  # `seq` of the last one of them; null: there was none
    Column("last_impression", BigInteger),  # `seq` of the last list whose name was looked at
    Column("user_id", Text),  # who it is, until lists that were on their way were looked at, too
    sqlite_autoincrement=True,
)
"""A row is a user who asked to be forgotten, and when: what came from them until then must not be used again."""


def user_hash(user_id: str) -> str:
    """What is kept of a user who is to be forgotten, so that what others know of them is not used either."""
    return hashlib.sha256(user_id.encode()).hexdigest()
