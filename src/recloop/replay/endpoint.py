"""The endpoint without web and wall clock: its own engines, sessions, rules and lists of what is popular.

Everybody is asked for a list just before each of their events, from every version that some policy has live; then the
event is taken in. So an event changes its user's next answer, as in serving, and no version is told what comes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from recloop.config import Serving
from recloop.replay.log import Played
from recloop.serving.endpoint import HOUR_US
from recloop.serving.engine import Engine, Query, Ranked
from recloop.serving.events import Seen
from recloop.serving.listing import Lister, Wanted, popular_for
from recloop.serving.popularity import PopularNow
from recloop.serving.rerank import Reranked
from recloop.serving.schemas import RecommendRequest
from recloop.serving.sessions import Sessions

Name = TypeVar("Name", bound=Hashable)

K = 10
"""Items in a list"""
TOGETHER = 64
"""Questions that are ranked in one product"""


@dataclass(frozen=True, slots=True)
class Listed:
    """A list that was shown before an event."""

    items: tuple[str, ...]
    scores: tuple[float, ...]
    strategy: str
    history_length: int

    def place(self, item_id: str) -> int:
        """Where an item stands, from 1; 0: it does not."""
        return self.items.index(item_id) + 1 if item_id in self.items else 0


class InProcess:
    """What users did so far, and lists for them.

    Args:
        serving: the section of `params.yaml`.
        now: when it starts, in µs since 1970.
    """

    def __init__(self, serving: Serving, now: int) -> None:
        self._now = now
        self._sessions = Sessions(serving.max_history)
        self._popular = PopularNow(int(serving.popular_half_life_hours * HOUR_US), clock=lambda: self._now)
        self._lister = Lister(serving.model_copy(update={"default_k": K}), np.random.default_rng(0))

    def play(self, events: Iterable[Played], engines: Mapping[Name, Engine]) -> dict[Name, list[Listed]]:
        """Before each event a list from every engine, for its user; behind each event nothing is as before.

        Args:
            events: in order.
            engines: by any name.

        Returns:
            Of each engine, a list an event.
        """
        asked: dict[Name, _Asked] = {name: _Asked(engine, self._lister) for name, engine in engines.items()}
        for event in events:
            self._now = event.at
            request = RecommendRequest(user_id=event.user_id)
            for each in asked.values():
                wanted = self._lister.wanted(request, each.engine, self._sessions)
                if wanted.history:
                    each.ask(wanted)
                else:
                    popular = self._popular.lists(each.engine)
                    each.found(wanted, popular_for(each.engine, popular, wanted))
            seen = [Seen(event.seq, event.user_id, event.item_id, event.at, event.event)]
            self._sessions.add(seen)
            self._popular.add(seen)
        return {name: each.lists() for name, each in asked.items()}


class _Asked:
    """Questions to one engine, in their order: what a question is made of is taken when it is asked."""

    def __init__(self, engine: Engine, lister: Lister) -> None:
        self.engine, self._lister = engine, lister
        self._lists: list[Listed | None] = []
        self._waiting: list[tuple[int, Wanted]] = []

    def ask(self, wanted: Wanted) -> None:
        self._waiting.append((len(self._lists), wanted))
        self._lists.append(None)
        if len(self._waiting) == TOGETHER:
            self._answer()

    def found(self, wanted: Wanted, candidates: Ranked) -> None:
        self._lists.append(self._listed(wanted, self._lister.arrange(self.engine, wanted, candidates)))

    def lists(self) -> list[Listed]:
        self._answer()
        return [each for each in self._lists if each is not None]

    def _answer(self) -> None:
        if not self._waiting:
            return
        count = max(wanted.candidates for _, wanted in self._waiting)
        ranked = self.engine.rank([_query(wanted) for _, wanted in self._waiting], count)
        for (place, wanted), candidates in zip(self._waiting, ranked, strict=True):
            listed = self._lister.arrange(self.engine, wanted, candidates)
            if listed.exhausted:  # the rules left too few: ask for those that meet them only
                more = self._lister.narrowed(self.engine, wanted)
                again = self.engine.rank([_query(more)], more.candidates)[0]
                listed = self._lister.arrange(self.engine, more, again).after(listed)
            self._lists[place] = self._listed(wanted, listed)
        self._waiting = []

    def _listed(self, wanted: Wanted, listed: Reranked) -> Listed:
        return Listed(
            tuple(self.engine.item(placed.code)[0] for placed in listed.items),
            tuple(float(placed.score) for placed in listed.items),
            wanted.strategy,
            len(wanted.history),
        )


def _query(wanted: Wanted) -> Query:
    return Query(wanted.history, wanted.times, wanted.user, wanted.banned, wanted.allowed)
