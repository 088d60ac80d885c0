"""Answers computed together: what waits is taken at once, and no more waits than may."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from recloop.errors import OverloadError
from recloop.serving.batcher import Batcher
from recloop.serving.engine import Query, Ranked


class Counting:
    """An engine that ranks items from the history's first one up, and counts what it is asked at once."""

    together = 16

    def __init__(self) -> None:
        self.batches: list[int] = []

    def rank(self, queries: list[Query], count: int) -> list[Ranked]:
        self.batches.append(len(queries))
        if any(query.history[0] < 0 for query in queries):
            raise ValueError("no such item")
        return [Ranked(query.history[0] + np.arange(count), np.arange(count, 0, -1.0)) for query in queries]


def ask(batcher: Batcher, engine: Any, item: int, count: int = 2) -> Any:
    return batcher.rank(engine, Query([item]), count)


def test_what_comes_together_is_computed_together_and_each_gets_its_own() -> None:
    async def run() -> None:
        batcher, engine = Batcher(limit=100), Counting()
        answers = await asyncio.gather(*(ask(batcher, engine, item, count=1 + item % 2) for item in range(5)))
        assert [answer.codes.tolist() for answer in answers] == [[0], [1, 2], [2], [3, 4], [4]]
        assert engine.batches == [5]

    asyncio.run(run())


def test_many_are_computed_in_pieces_so_that_others_have_a_turn() -> None:
    async def run() -> None:
        batcher, engine = Batcher(limit=1000), Counting()
        answers = await asyncio.gather(*(ask(batcher, engine, item) for item in range(35)))
        assert [answer.codes[0] for answer in answers] == list(range(35))
        assert engine.batches == [16, 16, 3]

    asyncio.run(run())


def test_two_versions_are_not_mixed() -> None:
    async def run() -> None:
        batcher, old, new = Batcher(limit=100), Counting(), Counting()
        await asyncio.gather(*(ask(batcher, engine, 1) for engine in (old, old, new, old)))
        assert (old.batches, new.batches) == ([2, 1], [1])

    asyncio.run(run())


def test_what_is_too_much_is_refused_at_once_and_the_others_are_answered() -> None:
    async def run() -> None:
        batcher, engine = Batcher(limit=3), Counting()
        answers = await asyncio.gather(*(ask(batcher, engine, item) for item in range(5)), return_exceptions=True)
        assert [isinstance(answer, OverloadError) for answer in answers] == [False, False, False, True, True]
        await ask(batcher, engine, 1)

    asyncio.run(run())


def test_an_error_reaches_who_asked_and_the_next_are_answered() -> None:
    async def run() -> None:
        batcher, engine = Batcher(limit=10), Counting()
        with pytest.raises(ValueError, match="no such item"):
            await ask(batcher, engine, -1)
        assert (await ask(batcher, engine, 3)).codes.tolist() == [3, 4]

    asyncio.run(run())


def test_who_has_gone_is_not_computed_for() -> None:
    async def run() -> None:
        batcher, engine = Batcher(limit=10), Counting()
        asked = [asyncio.ensure_future(ask(batcher, engine, item)) for item in range(3)]
        await asyncio.sleep(0)  # they wait now
        asked[0].cancel()
        await asyncio.gather(*asked[1:])
        assert sum(engine.batches) <= 3
        with pytest.raises(asyncio.CancelledError):
            await asked[0]

    asyncio.run(run())
