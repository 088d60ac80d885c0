"""Of a verdict: the quality it saw, when a retraining was asked for, and what came of that."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, BigInteger, Column, Text

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("verdicts", Column("quality", JSON))
    op.add_column("verdicts", Column("asked_at", BigInteger))
    op.add_column("verdicts", Column("taken", Text))
    op.add_column("verdicts", Column("ended", Text))
    op.execute("UPDATE verdicts SET ended = 'not known' WHERE acted IS NOT NULL")  # it was dealt with, however it was
