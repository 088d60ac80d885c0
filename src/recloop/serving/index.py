"""Retrieval: the items whose vectors have the greatest product with a query's, or the smallest angle to it.

In a small catalogue every product is made. In a large one every item is still looked at, but by a sketch of four bits
a number, an eighth of what its vector takes; what looks best is then scored by its vector. There are no cells and no
graph in which a query could miss its items: an item is lost only where its sketch misjudges it by a great deal.

The sketches are those of a product quantiser whose parts are single numbers, read by table look-ups in registers
(Quicker ADC, André et al., 2019, arXiv 1812.09162), as faiss does it (Douze et al., 2024, arXiv 2401.08281).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

EXACT_UP_TO = 50_000
"""Items up to which a busy endpoint answers no later by making every product, as `benchmarks/index.py` measured."""
LOOK_AT, LOOK_AT_MORE = 2, 1000
"""Items that are scored by their vectors once their sketches look good: so many for each that is wanted, and so many
more."""
FEW = 20_000
"""Items that may come, up to which all of them are scored at once: that takes no longer than reading every sketch."""
SAMPLE = 16_384
"""Items that sketches are fitted to."""
SCORES_AT_ONCE = 8_000_000
"""Scores that one product may make, 32 MB."""
TIES = 4096
"""Items whose scores may be as good as the last one's and still be told apart exactly."""


