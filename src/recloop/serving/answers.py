"""Lists for users: made once, and sent again for as long as nothing that they follow from has changed.

What a list follows from is the request, the version that answers, what the user did, and, for somebody unknown, what is
popular now. A request that is the same byte for byte finds the answer that was made for it, and that answer is good
while those have not changed: so most of the work of a busy page is a look into a dictionary.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recloop.config import Serving
from recloop.errors import RecloopError, ServingError
from recloop.serving.batcher import Batcher
from recloop.serving.engine import Engine, Query, Ranked
from recloop.serving.impressions import Impression, ImpressionLog, Shown
from recloop.serving.listing import Lister, Wanted, popular_for
from recloop.serving.live import Served
from recloop.serving.metrics import Metrics
from recloop.serving.popularity import Popular
from recloop.serving.rerank import Reranked
from recloop.serving.schemas import RecommendRequest
from recloop.serving.sessions import Sessions
from recloop.serving.traffic import Plan, Variant
from recloop.storage import now_us

logger = logging.getLogger("recloop.serving")

LONGEST_KEY = 4096
"""Bytes: a longer request's answer is not kept."""


@dataclass(slots=True)
class Made:
    """An answer, with all that it follows from."""

    plan: Plan
    user_id: str | None
    changes: int
    """The user's, when it was made"""
    popular: Popular | None
    """What it was taken from, where it was"""
    rest: bytes
    """The body after the request's id"""
    shown: Shown
    unseen: Shown | None = None
    """The challenger's list in shadow, when it is there"""
    awaiting: list[tuple[str, int]] | None = None
    """Requests, and when they were answered, that this list is to stand beside once it is there"""


