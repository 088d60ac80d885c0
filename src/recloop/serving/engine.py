"""What answers: one trained model with its catalogue and everybody's history. It knows no web and no MLflow.

An engine never changes. The endpoint holds one reference to the engine that is live, a request takes it once
and uses it throughout, and a swap exchanges that reference: no answer mixes two versions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from recloop.data.batches import RaggedTensor
from recloop.errors import ServingError
from recloop.models.base import Recommender
from recloop.models.catalogue import load_model
from recloop.serving.parcel import REMEDY, PackageInfo, Parcel, read_parcel

Strategy = Literal["model", "popular"]


@dataclass(frozen=True)
class Recommendation:
    """One item of a list. Of `score` only the order within one list means anything."""

    item_id: str
    title: str | None
    score: float


@dataclass(frozen=True)
class Recommendations:
    """A list, best first, and how it came about."""

    items: tuple[Recommendation, ...]
    strategy: Strategy
    """`popular` where nothing was known to go by: the score is then 1 / rank."""
    unknown_items: tuple[str, ...]
    """Items of the request that this version does not know; they were passed over."""
    history_length: int
    """Known events that the list follows from."""


class Engine:
    """One version of a model, ready to answer. Safe to use from several threads."""

    def __init__(self, model: Recommender, parcel: Parcel) -> None:
        """Use `Engine.load`, which checks that the two belong together."""
        self._model = model.eval()
        self._parcel = parcel
        self._item_codes = {item_id: code for code, item_id in enumerate(parcel.item_ids)}
        self._user_codes = {user_id: code for code, user_id in enumerate(parcel.user_ids)}

    @classmethod
    def load(cls, folder: Path) -> Engine:
        """Load a package, and let it answer once, so that the first request finds it warm.

        Raises:
            ServingError: the package is damaged or does not belong together, or its answer is no answer.
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

    def history(self, user_id: str) -> tuple[list[str], list[int]]:
        """Items of the user's events that the package knows, oldest first, and when each was, in µs since 1970; empty
        for a user it does not know."""
        code = self._user_codes.get(user_id)
        if code is None:
            return [], []
        known = self._parcel.histories
        assert known.times is not None  # noqa: S101 – `read_parcel` has seen to it
        place = slice(known.offsets[code], known.offsets[code + 1])
        return [self._parcel.item_ids[item] for item in known.values[place]], known.times[place].tolist()

    def recommend(
        self,
        user_id: str | None = None,
        history: Sequence[str] | None = None,
        *,
        times: Sequence[int] | None = None,
        k: int = 10,
        exclude_seen: bool | None = None,
        exclude: Iterable[str] = (),
    ) -> Recommendations:
        """The best `k` items for a user, or fewer where the catalogue has no more.

        Args:
            user_id: who asks; may be unknown, or None.
            history: items of the user's events, oldest first; None takes what the package knows of the user.
            times: when each event of `history` was, in µs since 1970; None where that is not known.
            k: items wanted.
            exclude_seen: leave out what is in the history; None does as the model was judged with.
            exclude: further items to leave out.
        """
        unknown: dict[str, None] = {}
        if history is None:
            history, times = ([], []) if user_id is None else self.history(user_id)
        seen = self._codes(history, unknown)
        if times is not None:
            times = [time for item_id, time in zip(history, times, strict=True) if item_id in self._item_codes]
        if exclude_seen is None:
            exclude_seen = self.info.exclude_seen
        banned = self._codes(exclude, unknown) + (seen if exclude_seen else [])
        if seen:
            user = -1 if user_id is None else self._user_codes.get(user_id, -1)
            codes, scores = self._by_model(seen, times, user, banned, k)
        else:
            codes, scores = self._by_popularity(set(banned), k)
        return Recommendations(
            items=tuple(
                Recommendation(self._parcel.item_ids[code], self._parcel.titles[code], score)
                for code, score in zip(codes, scores, strict=True)
            ),
            strategy="model" if seen else "popular",
            unknown_items=tuple(unknown),
            history_length=len(seen),
        )

    def _codes(self, item_ids: Iterable[str], unknown: dict[str, None]) -> list[int]:
        codes = []
        for item_id in item_ids:
            code = self._item_codes.get(item_id)
            if code is None:
                unknown[item_id] = None
            else:
                codes.append(code)
        return codes

    def _by_model(
        self, seen: list[int], times: Sequence[int] | None, user: int, banned: list[int], k: int
    ) -> tuple[list[int], list[float]]:
        scores = self._score(seen, times, user)
        scores[banned] = -np.inf
        codes = best(scores, k)
        return codes.tolist(), scores[codes].tolist()

    def _by_popularity(self, banned: set[int], k: int) -> tuple[list[int], list[float]]:
        codes = [code for code in self.info.popular if code not in banned][:k]
        return codes, [1 / rank for rank in range(1, len(codes) + 1)]

    def _score(self, seen: list[int], times: Sequence[int] | None, user: int) -> np.ndarray:
        """float32 [items], for a history of codes, when they were, and a user's code, or -1."""
        with torch.inference_mode():
            when = None if times is None else torch.tensor(times)
            histories = RaggedTensor(torch.tensor(seen), torch.tensor([0, len(seen)]), when)
            scores: np.ndarray = self._model.score(histories, torch.tensor([user]))[0].numpy()
        return scores

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
        for user, seen in (
            ((-1, [0]),) if known is None else ((-1, [0]), (known, self._parcel.histories[known].tolist()))
        ):
            if np.isnan(self._score(seen, None, user)).any():
                raise ServingError(f"{folder}: the model's scores are not numbers", remedy="train and promote another")
        if not self.recommend(k=1).items:
            raise ServingError(f"{folder}: package.json names no popular items for unknown users", remedy=REMEDY)


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
