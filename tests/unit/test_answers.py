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

from recloop.config import Gate, Rerank, Serving
from recloop.errors import OverloadError, RequestError, ServingError
from recloop.serving.answers import Answers
from recloop.serving.engine import Engine
from recloop.serving.events import Seen
from recloop.serving.impressions import Impression
from recloop.serving.listing import Lister
from recloop.serving.live import Served
from recloop.serving.metrics import Metrics
from recloop.serving.parsing import parse
from recloop.serving.pointer import Pointer
from recloop.serving.popularity import Popular
from recloop.serving.schemas import Limits, RecommendRequest
from recloop.serving.sessions import Sessions
from recloop.serving.traffic import Plan, Split
from tests.packages import COUNTS, write_package

LIMITS = Limits.of(Serving(), Gate())


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

    async def ask_all(self, *requests: dict[str, Any]) -> list[dict[str, Any]]:
        parsed = [parse(RecommendRequest, json.dumps(request).encode(), LIMITS) for request in requests]
        return [json.loads(answer) for answer in await self.answers.answer_all(parsed)]

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
        assert items(await kept.ask(user_id="new", k=2)) == ["a", "b"]
        assert items(await kept.ask(user_id="new", k=3, context={"country": "DE"})) == ["c", "a", "b"]
        assert kept.knows(user_id="new", k=2)
        kept.answers.popular = {kept.champion.engine: Popular(np.array([1, 0]), {})}
        assert not kept.knows(user_id="new", k=2)
        assert items(await kept.ask(user_id="new", k=2)) == ["b", "a"]

    asyncio.run(run())


def test_a_list_says_of_what_is_popular_what_it_was_made_from_and_not_what_came_meanwhile(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrange = Lister.arrange

    def meanwhile(*given: Any) -> Any:  # as from another thread
        kept.answers.popular = {kept.champion.engine: Popular(np.array([1, 0]), {})}
        return arrange(*given)

    async def run() -> None:
        kept.answers.popular = {kept.champion.engine: Popular(np.array([0, 1]), {})}
        monkeypatch.setattr(Lister, "arrange", meanwhile)
        assert items(await kept.ask(user_id="new", k=2)) == ["a", "b"]
        assert not kept.knows(user_id="new", k=2)

    asyncio.run(run())


def test_behind_what_is_popular_now_comes_what_was_in_the_packages_data(kept: Kept) -> None:
    """Popular are c and a; the package's data has e, d, c, b, a."""

    async def run() -> None:
        kept.answers.popular = {kept.champion.engine: Popular(np.array([2, 0]), {})}
        assert items(await kept.ask(k=4)) == ["c", "a", "e", "d"]
        assert items(await kept.ask(k=2, filters={"title": ["Item b", "Item d"]})) == ["d", "b"]

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


def test_what_cannot_be_asked_of_the_challengers_items_is_not_asked_in_shadow(tmp_path: Path) -> None:
    """Only version 1 has years."""
    kept = Kept(tmp_path)
    kept.champion = served(1, write_package(tmp_path / "dated", columns={"year": [1, 2, 3, 4, 5]}))
    kept.answers.plan = Plan(kept.champion, kept.challenger, Split(shadow=True))
    troubles: list[object] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, trouble: troubles.append(trouble))
        assert items(await kept.ask(user_id="ann", filters={"year": {"min": 4}})) == ["d", "e"]
        await asyncio.sleep(0.01)

    asyncio.run(run())
    assert [shown.shown.variant for shown in kept.shown] == ["champion"]
    assert troubles == []


def test_rules_that_leave_too_few_ask_the_model_for_those_they_let_in_and_tell_what_they_left_out(
    tmp_path: Path,
) -> None:
    """Of ann's first two candidates, b and c, the rule keeps none, of a guest's, e and d, one. Asked again, the model
    has e for her, and a is behind all that is popular."""

    async def run() -> None:
        kept = Kept(tmp_path, rerank=Rerank(keep={"title": ["Item a", "Item e"]}, pool=2))
        answer = await kept.ask(user_id="ann", k=1, explain=True)
        assert [(item["item_id"], item["reason"]["model_rank"]) for item in answer["items"]] == [("e", 1)]
        assert answer["explanation"] == {"left_out": {"keep": 2}, "candidates": 1}
        answer = await kept.ask(k=1, explain=True)
        assert answer["explanation"] == {"left_out": {"keep": 1}, "candidates": 2}, "one is enough"
        answer = await kept.ask(k=2, exclude=["c", "d"], explain=True)
        assert [(item["item_id"], item["reason"]["model_rank"]) for item in answer["items"]] == [("e", 1), ("a", 3)]
        assert answer["explanation"] == {"left_out": {"keep": 1}, "candidates": 3}

    asyncio.run(run())


def test_in_a_batch_all_lists_are_by_one_plan(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Lister.wanted

    def meanwhile(*given: Any) -> Any:  # a swap between the first and the second one
        found = wanted(*given)
        kept.answers.plan = Plan(kept.challenger, None, Split())
        return found

    async def run() -> None:
        monkeypatch.setattr(Lister, "wanted", meanwhile)
        answers = await kept.ask_all(*({"user_id": user, "k": 1} for user in ("ann", "new", "newer")))
        assert [(answer["model_version"], items(answer)) for answer in answers] == [(1, ["b"]), (1, ["e"]), (1, ["e"])]

    asyncio.run(run())


def test_of_a_batch_that_is_not_sent_nothing_is_written_down(tmp_path: Path) -> None:
    async def run() -> None:
        kept = Kept(tmp_path, max_waiting=2)
        with pytest.raises(RequestError, match="no attribute 'colour'"):
            await kept.ask_all({"user_id": "new"}, {"user_id": "ann"}, {"filters": {"colour": "red"}})
        with pytest.raises(OverloadError):
            await kept.ask_all({"user_id": "new"}, *[{"user_id": "ann", "k": k} for k in (1, 2, 3)])
        await asyncio.sleep(0.01)
        assert kept.shown == []
        await kept.ask_all({"user_id": "new"}, {"user_id": "ann"})
        assert [shown.shown.user_id for shown in kept.shown] == ["new", "ann"]

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
