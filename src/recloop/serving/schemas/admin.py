"""`/model` and `/admin/…`: which version is live, and changing that."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from recloop.serving.schemas.base import Answer, Request


class ReloadRequest(Request):
    """Look now which version is to be live."""


class RollbackRequest(Request):
    """Make the champion before this one live again."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    """Kept in the history."""


class SplitRequest(Request):
    """Which share of the users the challenger answers."""

    challenger: float = Field(ge=0, le=1, allow_inf_nan=False)
    shadow: bool = False
    """Whether the challenger makes a list too, unseen, wherever the champion answers."""


class Refused(Answer):
    """A version that was to go live and could not; the one before it goes on answering."""

    version: int | None
    at: str
    error: str


class ChallengerAnswer(Answer):
    """The version that is tried beside the champion."""

    version: int
    model: str
    metrics: dict[str, Any]


class SplitAnswer(Answer):
    """How traffic is shared out."""

    challenger: float
    shadow: bool


class ReloadAnswer(Answer):
    """What is live now."""

    version: int
    changed: bool


class RollbackAnswer(Answer):
    """What the registry said."""

    done: str
    version: int


class ModelAnswer(Answer):
    """What is live."""

    version: int
    since: str
    reason: str
    model: str
    newest: str | None
    """Time of the newest event it knows."""
    data_sha256: str
    model_sha256: str
    feedback_watermark: int
    items: int
    users: int
    metrics: dict[str, Any]
    refused: Refused | None
    challenger: ChallengerAnswer | None
    """The version beside it; None where none is loaded."""
    split: SplitAnswer