class Answers:
    """Makes, keeps and sends lists; each is written down as it is sent. Of one event loop.

    Args:
        serving: the section of `params.yaml`.
        sessions: what users did.
        impressions: where what was shown is written down.
    """

    def __init__(self, serving: Serving, sessions: Sessions, impressions: ImpressionLog, metrics: Metrics) -> None:
        self._serving, self._sessions, self._impressions = serving, sessions, impressions
        self._batcher = Batcher(serving.max_waiting)
        self._lister = Lister(serving, np.random.default_rng())
        self._made: OrderedDict[bytes, Made] = OrderedDict()
        self._remembered, self._recommendations = metrics.remembered, metrics.recommendations
        self._shadows: set[asyncio.Task[None]] = set()
        self._plan: Plan | None = None
        self.popular: dict[Engine, Popular] = {}
        """What is popular now, in the codes of every engine that answers."""

    @property
    def plan(self) -> Plan | None:
        """Who answers; None: nobody yet. What is set here counts from the next request on."""
        return self._plan

    @plan.setter
    def plan(self, plan: Plan | None) -> None:
        self._plan = plan
        self._made = OrderedDict()  # they would keep a version in memory that nobody asks any more

    def recall(self, body: bytes) -> bytes | None:
        """The answer to a request, if one was made for it that is still good; written down as sent."""
        kept = self._made  # another thread may put an empty one in its place
        made = kept.get(body)
        if made is None:
            return None
        if (
            made.plan is not self._plan
            or made.changes != self._sessions.changes(made.user_id)
            or (made.popular is not None and made.popular not in self.popular.values())
        ):
            del kept[body]
            return None
        kept.move_to_end(body)
        self._remembered.inc()
        return self._sent(made)

    async def answer(self, request: RecommendRequest, body: bytes | None = None) -> bytes:
        """Make a list, and keep it for the same `body`.

        Raises:
            ServingError: no champion is live, or too many wait already.
            RequestError: the filters do not fit the items.
        """
        kept = self._made
        made = await self._make(self._taken(), request)
        if body is not None and len(body) <= LONGEST_KEY and not self._lister.by_chance:
            kept[body] = made
            if len(kept) > self._serving.kept_answers:
                kept.popitem(last=False)
        return self._first_sent(made, request)

    async def answer_all(self, requests: Sequence[RecommendRequest]) -> list[bytes]:
        """Make several lists, all by one plan. They are sent, and written down, when all of them are there, or none.

        Raises:
            ServingError: as `answer`.
            RequestError: as `answer`.
        """
        plan = self._taken()
        all_made = await asyncio.gather(*(self._make(plan, request) for request in requests))
        return [self._first_sent(made, request) for made, request in zip(all_made, requests, strict=True)]

    def _taken(self) -> Plan:
        if self._plan is None:
            raise ServingError("no champion is live yet", remedy="`recloop deploy` puts it here")
        return self._plan

    async def _make(self, plan: Plan, request: RecommendRequest) -> Made:
        served, variant = plan.pick(request.user_id)
        changes = self._sessions.changes(request.user_id)
        wanted = self._lister.wanted(request, served.engine, self._sessions)
        # Taken once: another thread may put others in its place while the list is made.
        popular = None if wanted.history else self.popular.get(served.engine)
        listed = await self._list(served.engine, wanted, popular)
        return Made(
            plan,
            request.user_id,
            changes,
            popular,
            self._lister.body(listed, served.engine, wanted, served.version, variant),
            self._shown(request, listed, served, variant, wanted),
        )

    async def _list(self, engine: Engine, wanted: Wanted, popular: Popular | None) -> Reranked:
        first = self._lister.arrange(engine, wanted, await self._candidates(engine, wanted, popular))
        if not first.exhausted:
            return first
        wanted = self._lister.narrowed(engine, wanted)  # the rules left too few: ask for those that meet them only
        return self._lister.arrange(engine, wanted, await self._candidates(engine, wanted, popular)).after(first)

    async def _candidates(self, engine: Engine, wanted: Wanted, popular: Popular | None) -> Ranked:
        if not wanted.history:
            return popular_for(engine, popular, wanted)
        query = Query(wanted.history, wanted.times, wanted.user, wanted.banned, wanted.allowed)
        return await self._batcher.rank(engine, query, wanted.candidates)

    def _first_sent(self, made: Made, request: RecommendRequest) -> bytes:
        """The answer, and behind it the challenger's in shadow, where there is one."""
        shadowed = made.plan.shadow is not None and made.shown.variant == "champion"
        made.awaiting = [] if shadowed else None
        sent = self._sent(made)
        if made.plan.shadow is not None and shadowed:
            shadow = asyncio.create_task(self._shadow(made, request, made.plan.shadow))
            self._shadows.add(shadow)
            shadow.add_done_callback(self._shadows.discard)
        return sent

    def _sent(self, made: Made) -> bytes:
        """The answer with an id of its own, written down."""
        request_id, now = os.urandom(16).hex(), now_us()
        self._impressions.put(Impression(request_id, now, made.shown))
        if made.unseen is not None:
            self._impressions.put(Impression(request_id, now, made.unseen))
        elif made.awaiting is not None:
            made.awaiting.append((request_id, now))
        self._recommendations.labels(made.shown.strategy, made.shown.variant).inc()
        return b'{"request_id":"' + request_id.encode() + b'",' + made.rest

    async def _shadow(self, made: Made, request: RecommendRequest, served: Served) -> None:
        """Have the challenger make its list, to be written down beside the champion's."""
        try:
            wanted = self._lister.wanted(request, served.engine, self._sessions)
            listed = await self._list(served.engine, wanted, self.popular.get(served.engine))
        except RecloopError:
            # What nobody sees is the first to go where there is too much to do; and what was asked may be nothing that
            # can be asked of this version, whose items have other columns. Then nothing was shown.
            return
        finally:
            awaiting, made.awaiting = made.awaiting or [], None
        made.unseen = self._shown(request, listed, served, "shadow", wanted)
        for request_id, at in awaiting:
            self._impressions.put(Impression(request_id, at, made.unseen))

    def _shown(
        self, request: RecommendRequest, listed: Reranked, served: Served, variant: Variant, wanted: Wanted
    ) -> Shown:
        chances = [placed.propensity for placed in listed.items]
        return Shown(
            user_id=request.user_id,
            version=served.version,
            variant=variant,
            strategy=wanted.strategy,
            items=json.dumps([served.engine.item(placed.code)[0] for placed in listed.items]),
            scores=json.dumps([placed.score for placed in listed.items]),
            history_length=len(wanted.history),
            chances=json.dumps(chances) if any(chances) else None,
        )
