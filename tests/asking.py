"""Asking an engine as the endpoint does, without an event loop, a cache or a database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from recloop.config import Serving
from recloop.serving.engine import Engine, Query
from recloop.serving.listing import Lister, Wanted, popular_for
from recloop.serving.rerank import Reranked
from recloop.serving.schemas import RecommendRequest
from recloop.serving.sessions import Sessions


@dataclass(frozen=True)
class Asked:
    """What was asked, in codes, and the list."""

    wanted: Wanted
    listed: Reranked


def ask(
    engine: Engine,
    user_id: str | None = None,
    history: list[str] | None = None,
    *,
    sessions: Sessions | None = None,
    serving: Serving | None = None,
    **further: Any,
) -> Asked:
    """A list for a user; `further` is what `RecommendRequest` takes."""
    lister = Lister(serving or Serving(), np.random.default_rng(0))
    request = RecommendRequest.model_construct(user_id=user_id, history=history, **further)
    wanted = lister.wanted(request, engine, sessions or Sessions(100))
    if wanted.history:
        query = Query(wanted.history, wanted.times, wanted.user, wanted.banned, wanted.allowed)
        found = engine.rank([query], wanted.candidates)[0]
    else:
        found = popular_for(engine, None, wanted)
    return Asked(wanted, lister.arrange(engine, wanted, found))


def ids(engine: Engine, asked: Asked) -> list[str]:
    """The items of the list."""
    return [engine.item(placed.code)[0] for placed in asked.listed.items]
