"""`/users/{user_id}`: what is known of a person, and forgetting it."""

from __future__ import annotations

from recloop.serving.schemas.base import Answer


class KnownEvent(Answer):
    """One thing a user did."""

    item_id: str
    """With what."""
    event: str | None
    """What; null where it came with the training data."""
    at: str
    """When, in ISO 8601 (UTC)."""


class UserAnswer(Answer):
    """What is known of a person."""

    user_id: str
    """Who."""
    in_model: bool
    """Whether the live model was trained with this user."""
    history: list[KnownEvent]
    """What their next list follows from, oldest first."""
    dismissed: list[str]
    """Items they do not want to see."""
    stored_events: int
    """Events in the endpoint's database."""
    impressions: int
    """Lists they were shown, in the endpoint's database."""


class ForgottenAnswer(Answer):
    """What was deleted."""

    user_id: str
    """Who."""
    events: int
    """Of theirs, deleted from the endpoint's database."""
    impressions: int
    """Lists that do not name the user any more."""
