"""What the endpoint writes down of its own doings."""

from __future__ import annotations

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
    sqlite_autoincrement=True,
)
"""A row is a user who asked to be forgotten, and when: what came from them until then must not be used again."""
