"""What answers: one trained model with its catalogue and everybody's history. It knows no web and no MLflow.

An engine never changes. The endpoint holds one reference to the engine that is live, a request takes it once
and uses it throughout, and a swap exchanges that reference: no answer mixes two versions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, chain
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from recloop.data.batches import RaggedTensor
from recloop.errors import ServingError
from recloop.models.base import DualEncoder, Recommender
from recloop.models.catalogue import load_model
from recloop.serving.attributes import Attributes
from recloop.serving.index import Exact, build_retriever
from recloop.serving.newcomers import with_newcomers
from recloop.serving.parcel import REMEDY, PackageInfo, Parcel, read_parcel

Strategy = Literal["model", "popular"]
TRIED = 10
"""Items of the lists that a version is tried out with"""
SCORES_AT_ONCE = 8_000_000
"""Scores that one product may make, 32 MB, where a model scores the whole catalogue itself."""
RETRAIN = "train and promote another"
NOBODY = -1
"""The code of a user that the model does not know."""


@dataclass(frozen=True)
class Query:
    """Whose list is wanted, in codes."""

    history: Sequence[int]
    """Item codes, oldest first; not empty."""
    times: Sequence[int] | None = None
    """When each event of the history was, in µs since 1970; None where that is not known."""
    user: int = NOBODY
    banned: Sequence[int] | np.ndarray = ()
    """Item codes that must not come."""
    allowed: np.ndarray | None = field(default=None, compare=False)
    """bool [items]; None: all."""


@dataclass(frozen=True)
class Ranked:
    """Item codes with their scores, best first."""

    codes: np.ndarray
    scores: np.ndarray


class Engine:
    """One version of a model, ready to answer. Safe to use from several threads."""

    def __init__(self, model: Recommender, parcel: Parcel) -> None:
        """Use `Engine.load`, which checks that the two belong together.

        Raises:
            ServingError: an item's vector is not numbers.
        """
        self._model = model.eval()
        self._parcel = parcel
        self._item_codes = {item_id: code for code, item_id in enumerate(parcel.item_ids)}
        self._user_codes = {user_id: code for code, user_id in enumerate(parcel.user_ids)}
        self._vectors: np.ndarray | None = None
        if isinstance(model, DualEncoder) and model.by_product:
            with torch.inference_mode():
                vectors = model.item_matrix().numpy()
            broken = int(np.count_nonzero(~np.isfinite(vectors).all(1)))
            if broken:  # a single one would spoil every list
                raise ServingError(f"the vectors of {broken} of {len(vectors)} items are not numbers", remedy=RETRAIN)
            self._vectors = with_newcomers(vectors, parcel.items)
            self._lengths = np.maximum(np.linalg.norm(self._vectors, axis=1), 1e-12)
            self._retriever = build_retriever(self._vectors)
            self._by_angle = build_retriever(self._vectors, self._lengths)

    @classmethod
    def load(cls, folder: Path) -> Engine:
        """Load a package, and let it answer once, so that the first request finds it warm.

        Raises:
            ServingError: the package is damaged or does not belong together, or its lists are not full, or not numbers.
            ModelError: the model in it cannot be loaded.
        """
        engine = cls(load_model(folder), read_parcel(folder))
        engine._try_out(folder)
        return engine

    @property
    def info(self) -> PackageInfo:
        """What the package says of itself."""
        return self._parcel.info

    @property
    def catalogue_size(self) -> int:
        """How many items it can recommend."""
        return len(self._parcel.item_ids)

    @property
    def user_count(self) -> int:
        """How many users it knows."""
        return len(self._parcel.user_ids)

    @property
    def together(self) -> int:
        """Queries that are best ranked at once."""
        return Exact.together if self._vectors is None else self._retriever.together

    @cached_property
    def attributes(self) -> Attributes:
        """What is known of the items."""
        return Attributes(self._parcel.items)

    def item(self, code: int) -> tuple[str, str | None]:
        """An item's id and its title."""
        return self._parcel.item_ids[code], self._parcel.titles[code]

    def code(self, item_id: str) -> int | None:
        """An item's code; None for one it does not know."""
        return self._item_codes.get(item_id)

    def user(self, user_id: str | None) -> int:
        """A user's code; NOBODY for one it does not know."""
        return NOBODY if user_id is None else self._user_codes.get(user_id, NOBODY)

    def known(self, user: int) -> tuple[list[int], list[int]]:
        """Item codes of the user's events that the package knows, oldest first, and when each was, in µs since 1970."""
        if user == NOBODY:
            return [], []
        known = self._parcel.histories
        assert known.times is not None  # noqa: S101 – `read_parcel` has seen to it
        place = slice(known.offsets[user], known.offsets[user + 1])
        return known.values[place].tolist(), known.times[place].tolist()

    def rank(self, queries: Sequence[Query], count: int) -> list[Ranked]:
        """The best `count` items for each query, or fewer where there are no more; ties go to the lower code.

        One product for all of them: sixteen users cost little more than one.
        """
        if self._vectors is None:
            at_once = max(1, SCORES_AT_ONCE // max(1, self.catalogue_size))
            return [
                ranked
                for start in range(0, len(queries), at_once)
                for ranked in self._by_scores(queries[start : start + at_once], count)
            ]
        encoded = self._encode(queries)
        ranked: dict[int, Ranked] = {}
        for rows in _alike(queries):
            banned = [np.asarray(queries[row].banned, np.int64) for row in rows]
            codes, scores = self._retriever.search(
                encoded[rows], count, banned=banned, allowed=queries[rows[0]].allowed
            )
            ranked |= zip(rows, _found(codes, scores), strict=True)
        return [ranked[row] for row in range(len(queries))]

    def similar(self, code: int, count: int, banned: Sequence[int], allowed: np.ndarray | None) -> Ranked:
        """The items most like one: by the angle between their vectors, or, where the model has none, by what it would
        recommend to somebody who dealt with this item alone."""
        banned = [*banned, code]
        if self._vectors is None:
            return self.rank([Query([code], banned=banned, allowed=allowed)], count)[0]
        asked = self._vectors[code : code + 1] / self._lengths[code]
        return _found(*self._by_angle.search(asked, count, banned=[np.asarray(banned)], allowed=allowed))[0]

    def likeness(self, codes: np.ndarray) -> np.ndarray | None:
        """float32 [codes, width]: unit vectors whose products say how alike items are; None where nothing tells."""
        return None if self._vectors is None else self._vectors[codes] / self._lengths[codes, None]

    def popular(self) -> np.ndarray:
        """int64: item codes, what was most popular in the package's data first."""
        return np.asarray(self.info.popular, np.int64)

    @cached_property
    def by_popularity(self) -> np.ndarray:
        """int64 [items]: all item codes; what was most popular in the package's data, then what has most training
        events, where that is known."""
        popular, items = self.popular(), self._parcel.items
        place = np.full(self.catalogue_size, len(popular))
        place[popular] = np.arange(len(popular))
        known = "train_count" in items.column_names
        counts = items["train_count"].to_numpy() if known else np.zeros(self.catalogue_size)
        return np.lexsort((np.arange(self.catalogue_size), -counts, place))

    def _encode(self, queries: Sequence[Query]) -> np.ndarray:
        """float32 [queries, width]"""
        assert isinstance(self._model, DualEncoder)  # noqa: S101
        with torch.inference_mode():
            vectors: np.ndarray = self._model.encode(*self._asked(queries)).numpy()
        return vectors

    def _by_scores(self, queries: Sequence[Query], count: int) -> list[Ranked]:
        with torch.inference_mode():
            scores = self._model.score(*self._asked(queries)).numpy()
        return [_best(row, count, query.banned, query.allowed) for row, query in zip(scores, queries, strict=True)]

    def _asked(self, queries: Sequence[Query]) -> tuple[RaggedTensor, torch.Tensor]:
        """Histories, no longer than the model reads, and user codes."""
        reads = self._model.max_history
        histories = [query.history[-reads:] for query in queries]
        offsets = torch.tensor([0, *accumulate(map(len, histories))])
        times = None
        if self._model.reads_times and all(query.times is not None for query in queries):
            times = _end_to_end((query.times or ())[-reads:] for query in queries)
        users = torch.tensor([query.user for query in queries])
        return RaggedTensor(_end_to_end(histories), offsets, times), users

    def _try_out(self, folder: Path) -> None:
        """Raise a ServingError unless the parts fit and the model answers, whether it knows a user or not."""
        model, users = self._model, self.user_count
        if (model.catalogue_size, model.user_count) != (self.catalogue_size, users):
            raise ServingError(
                f"{folder}: the model is of {model.catalogue_size} items and {model.user_count} users, "
                f"the tables beside it of {self.catalogue_size} and {users}",
                remedy=REMEDY,
            )
        known = next((code for code in range(users) if len(self._parcel.histories[code])), None)
        queries = [Query([0])]
        if known is not None:
            queries.append(Query(self._parcel.histories[known].tolist(), user=known))
        with torch.inference_mode():
            broken = any(bool(torch.isnan(model.score(*self._asked([query]))).any()) for query in queries)
        full = min(TRIED, self.catalogue_size)
        if broken or any(np.isfinite(ranked.scores).sum() < full for ranked in self.rank(queries, TRIED)):
            raise ServingError(f"{folder}: the model's scores are not numbers", remedy=RETRAIN)
        if not self.info.popular:
            raise ServingError(f"{folder}: package.json names no popular items for unknown users", remedy=REMEDY)


def _found(codes: np.ndarray, scores: np.ndarray) -> list[Ranked]:
    """What a retriever found, without the places that it left empty."""
    return [Ranked(row[row >= 0], of[row >= 0]) for row, of in zip(codes, scores, strict=True)]


def _end_to_end(sequences: Iterable[Sequence[int]]) -> torch.Tensor:
    return torch.tensor([*chain.from_iterable(sequences)], dtype=torch.int64)


def _alike(queries: Sequence[Query]) -> list[list[int]]:
    """Rows of queries that allow the same items."""
    groups: dict[int, list[int]] = {}
    for row, query in enumerate(queries):
        groups.setdefault(id(query.allowed), []).append(row)
    return list(groups.values())


def _best(scores: np.ndarray, count: int, banned: Sequence[int] | np.ndarray, allowed: np.ndarray | None) -> Ranked:
    """The `count` highest of float [items]."""
    scores = np.where(allowed, scores, -np.inf) if allowed is not None else scores.copy()
    scores[np.asarray(banned, np.int64)] = -np.inf
    codes = best(scores, count)
    return Ranked(codes, scores[codes])


def best(scores: np.ndarray, k: int) -> np.ndarray:
    """Indices of the `k` highest finite scores, best first; a tie goes to the lower index.

    Args:
        scores: float [items]
    """
    candidates = np.flatnonzero(np.isfinite(scores))
    if len(candidates) > k:
        finite = scores[candidates]
        worst = np.partition(finite, len(finite) - k)[len(finite) - k]
        candidates = candidates[finite >= worst]
    order = np.lexsort((candidates, -scores[candidates]))
    return candidates[order[:k]]
