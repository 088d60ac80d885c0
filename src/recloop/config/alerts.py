"""`alerts`: who is told when something is wrong, and how often."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from recloop.config.section import Section

Severity = Literal["note", "warn", "retrain", "roll back", "error"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""From the least grave to the gravest"""

Address = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")]


class Email(Section):
    """A mail server that takes alerts. User and password are in the environment (docs/monitoring.md)."""

    host: str = Field(min_length=1)
    port: int = Field(default=587, ge=1, le=65535)
    from_: Address = Field(alias="from")
    to: tuple[Address, ...] = Field(min_length=1)
    starttls: bool = True
    """Speak to it in secret, and only if its certificate is right; off only where nobody can listen."""


class Alerting(Section):
    """Alerts. A webhook's URL is a secret: it is in the environment (docs/monitoring.md)."""

    repeat_hours: float = Field(default=24.0, gt=0, le=876_000)
    """What is still wrong is told again after so long, if it is still being found."""
    least: Severity = "warn"
    """From this severity on others than the log are told."""
    email: Email | None = None
