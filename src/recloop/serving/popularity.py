"""What is popular now: for everybody, and by the context that events came with.

Every event adds to its item's count, and a count halves every `half_life`, so that what was clicked an hour ago weighs
more than last week's hit. What was popular in the package's data counts on as though it went on at its pace of then:
a handful of clicks does not turn the list over, a day of them does. Cf. forward decay, Cormode et al., ICDE 2009.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from recloop.serving.engine import Engine
from recloop.serving.events import DISMISS, Seen
from recloop.storage import now_us

Context = tuple[str, str]
"""A name and a value, e.g. country and DE"""
CONTEXTS = 1000
"""Contexts that are counted apart; those that come later count for everybody alone."""
LISTED = 1000
"""Items in a list"""
PACKAGE_DAYS = 30
"""Days of the package's data that its popular items were counted over"""


@dataclass(frozen=True, eq=False)
class Popular:
    """Lists as of one moment, of one engine. int64: item codes, most popular first."""

    everywhere: np.ndarray
    by_context: Mapping[Context, np.ndarray]

    def same_as(self, other: Popular) -> bool:
        """Whether all lists are the same."""
        return (
            np.array_equal(self.everywhere, other.everywhere)
            and self.by_context.keys() == other.by_context.keys()
            and all(np.array_equal(own, other.by_context[context]) for context, own in self.by_context.items())
        )

    def of(self, contexts: Iterable[Context]) -> np.ndarray:
        """The list for what is known of a visitor: that of the first context there is one for, then everybody's."""
        for context in contexts:
            own = self.by_context.get(context)
            if own is not None:
                return np.concatenate([own, self.everywhere[~np.isin(self.everywhere, own)]])
        return self.everywhere


class PopularNow:
    """Counts of events that fade. Safe to use from several threads.

    Args:
        half_life_us: after which an event counts half.
    """

    def __init__(self, half_life_us: int, clock: Callable[[], int] = now_us) -> None:
        self._half_life, self._clock = half_life_us, clock
        self._lock = threading.Lock()
        self._begin = clock()
        self._counts: dict[Context | None, dict[str, float]] = {None: defaultdict(float)}

    def add(self, seen: Iterable[Seen]) -> None:
        """Count events, each by when it happened."""
        with self._lock:
            for event in seen:
                if event.event == DISMISS:
                    continue
                # Against a fixed moment: so nothing has to be made smaller as time goes on.
                weight = 2.0 ** ((min(event.timestamp, self._clock()) - self._begin) / self._half_life)
                self._counts[None][event.item_id] += weight
                for context in (event.context or {}).items():
                    if context in self._counts or len(self._counts) <= CONTEXTS:
                        self._counts.setdefault(context, defaultdict(float))[event.item_id] += weight

    def since(self, half_lives: int) -> int:
        """The moment so many half-lives ago, in µs since 1970."""
        return self._clock() - half_lives * self._half_life

    def lists(self, engine: Engine) -> Popular:
        """The lists of now, in an engine's codes."""
        fade = self._fade()
        with self._lock:
            counts = {context: dict(items) for context, items in self._counts.items()}
        prior = engine.popular()
        everywhere = np.zeros(engine.catalogue_size)
        everywhere[prior] = self._pace(engine, prior)
        codes, weights = _coded(engine, counts.pop(None), fade)
        everywhere[codes] += weights
        by_context = {}
        for context, items in counts.items():
            codes, weights = _coded(engine, items, fade)
            if len(codes) and context is not None:
                # Among the few events of one context, what everybody likes breaks the ties.
                by_context[context] = codes[np.lexsort((codes, -everywhere[codes], -weights))][:LISTED]
        place = np.full(engine.catalogue_size, engine.catalogue_size)
        place[prior] = np.arange(len(prior))
        found = np.flatnonzero(everywhere > 0)
        return Popular(found[np.lexsort((found, place[found], -everywhere[found]))][:LISTED], by_context)

    def _fade(self) -> float:
        """What a count against the fixed moment is worth now. Moves that moment when it is long ago."""
        age = (self._clock() - self._begin) / self._half_life
        if age > 100:  # 2^100: far from what a float holds, near enough to keep small counts exact
            with self._lock:
                for items in self._counts.values():
                    for item_id in list(items):
                        items[item_id] *= 2.0**-age
                        if items[item_id] < 1e-6:
                            del items[item_id]
                self._begin, age = self._clock(), 0.0
        return float(2.0**-age)

    def _pace(self, engine: Engine, prior: np.ndarray) -> np.ndarray:
        """What the package's popular items would count had events gone on coming as in its data."""
        counts = engine.info.popular_counts
        if len(counts) != len(prior):  # a package that names no counts: only their order is known
            return 1e3 / np.arange(1, len(prior) + 1)
        days = self._half_life / 86_400_000_000
        pace: np.ndarray = np.asarray(counts) / PACKAGE_DAYS * days / np.log(2)
        return pace


def _coded(engine: Engine, items: Mapping[str, float], fade: float) -> tuple[np.ndarray, np.ndarray]:
    """Codes and counts of the items that an engine knows."""
    coded = {code: count * fade for item_id, count in items.items() if (code := engine.code(item_id)) is not None}
    return np.fromiter(coded, np.int64, len(coded)), np.fromiter(coded.values(), float, len(coded))
