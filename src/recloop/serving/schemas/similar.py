"""`/similar`: items like one."""

from __future__ import annotations

from recloop.serving.schemas.base import Answer, Id
from recloop.serving.schemas.lists import ListRequest, RecommendedItem


class SimilarRequest(ListRequest):
    """Items like one."""

    item_id: Id
    """Like which."""


class SimilarAnswer(Answer):
    """Items like one, most first."""

    model_version: int
    """Who made the list."""
    items: list[RecommendedItem]
    """Most alike first, without the item itself."""
    unknown_items: list[str]
    """Items of the request that the model does not know; they were passed over."""
