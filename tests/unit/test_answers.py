"""Lists that are kept: sent again while nothing they follow from has changed, and not a moment longer."""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recloop.config import Rerank, Serving
from recloop.errors import OverloadError, ServingError
from recloop.serving.answers import Answers
from recloop.serving.engine import Engine
from recloop.serving.events import Seen
from recloop.serving.impressions import Impression
from recloop.serving.live import Served
from recloop.serving.metrics import Metrics
from recloop.serving.parsing import parse
from recloop.serving.pointer import Pointer
from recloop.serving.popularity import Popular
from recloop.serving.schemas import Limits, RecommendRequest
from recloop.serving.sessions import Sessions
from recloop.serving.traffic import Plan, Split
from tests.packages import COUNTS, write_package

LIMITS = Limits.of(Serving())


class Kept:
    """Answers, with what they wrote down."""

    def __init__(self, folder: Path, **serving: Any) -> None:
        self.shown: list[Impression] = []
        self.sessions = Sessions(100)
        log: Any = self
        self.answers = Answers(Serving(**serving), self.sessions, log, Metrics())
        backwards = {item: 6 - count for item, count in COUNTS.items()}
        self.champion = served(1, write_package(folder / "v1"))
        self.challenger = served(2, write_package(folder / "v2", counts=backwards))
        self.answers.plan = Plan(self.champion, None, Split())

    def put(self, impression: Impression) -> None:
        self.shown.append(impression)

    async def ask(self, **request: Any) -> dict[str, Any]:
        body = json.dumps(request).encode()
        found = self.answers.recall(body)
        found = found or await self.answers.answer(parse(RecommendRequest, body, LIMITS), body)
        answer: dict[str, Any] = json.loads(found)
        return answer

    def knows(self, **request: Any) -> bool:
        before = len(self.shown)
        known = self.answers.recall(json.dumps(request).encode()) is not None
        assert len(self.shown) == before + known, "what is sent again is written down again"
        return known


def served(version: int, folder: Path) -> Served:
    pointer = Pointer(version=version, folder="v", package_sha256="0", since="", previous=None, reason="")
    return Served(pointer, Engine.load(folder))


