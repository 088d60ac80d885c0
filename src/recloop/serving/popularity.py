"""What is popular now: for everybody, and by the context that events came with.

Every event adds to its item's count, and a count halves every `half_life`, so that what was clicked an hour ago weighs
more than last week's hit. What was popular in the package's data counts on as though it went on at its pace of then:
a handful of clicks does not turn the list over, a day of them does. Cf. forward decay, Cormode et al., ICDE 2009.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from heapq import nlargest
from itertools import islice
from weakref import WeakKeyDictionary

import numpy as np

from recloop.serving.engine import Engine
from recloop.serving.events import DISMISS, Seen
from recloop.storage import now_us

Context = tuple[str, str]
"""A name and a value, e.g. country and DE"""
CONTEXTS = 1000
"""Contexts that are counted apart. Where there are twice as many, those with the least events are let go."""
COUNTED = 250_000
"""Items likewise: also ones that no version knows yet are counted."""
NOTHING = 1e-6
"""A count below it has faded."""
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
        self._begin = self._latest = clock()
        self._places: dict[str, int] = {}
        """Item id → where its count is"""
        self._counts = np.zeros(1024)
        self._by_context: dict[Context, dict[int, float]] = {}
        """Context → place → count"""
        self._codes: WeakKeyDictionary[Engine, np.ndarray] = WeakKeyDictionary()
        """Engine → int64 [places it was asked for]: the items' codes, -1 for one it does not know"""

    def add(self, seen: Iterable[Seen]) -> None:
        """Count events, each by when it happened."""
        with self._lock:
            now = self._now()
            for event in seen:
                if event.event == DISMISS:
                    continue
                place = self._places.setdefault(event.item_id, len(self._places))
                if place == len(self._counts):
                    self._counts = np.concatenate([self._counts, np.zeros(place)])
                # Against a fixed moment: so nothing has to be made smaller as time goes on.
                weight = 2.0 ** ((min(event.timestamp, now) - self._begin) / self._half_life)
                self._counts[place] += weight
                for context in (event.context or {}).items():
                    own = self._by_context.setdefault(context, {})
                    own[place] = own.get(place, 0.0) + weight
                if len(self._by_context) > 2 * CONTEXTS:
                    weights = {context: sum(own.values()) for context, own in self._by_context.items()}
                    self._by_context = {
                        context: self._by_context[context]
                        for context in nlargest(CONTEXTS, weights, key=weights.__getitem__)
                    }
                if len(self._places) > 2 * COUNTED:
                    self._keep_the_heaviest()

    def since(self, half_lives: int) -> int:
        """The moment so many half-lives ago, in µs since 1970."""
        return self._clock() - half_lives * self._half_life

    def lists(self, engine: Engine) -> Popular:
        """The lists of now, in an engine's codes."""
        with self._lock:
            fade = 2.0 ** -((self._now() - self._begin) / self._half_life)
            codes = self._codes_of(engine)
            counts = fade * self._counts[: len(codes)]
            contexts = {
                context: (np.fromiter(own, np.int64, len(own)), fade * np.fromiter(own.values(), float, len(own)))
                for context, own in self._by_context.items()
            }
        prior = engine.popular()
        everywhere = np.zeros(engine.catalogue_size)
        everywhere[prior] = self._pace(engine, prior)
        known = codes >= 0
        everywhere[codes[known]] += counts[known]
        by_context = {}
        for context, (places, weights) in contexts.items():
            known = codes[places] >= 0
            own, weights = codes[places][known], weights[known]
            if len(own):
                # Among the few events of one context, what everybody likes breaks the ties.
                by_context[context] = own[np.lexsort((own, -everywhere[own], -weights))][:LISTED]
        place = np.full(engine.catalogue_size, engine.catalogue_size)
        place[prior] = np.arange(len(prior))
        found = np.flatnonzero(everywhere > 0)
        if len(found) > LISTED:
            found = found[everywhere[found] >= np.partition(everywhere[found], -LISTED)[-LISTED]]
        return Popular(found[np.lexsort((found, place[found], -everywhere[found]))][:LISTED], by_context)

    def _codes_of(self, engine: Engine) -> np.ndarray:
        """int64 [places]. Under the lock."""
        known = self._codes.get(engine, np.zeros(0, np.int64))
        fresh = [engine.code(item_id) for item_id in islice(self._places, len(known), None)]
        codes = np.concatenate([known, np.array([-1 if code is None else code for code in fresh], np.int64)])
        self._codes[engine] = codes
        return codes

    def _keep_the_heaviest(self) -> None:
        """Let go of half the items. Under the lock."""
        kept = np.sort(np.argpartition(-self._counts[: len(self._places)], COUNTED)[:COUNTED])
        items = list(self._places)
        moved = {old: new for new, old in enumerate(kept.tolist())}
        self._places = {items[old]: new for old, new in moved.items()}
        self._counts = self._counts[kept]
        self._by_context = {
            context: {moved[place]: count for place, count in own.items() if place in moved}
            for context, own in self._by_context.items()
        }
        self._codes.clear()

    def _now(self) -> int:
        """The clock. Under the lock: moves the moment that counts are against, where the clock asks for it."""
        now = self._clock()
        if now < self._latest:
            # It was set back: what was counted counts on as of now. From the future it would outweigh all that comes.
            self._begin -= self._latest - now
        self._latest = now
        age = (now - self._begin) / self._half_life
        if age > 100:  # 2^100: far from what a float holds, near enough to keep small counts exact
            self._counts = np.where(self._counts * 2.0**-age < NOTHING, 0.0, self._counts * 2.0**-age)
            self._by_context = {
                context: {place: count * 2.0**-age for place, count in own.items() if count * 2.0**-age >= NOTHING}
                for context, own in self._by_context.items()
            }
            self._begin = now
        return now

    def _pace(self, engine: Engine, prior: np.ndarray) -> np.ndarray:
        """What the package's popular items would count had events gone on coming as in its data."""
        counts = engine.info.popular_counts
        if len(counts) != len(prior):  # a package that names no counts: only their order is known
            return 1e3 / np.arange(1, len(prior) + 1)
        days = self._half_life / 86_400_000_000
        pace: np.ndarray = np.asarray(counts) / PACKAGE_DAYS * days / np.log(2)
        return pace