class Retriever(Protocol):
    """Finds items by their vectors. Safe to use from several threads."""

    together: ClassVar[int]
    """Queries that are best searched at once: with more nothing is saved, and whoever comes next waits longer."""

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        banned: Sequence[np.ndarray] | None = None,
        allowed: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best `k` items for each query, best first; of items with one score the lower code comes first.

        Args:
            queries: float32 [n, width]
            k: how many; they are fewer only where no more may come.
            banned: for each query, int64 codes that must not come.
            allowed: bool [items], those that may come; None: all.

        Returns:
            int64 [n, k] codes, -1 where there are no more, and float32 [n, k] their scores, -inf there. An item's
            score does not depend on what other queries come with it.
        """


def build_retriever(
    vectors: np.ndarray, lengths: np.ndarray | None = None, *, exact_up_to: int = EXACT_UP_TO
) -> Retriever:
    """What answers soonest for a catalogue of this size.

    Args:
        vectors: float32 [items, width], all of them numbers: one that is none would spoil every list.
        lengths: float32 [items], what every item's products are divided by; None: nothing.
        exact_up_to: items up to which every product is made.
    """
    return Exact(vectors, lengths) if len(vectors) <= exact_up_to else Approximate(vectors, lengths)


class Exact:
    """A `Retriever` that makes every product, and so misses nothing."""

    together: ClassVar[int] = 16

    def __init__(self, vectors: np.ndarray, lengths: np.ndarray | None = None) -> None:
        """
        Args:
            vectors: float32 [items, width]
            lengths: float32 [items], what every item's products are divided by; None: nothing.
        """
        self.vectors = np.require(vectors, np.float32, ["C", "W"])
        self.lengths = lengths
        longest = (np.linalg.norm(self.vectors, axis=1) / (1 if lengths is None else lengths)).max(initial=0.0)
        # What a float32 score may be off by, for a query of length 1.
        self._error = self.vectors.shape[1] * np.finfo(np.float32).eps * longest

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        banned: Sequence[np.ndarray] | None = None,
        allowed: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        rows = None if allowed is None else np.flatnonzero(allowed)
        vectors = torch.from_numpy(self.vectors if rows is None else self.vectors[rows])
        lengths = self.lengths if self.lengths is None or rows is None else self.lengths[rows]
        codes, scores = nothing(len(queries), k)
        at_once = max(1, SCORES_AT_ONCE // max(1, len(vectors)))
        for start in range(0, len(queries), at_once):
            some = np.require(queries[start : start + at_once], np.float32, ["C", "W"])
            for row, rough in enumerate((torch.from_numpy(some) @ vectors.T).numpy(), start):
                if lengths is not None:
                    rough /= lengths
                if banned is not None:
                    rough[banned[row] if rows is None else np.isin(rows, banned[row])] = -np.inf
                self.settle(queries[row], rough, rows, codes[row], scores[row])
        return codes, scores

    def settle(
        self, query: np.ndarray, rough: np.ndarray, rows: np.ndarray | None, codes: np.ndarray, scores: np.ndarray
    ) -> None:
        """Find the best by their scores in float64, which of all that could be among them are made anew.

        Args:
            query: float32 [width]
            rough: float32 [rows] scores as they were made in one go, -inf for what must not come.
            rows: int64 [rows] the codes they are of, in order; None: of all items.
            codes: int64 [k], the best ones' codes go here.
            scores: float32 [k], their scores go here.
        """
        k = len(codes)
        worst = np.partition(rough, len(rough) - k)[len(rough) - k] if len(rough) > k else -np.inf
        near = np.flatnonzero(rough >= max(worst - self._error * np.linalg.norm(query), np.finfo(np.float32).min))
        if len(near) > k + TIES:
            near = near[np.argsort(-rough[near], kind="stable")[: k + TIES]]
        found = near if rows is None else rows[near]
        exactly = (self.vectors[found].astype(np.float64) * query).sum(1)
        if self.lengths is not None:
            exactly /= self.lengths[found]
        best = exactly.astype(np.float32)
        order = np.lexsort((found, -best))[:k]
        codes[: len(order)], scores[: len(order)] = found[order], best[order]


class Approximate:
    """A `Retriever` that reads sketches first. Its scores are true ones; what it may do is miss an item.

    The same vectors give the same sketches. They are made when a version goes live and not kept in its package: for a
    million items of width 64 that takes one thread 6 s, in which others answer. A sketch takes half a byte a number,
    and 8 bytes more; while they are made, the vectors are in memory up to three times.
    """

    together: ClassVar[int] = 4

    def __init__(self, vectors: np.ndarray, lengths: np.ndarray | None = None) -> None:
        """
        Args:
            vectors: float32 [items, width], at least 16 items.
            lengths: float32 [items], what every item's products are divided by; None: nothing.
        """
        import faiss  # a small catalogue does without

        self._faiss: Any = faiss
        self._exact = Exact(vectors, lengths)
        # One list of all items: sketches can be passed over while they are read only where they are in lists.
        width = vectors.shape[1]
        centre = faiss.IndexFlatIP(width)
        centre.add(np.zeros((1, width), np.float32))
        self._index: Any = faiss.IndexIVFPQFastScan(centre, width, 1, width, 4, faiss.METRIC_INNER_PRODUCT)
        self._index.by_residual = False
        turned, self._turn = turn(vectors if lengths is None else vectors / lengths[:, None])
        with self._threads(torch.get_num_threads()):
            self._index.train(turned[_sample(turned)])
            self._index.add(turned)

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        banned: Sequence[np.ndarray] | None = None,
        allowed: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        vectors, lengths = self._exact.vectors, self._exact.lengths
        may_come = len(vectors) if allowed is None else int(np.count_nonzero(allowed))
        if may_come <= FEW:
            return self._exact.search(queries, k, banned=banned, allowed=allowed)
        count = min(LOOK_AT * k + LOOK_AT_MORE + max(map(len, banned or ()), default=0), may_come)
        codes, scores = nothing(len(queries), k)
        for row, found in enumerate(self._look(queries, count, allowed)):
            without = None if banned is None else banned[row]
            if found.min() < 0:  # to a query of nothing, say, all sketches look alike, and faiss takes none
                only = None if without is None else [without]
                one = self._exact.search(queries[row : row + 1], k, banned=only, allowed=allowed)
                codes[row], scores[row] = one[0][0], one[1][0]
                continue
            rows = np.sort(found if without is None else found[~np.isin(found, without)])
            rough = vectors[rows] @ queries[row]
            if lengths is not None:
                rough /= lengths[rows]
            self._exact.settle(queries[row], rough, rows, codes[row], scores[row])
        return codes, scores

    def _look(self, queries: np.ndarray, count: int, allowed: np.ndarray | None) -> np.ndarray:
        """int64 [n, count]: codes of the items whose sketches look best, in no order."""
        only = None
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")
            only = self._faiss.SearchParametersIVF(sel=self._faiss.IDSelectorBitmap(bits))
        with self._threads(1):  # requests are shared out among processes, not one among threads
            found: np.ndarray = self._index.search(queries @ self._turn, count, params=only)[1]
        return found

    @contextmanager
    def _threads(self, count: int) -> Iterator[None]:
        """Meanwhile faiss has so many. OpenMP remembers that for each thread that calls it, and torch may share it."""
        before = self._faiss.omp_get_max_threads()
        self._faiss.omp_set_num_threads(count)
        try:
            yield
        finally:
            self._faiss.omp_set_num_threads(before)


def turn(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors in which every number tells as much as every other, so that four bits are enough for each.

    As models make them, a few numbers often decide most of a product. Here they are first brought to one spread, and
    then all turned by one rotation, which leaves each a bit of every old one. Every query's products change by one
    amount for all items, and so do not change places.

    Args:
        vectors: float32 [items, width]

    Returns:
        float32 [items, width] the turned vectors, and float32 [width, width] what turns queries by being multiplied.
    """
    given = torch.from_numpy(vectors)
    spread, mean = torch.std_mean(given, 0)
    spread = torch.where(spread > 0, spread, 1.0)[:, None]
    width = len(mean)
    rotation = torch.from_numpy(np.linalg.qr(np.random.default_rng(0).standard_normal((width, width)))[0]).float()
    onto = rotation / spread
    return torch.addmm(-(mean @ onto), given, onto).numpy(), (rotation * spread).numpy()


def _sample(turned: np.ndarray) -> np.ndarray:
    """int64 [SAMPLE] rows of float32 [items, width], long ones more often: they make the products that count."""
    weights = np.einsum("iw,iw->i", turned, turned).astype(np.float64) + 1e-12
    return np.random.default_rng(0).choice(len(turned), SAMPLE, p=weights / weights.sum())


def nothing(queries: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scores of lists that are empty."""
    return np.full((queries, k), -1, np.int64), np.full((queries, k), -np.inf, np.float32)
