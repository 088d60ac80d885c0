"""`/similar`: items like one."""

from __future__ import annotations

from recloop.serving.schemas.base import Answer, Id
from recloop.serving.schemas.lists import ListRequest, RecommendedItem


class SimilarRequest(ListRequest):
    """Items like one."""

    item_id: Id


class SimilarAnswer(Answer):
    """Items like one, most first."""

    model_version: int
    items: list[RecommendedItem]
    unknown_items: list[str]