def items(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_a_list_is_sent_again_with_an_id_of_its_own_and_written_down_each_time(kept: Kept) -> None:
    async def run() -> None:
        first, second = await kept.ask(user_id="ann"), await kept.ask(user_id="ann")
        assert first.pop("request_id") != second.pop("request_id")
        assert first == second
        assert len({shown.request_id for shown in kept.shown}) == 2
        assert kept.shown[0].shown is kept.shown[1].shown
        assert json.loads(kept.shown[0].shown.items) == ["b", "c", "d", "e"]

    asyncio.run(run())


def change_session(kept: Kept) -> None:
    kept.sessions.add([Seen(1, "ann", "b", 1, "click")])


def dismiss(kept: Kept) -> None:
    kept.sessions.add([Seen(1, "ann", "b", 1, "dismiss")])


def swap(kept: Kept) -> None:
    kept.answers.plan = Plan(kept.challenger, None, Split())


def split(kept: Kept) -> None:
    kept.answers.plan = Plan(kept.champion, kept.challenger, Split(0.5))


@pytest.mark.parametrize("change", [change_session, dismiss, swap, split])
def test_what_it_follows_from_ends_it(kept: Kept, change: Callable[[Kept], None]) -> None:
    async def run() -> None:
        await kept.ask(user_id="ann")
        assert kept.knows(user_id="ann")
        change(kept)
        assert not kept.knows(user_id="ann")

    asyncio.run(run())


def test_what_others_do_ends_nothing(kept: Kept) -> None:
    async def run() -> None:
        await kept.ask(user_id="ann")
        kept.sessions.add([Seen(1, "bob", "b", 1, "click")])
        kept.answers.popular = {kept.champion.engine: Popular(np.array([0, 1]), {})}
        assert kept.knows(user_id="ann")

    asyncio.run(run())


def test_a_list_of_what_is_popular_ends_when_something_else_is(kept: Kept) -> None:
    async def run() -> None:
        kept.answers.popular = {kept.champion.engine: Popular(np.array([0, 1]), {("country", "DE"): np.array([2])})}
        assert items(await kept.ask(user_id="new")) == ["a", "b"]
        assert items(await kept.ask(user_id="new", context={"country": "DE"})) == ["c", "a", "b"]
        assert kept.knows(user_id="new")
        kept.answers.popular = {kept.champion.engine: Popular(np.array([1, 0]), {})}
        assert not kept.knows(user_id="new")
        assert items(await kept.ask(user_id="new")) == ["b", "a"]

    asyncio.run(run())


def test_an_event_while_a_list_is_made_ends_it_as_well(kept: Kept) -> None:
    async def run() -> None:
        making = asyncio.ensure_future(kept.ask(user_id="ann"))
        await asyncio.sleep(0)
        change_session(kept)
        await making
        assert not kept.knows(user_id="ann")

    asyncio.run(run())


def test_where_chance_has_a_hand_nothing_is_kept(tmp_path: Path) -> None:
    async def run() -> None:
        kept = Kept(tmp_path, rerank=Rerank(explore=0.5))
        lists = {tuple(items(await kept.ask(user_id="ann", k=2))) for _ in range(40)}
        assert len(lists) > 1
        assert not kept.knows(user_id="ann", k=2)
        chances = json.loads(kept.shown[0].shown.chances or "null")
        assert len(chances) == 2
        assert all(0 < chance < 1 for chance in chances)

    asyncio.run(run())


def test_only_so_many_are_kept_and_the_longest_unused_goes(tmp_path: Path) -> None:
    async def run() -> None:
        kept = Kept(tmp_path, kept_answers=2)
        await kept.ask(user_id="ann")
        await kept.ask(user_id="bob")
        assert kept.knows(user_id="ann")
        await kept.ask(user_id="cid")
        assert [kept.knows(user_id=user) for user in ("ann", "bob", "cid")] == [True, False, True]

    asyncio.run(run())


def test_the_challenger_in_shadow_is_written_down_under_the_same_request(kept: Kept) -> None:
    async def run() -> None:
        kept.answers.plan = Plan(kept.champion, kept.challenger, Split(shadow=True))
        for _ in range(2):
            answer = await kept.ask(user_id="ann", k=1)
            await asyncio.sleep(0.01)
            assert (answer["variant"], items(answer)) == ("champion", ["b"])
        seen = [(shown.shown.variant, shown.shown.version, shown.shown.items) for shown in kept.shown]
        assert seen == [("champion", 1, '["b"]'), ("shadow", 2, '["e"]')] * 2
        assert [len({shown.request_id for shown in kept.shown[at : at + 2]}) for at in (0, 2)] == [1, 1]

    asyncio.run(run())


def test_rules_that_leave_too_few_ask_the_model_for_those_they_let_in(tmp_path: Path) -> None:
    """Of two candidates the rule keeps none: only asking again finds the last item."""

    async def run() -> None:
        kept = Kept(tmp_path, rerank=Rerank(keep={"title": "Item e"}, pool=2))
        answer = await kept.ask(user_id="ann", k=2, explain=True)
        assert items(answer) == ["e"]
        assert items(await kept.ask(user_id="nobody", k=2)) == ["e"]

    asyncio.run(run())


def test_beyond_what_may_wait_it_refuses(tmp_path: Path) -> None:
    async def run() -> None:
        kept = Kept(tmp_path, max_waiting=2)
        asked = [kept.ask(user_id="ann", k=k) for k in (1, 2, 3, 4)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(answer, OverloadError) for answer in answers] == [False, False, True, True]

    asyncio.run(run())


def test_what_is_kept_does_not_keep_an_old_version_in_memory(kept: Kept) -> None:
    async def run() -> None:
        await kept.ask(user_id="ann")
        engine = weakref.ref(kept.champion.engine)
        kept.answers.plan = Plan(kept.challenger, None, Split())
        kept.champion = kept.challenger
        assert engine() is None, "without Python's collector, which is not to be waited for"

    asyncio.run(run())


def test_without_a_champion_it_says_so(kept: Kept) -> None:
    kept.answers.plan = None
    with pytest.raises(ServingError, match="no champion is live yet"):
        asyncio.run(kept.ask(user_id="ann"))
