"""The tables as they were before revisions were counted. A database from then has some of them, or all: those stay."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, BigInteger, Column, Float, Integer, String, Text

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "events",
        Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("event_id", Text, nullable=False, unique=True),
        Column("user_id", Text, nullable=False),
        Column("item_id", Text, nullable=False),
        Column("event", Text, nullable=False),
        Column("value", Float(53), nullable=False),
        Column("timestamp", BigInteger, nullable=False),
        Column("received_at", BigInteger, nullable=False),
        Column("request_id", Text),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_index("ix_events_received_at", "events", ["received_at"], if_not_exists=True)
    op.create_table(
        "impressions",
        Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("request_id", Text, nullable=False),
        Column("user_id", Text),
        Column("served_at", BigInteger, nullable=False),
        Column("version", Integer, nullable=False),
        Column("variant", Text, nullable=False),
        Column("strategy", Text, nullable=False),
        Column("items", JSON, nullable=False),
        Column("scores", JSON, nullable=False),
        Column("history_length", Integer, nullable=False),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_index("ix_impressions_served_at", "impressions", ["served_at"], if_not_exists=True)
    op.create_table(
        "championships",
        Column("seq", Integer, primary_key=True, autoincrement=True),
        Column("at", BigInteger, nullable=False),
        Column("name", String, nullable=False),
        Column("version", Integer, nullable=False),
        Column("package_sha256", String, nullable=False),
        Column("model", String, nullable=False),
        Column("previous", Integer),
        Column("action", String(16), nullable=False),
        Column("reason", String, nullable=False),
        Column("numbers", JSON, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "verdicts",
        Column("id", Integer, primary_key=True, autoincrement=True),
        Column("at", BigInteger, nullable=False),
        Column("window_from", BigInteger, nullable=False),
        Column("window_to", BigInteger, nullable=False),
        Column("version", Integer, nullable=False),
        Column("events", Integer, nullable=False),
        Column("verdict", Text, nullable=False),
        Column("signals", JSON, nullable=False),
        Column("reasons", JSON, nullable=False),
        Column("report", Text),
        Column("acted", Text),
        if_not_exists=True,
    )
