"""From a request to an engine's question, and from an engine's candidates to the list that is shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from recloop.config import Serving
from recloop.serving.engine import NOBODY, Engine, Ranked
from recloop.serving.popularity import Popular
from recloop.serving.rerank import Reranked, allowed_items, rerank
from recloop.serving.schemas import (
    Between,
    ExplainedAnswer,
    ExplainedItem,
    Explanation,
    Filters,
    Reason,
    RecommendAnswer,
    RecommendedItem,
    RecommendRequest,
)
from recloop.serving.sessions import Sessions

REASONS = 2
"""Items of the history that are named for one item of the list"""
READ_FOR_REASONS = 50
"""Last items of the history that are looked at for them"""


@dataclass(frozen=True)
class Wanted:
    """A request in an engine's codes."""

    history: list[int]
    """Item codes, oldest first"""
    times: list[int] | None
    """When each event of the history was, in µs since 1970"""
    user: int
    banned: np.ndarray
    """int64: item codes"""
    allowed: np.ndarray | None
    """bool [items]; None: all"""
    unknown: list[str]
    """Items of the request, or of the user's events, that the version does not know"""
    contexts: list[tuple[str, str]]
    k: int
    candidates: int
    """How many the model is asked for"""
    age: int | None
    explain: bool

    @property
    def strategy(self) -> Literal["model", "popular"]:
        return "model" if self.history else "popular"


class Lister:
    """What does not depend on the model: who is asked for what, and the rules.

    Args:
        serving: the section of `params.yaml`.
        rng: where chance comes from.
    """

    def __init__(self, serving: Serving, rng: np.random.Generator) -> None:
        self._serving, self._rules, self._rng = serving, serving.rerank, rng

    @property
    def by_chance(self) -> bool:
        """Whether the same request may get another list the next time."""
        return self._rules.explore > 0

    def wanted(self, request: RecommendRequest, engine: Engine, sessions: Sessions) -> Wanted:
        """What a request comes to.

        Raises:
            RequestError: the filters do not fit the items.
        """
        unknown: dict[str, None] = {}
        forgotten_at = 0 if request.user_id is None else sessions.forgotten_at(request.user_id)
        known = engine.user(request.user_id)
        times: list[int] | None = None
        if request.history is not None:
            history = _codes(engine, request.history, unknown)
        elif request.user_id is None:
            history = []
        else:
            history, times = engine.known(known)
            if forgotten_at:
                kept = [place for place, time in enumerate(times) if time > forgotten_at]
                history, times = [history[place] for place in kept], [times[place] for place in kept]
            for event in sessions.after(request.user_id, engine.info.feedback_watermark):
                code = engine.code(event.item_id)
                if code is None:
                    unknown[event.item_id] = None
                else:
                    history.append(code)
                    times.append(event.timestamp)
        exclude_seen = engine.info.exclude_seen if request.exclude_seen is None else request.exclude_seen
        banned = _codes(engine, request.exclude, unknown) + (history if exclude_seen else [])
        passed = np.zeros(0, np.int64)
        if request.user_id is not None:
            banned += _codes(engine, sessions.dismissed(request.user_id), {})
            if exclude_seen and request.history is None:
                passed = sessions.passed(request.user_id, engine)
        k = request.k or self._serving.default_k
        return Wanted(
            history,
            times,
            NOBODY if forgotten_at else known,
            np.concatenate([np.array(banned, np.int64), passed]),
            allowed_by(engine, request.filters),
            list(unknown),
            list(request.context.items()),
            k,
            self._rules.candidates(k),
            request.age,
            request.explain,
        )

    def narrowed(self, engine: Engine, wanted: Wanted) -> Wanted:
        """The same, of more items, all of which the rules keep."""
        kept = allowed_items(self._rules, engine.attributes, wanted.age)
        return replace(wanted, allowed=allowed_by_both(wanted.allowed, kept), candidates=10 * wanted.candidates)

    def arrange(self, engine: Engine, wanted: Wanted, candidates: Ranked) -> Reranked:
        """The list to show, out of the model's candidates."""
        return rerank(
            candidates.codes,
            candidates.scores,
            wanted.k,
            self._rules,
            engine.attributes,
            engine.likeness,
            age=wanted.age,
            rng=self._rng,
        )

    def body(self, listed: Reranked, engine: Engine, wanted: Wanted, version: int, variant: str) -> bytes:
        """The answer as JSON, from behind the request's id on."""
        common = {
            "request_id": "",
            "model_version": version,
            "variant": variant,
            "strategy": wanted.strategy,
            "unknown_items": wanted.unknown,
        }
        answer: RecommendAnswer
        if wanted.explain:
            reasons = because_of(engine, [placed.code for placed in listed.items], wanted.history)
            answer = ExplainedAnswer(
                **common,
                items=[
                    ExplainedItem(
                        **_shown(engine, placed.code, placed.score),
                        reason=Reason(
                            because_of=because,
                            model_rank=placed.rank,
                            moved_by=list(placed.why),
                            propensity=placed.propensity,
                        ),
                    )
                    for placed, because in zip(listed.items, reasons, strict=True)
                ],
                explanation=Explanation(left_out=listed.left_out, candidates=listed.candidates),
            )
        else:
            items = [RecommendedItem(**_shown(engine, placed.code, placed.score)) for placed in listed.items]
            answer = RecommendAnswer(**common, items=items)
        return answer.model_dump_json(exclude={"request_id"}).encode()[1:]


