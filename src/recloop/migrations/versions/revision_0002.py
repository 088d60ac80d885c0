"""Context of events, chances of shown items; the endpoint's keys, splits and acts, and whom it is to forget."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Integer, Text

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("events", Column("context", JSON))
    op.add_column("impressions", Column("chances", JSON))
    op.create_index("ix_events_user_id_seq", "events", ["user_id", "seq"])
    op.create_table(
        "traffic",
        Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("at", BigInteger, nullable=False),
        Column("by", Text, nullable=False),
        Column("challenger", Float(53), nullable=False),
        Column("shadow", Boolean, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "audit",
        Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("at", BigInteger, nullable=False),
        Column("key_id", Text),
        Column("act", Text, nullable=False),
        Column("details", JSON, nullable=False),
        Column("outcome", Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_at", "audit", ["at"])
    op.create_table(
        "forgotten",
        Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("user_hash", Text, nullable=False),
        Column("at", BigInteger, nullable=False),
        Column("events", Integer, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "api_keys",
        Column("id", Text, primary_key=True),
        Column("name", Text, nullable=False),
        Column("secret_sha256", Text, nullable=False),
        Column("scopes", JSON, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("expires_at", BigInteger),
        Column("revoked_at", BigInteger),
        Column("replaced_by", Text),
    )
