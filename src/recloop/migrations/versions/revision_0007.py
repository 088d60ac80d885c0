"""Events that were refused, counted by hour and reason."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Text

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "refusals",
        Column("hour", BigInteger, primary_key=True, autoincrement=False),
        Column("reason", Text, primary_key=True),
        Column("events", BigInteger, nullable=False),
        Column("requests", BigInteger, nullable=False),
    )