def allowed_by(engine: Engine, filters: Filters) -> np.ndarray | None:
    """bool [items]: those that the filters of a request let in; None: all.

    Raises:
        RequestError: the filters do not fit the items.
    """
    if not filters:
        return None
    plain = {
        name: wanted.model_dump(exclude_none=True) if isinstance(wanted, Between) else wanted
        for name, wanted in filters.items()
    }
    return engine.attributes.mask(plain)


def allowed_by_both(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    """bool [items]: those that both let in; None: all."""
    return other if one is None else one if other is None else one & other


def popular_for(engine: Engine, popular: Popular | None, wanted: Wanted) -> Ranked:
    """Candidates for somebody of whom nothing is known: what is popular, and where that is too few, which is seldom,
    the rest of the catalogue, by how popular it was in the package's data.

    Args:
        popular: what is popular now; None: what was in the package's data.
    """
    listed = engine.popular() if popular is None else popular.of(wanted.contexts)
    may_come = np.ones(engine.catalogue_size, bool) if wanted.allowed is None else wanted.allowed.copy()
    may_come[wanted.banned] = False
    codes = listed[may_come[listed]]
    if len(codes) < wanted.candidates:
        may_come[listed] = False
        rest = engine.by_popularity
        codes = np.concatenate([codes, rest[may_come[rest]]])
    codes = codes[: wanted.candidates]
    return Ranked(codes, 1 / np.arange(1, len(codes) + 1))


def because_of(engine: Engine, codes: Sequence[int], history: Sequence[int]) -> list[list[str]]:
    """For every item of a list, the items of the history that it is most like, most first."""
    recent = np.array(list(dict.fromkeys(history[-READ_FOR_REASONS:])), np.int64)
    theirs, ours = engine.likeness(recent), engine.likeness(np.asarray(codes, np.int64))
    if theirs is None or ours is None or not len(recent):
        return [[] for _ in codes]
    alike = ours @ theirs.T
    nearest = np.argsort(-alike, axis=1, kind="stable")[:, :REASONS]
    return [
        [engine.item(recent[place])[0] for place in places if row[place] > 0]
        for row, places in zip(alike, nearest, strict=True)
    ]


def _shown(engine: Engine, code: int, score: float) -> dict[str, object]:
    item_id, title = engine.item(code)
    return {"item_id": item_id, "title": title, "score": float(score)}


def _codes(engine: Engine, item_ids: Iterable[str], unknown: dict[str, None]) -> list[int]:
    """Codes of the known ones; the others go into `unknown`."""
    codes = []
    for item_id in item_ids:
        code = engine.code(item_id)
        if code is None:
            unknown[item_id] = None
        else:
            codes.append(code)
    return codes
