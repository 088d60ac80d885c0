"""`/model` and `/admin/…`: which version is live, and changing that."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from recloop.serving.schemas.base import PRINTABLE, Answer, Request


class ReloadRequest(Request):
    """Look now which version is to be live."""


class RollbackRequest(Request):
    """Make the champion before this one live again."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=PRINTABLE)]
    """Why; kept in the history."""


class SplitRequest(Request):
    """Which share of the users the challenger answers."""

    challenger: float = Field(ge=0, le=1, allow_inf_nan=False)
    """Share of the users that the challenger answers: 0 is nobody, 1 everybody."""
    shadow: bool = False
    """Whether the challenger makes a list too, unseen, wherever the champion answers."""


class Refused(Answer):
    """A version that was to go live and could not; the one before it goes on answering."""

    version: int | None
    """Null where not even that could be read."""
    at: str
    """When, in ISO 8601 (UTC)."""
    error: str
    """Why."""


class ChallengerAnswer(Answer):
    """The version that is tried beside the champion."""

    version: int
    """Its number in the registry."""
    model: str
    """Its name in the catalogue of models."""
    metrics: dict[str, Any]
    """How it did on the test period when it was trained."""


class SplitAnswer(Answer):
    """How traffic is shared out."""

    challenger: float
    """Share of the users that the challenger answers."""
    shadow: bool
    """Whether it also makes a list, unseen, wherever the champion answers."""


class ReloadAnswer(Answer):
    """What is live now."""

    version: int
    """Who answers."""
    changed: bool
    """Whether somebody else did before."""
    refused: Refused | None = None
    """The version that is to answer, or the challenger, where it cannot, and why; null where all is well."""


class RollbackAnswer(Answer):
    """What the registry said."""

    done: str
    """In its words."""
    version: int
    """Who answers now."""


class ModelAnswer(Answer):
    """What is live."""

    version: int
    """The champion's number in the registry."""
    since: str
    """When it became champion, in ISO 8601 (UTC)."""
    reason: str
    """Why it did."""
    model: str
    """Its name in the catalogue of models."""
    newest: str | None
    """Time of the newest event it was trained with."""
    data_sha256: str
    """Hash of the data it was trained with."""
    model_sha256: str
    """Hash of its weights."""
    feedback_watermark: int
    """Number of the endpoint's last event that was in that data; what came later is in its users' histories."""
    items: int
    """How many it knows."""
    users: int
    """How many it knows."""
    metrics: dict[str, Any]
    """How it did on the test period when it was trained."""
    refused: Refused | None
    """A version that was to take its place, or the challenger's, and could not; null where all is well."""
    challenger: ChallengerAnswer | None
    """The version beside it; null where none is loaded."""
    split: SplitAnswer
    """How traffic is shared out between the two."""
