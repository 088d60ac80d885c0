"""Of whom to forget: up to where it is done."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Text

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("forgotten", Column("last_event", BigInteger))
    op.add_column("forgotten", Column("last_impression", BigInteger))
    op.add_column("forgotten", Column("user_id", Text))
