"""Of alerts, which channels have been told: whoever finds the cause next may have others."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, Column

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("alerts", Column("told", JSON(none_as_null=True)))
