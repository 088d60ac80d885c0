"""Answers that have to be computed, computed together.

While one batch is computed others arrive and wait; the next turn of the event loop takes all of them. So a quiet
endpoint answers at once, a busy one shares the cost of a product among many, and nobody waits for a timer. The work
is done on the event loop: it takes a millisecond or two of a processor that another thread would only compete for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from recloop.errors import OverloadError
from recloop.serving.engine import Engine, Query, Ranked


@dataclass(frozen=True)
class Waiting:
    engine: Engine
    query: Query
    count: int
    answer: asyncio.Future[Ranked]


class Batcher:
    """Queries that wait for their lists. Of one event loop.

    Args:
        limit: queries that may wait; beyond it they are refused at once, so that those inside stay quick.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[Waiting] = deque()

    async def rank(self, engine: Engine, query: Query, count: int) -> Ranked:
        """`engine.rank` of one query.

        Raises:
            OverloadError: too many wait already.
        """
        if len(self._waiting) >= self._limit:
            raise OverloadError(
                f"{self._limit} requests wait to be answered already", remedy="try again in a moment, or add workers"
            )
        loop = asyncio.get_running_loop()
        waiting = Waiting(engine, query, count, loop.create_future())
        if not self._waiting:
            loop.call_soon(self._work)
        self._waiting.append(waiting)
        return await waiting.answer

    def _work(self) -> None:
        """Answer the oldest, and those that can be answered with them."""
        first = self._waiting[0]
        batch: list[Waiting] = []
        while self._waiting and len(batch) < first.engine.together and self._waiting[0].engine is first.engine:
            waiting = self._waiting.popleft()
            if not waiting.answer.done():  # else whoever asked has gone
                batch.append(waiting)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._work)
        if not batch:
            return
        try:
            ranked = first.engine.rank([each.query for each in batch], max(each.count for each in batch))
        except Exception as error:
            for waiting in batch:
                waiting.answer.set_exception(error)
            return
        for waiting, found in zip(batch, ranked, strict=True):
            waiting.answer.set_result(Ranked(found.codes[: waiting.count], found.scores[: waiting.count]))
