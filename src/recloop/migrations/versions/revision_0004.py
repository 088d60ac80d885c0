"""Alerts: what is or was wrong, and who has been told."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, BigInteger, Column, Integer, Text, text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "alerts",
        Column("id", Integer, primary_key=True, autoincrement=True),
        Column("cause", Text, nullable=False),
        Column("severity", Text, nullable=False),
        Column("title", Text, nullable=False),
        Column("text", Text, nullable=False),
        Column("first_at", BigInteger, nullable=False),
        Column("last_at", BigInteger, nullable=False),
        Column("times", Integer, nullable=False),
        Column("sent_at", BigInteger),
        Column("waiting", JSON),
        Column("sending_since", BigInteger),
        Column("failed", Text),
        Column("resolved_at", BigInteger),
    )
    still_open = text("resolved_at IS NULL")
    op.create_index(
        "ix_alerts_open_cause", "alerts", ["cause"], unique=True, sqlite_where=still_open, postgresql_where=still_open
    )
