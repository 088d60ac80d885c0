"""Retrieval: the exact way against products in float64, the approximate one against the exact."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from recloop.serving import index
from recloop.serving.index import Approximate, Exact, Retriever, build_retriever

ITEMS, WIDTH, QUERIES = 20_000, 32, 40


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """float32 [20,000, 32] in clusters; lengths are log-normal, one number decides much, and one is a bias."""
    rng = np.random.default_rng(0)
    found = (rng.standard_normal((100, WIDTH)) + 1.0)[rng.integers(100, size=ITEMS)]
    found += 0.5 * rng.standard_normal((ITEMS, WIDTH))
    found *= rng.lognormal(0.0, 0.3, (ITEMS, 1))
    found[:, 3] *= 5
    found[:, -1] = rng.exponential(2.0, ITEMS)
    return found.astype(np.float32)


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    """float32 [40, 32]"""
    found = np.random.default_rng(1).standard_normal((QUERIES, WIDTH))
    found[:, -1] = 1
    return found.astype(np.float32)


@pytest.fixture(autouse=True)
def sketches_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the catalogue."""
    monkeypatch.setattr(index, "FEW", 0)


@pytest.fixture(scope="module")
def exact(vectors: np.ndarray) -> Exact:
    return Exact(vectors)


@pytest.fixture(scope="module")
def approximate(vectors: np.ndarray) -> Approximate:
    return Approximate(vectors)


def recall(found: np.ndarray, best: np.ndarray) -> float:
    """The mean share of `best` [n, k] that is in `found` [n, k]."""
    return float(np.mean([np.isin(row, wanted).mean() for row, wanted in zip(best, found, strict=True)]))


def sorted_whole(vectors: np.ndarray, query: np.ndarray, come: np.ndarray, k: int) -> np.ndarray:
    """Codes by their products in float64, then by code, of those that may come."""
    products = (vectors.astype(np.float64) * query).sum(1).astype(np.float32)
    codes = np.flatnonzero(come)
    return codes[np.lexsort((codes, -products[codes]))][:k]


# The exact way.


def test_three_items_and_two_queries_by_hand() -> None:
    retriever = Exact(np.array([[1, 0], [0, 2], [3, 1]], np.float32))
    codes, scores = retriever.search(np.array([[1, 0], [0, -1]], np.float32), 2)
    assert codes.tolist() == [[2, 0], [0, 2]]
    assert scores.tolist() == [[3, 1], [0, -1]]
    assert (codes.dtype, scores.dtype) == (np.int64, np.float32)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_it_is_what_sorting_whole_lists_by_float64_products_gives(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    items, width, k = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 9)), data.draw(st.integers(1, 80))
    # Whole numbers of a few sizes, over a tenth: products tie often, and float32 cannot hold them.
    vectors = (rng.integers(-2, 3, (items, width)) / 10).astype(np.float32)
    queries = (rng.integers(-2, 3, (4, width)) / 10).astype(np.float32)
    allowed = rng.random(items) < 0.7 if data.draw(st.booleans()) else None
    banned = [rng.integers(items, size=rng.integers(items + 1)) for _ in queries] if data.draw(st.booleans()) else None
    codes, scores = Exact(vectors).search(queries, k, banned=banned, allowed=allowed)
    for row, query in enumerate(queries):
        come = np.ones(items, bool) if allowed is None else allowed.copy()
        if banned is not None:
            come[banned[row]] = False
        best = sorted_whole(vectors, query, come, k)
        assert codes[row].tolist() == best.tolist() + [-1] * (k - len(best))
        assert (scores[row] == -np.inf).tolist() == (codes[row] < 0).tolist()
        assert_array_equal(scores[row, : len(best)], (vectors[best].astype(np.float64) * query).sum(1).astype("f4"))


def test_a_tie_among_very_many_goes_to_the_lowest_codes() -> None:
    vectors = np.zeros((50_000, 4), np.float32)
    vectors[40_000] = 1
    codes, _ = Exact(vectors).search(np.ones((1, 4), np.float32), 3)
    assert codes.tolist() == [[40_000, 0, 1]]


def test_many_queries_are_searched_in_parts(exact: Exact, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = exact.search(queries, 7)
    monkeypatch.setattr(index, "SCORES_AT_ONCE", 3 * ITEMS)
    for whole, part in zip(at_once, exact.search(queries, 7), strict=True):
        assert_array_equal(whole, part)


def test_by_angle_length_does_not_matter(vectors: np.ndarray, queries: np.ndarray) -> None:
    longer = vectors * np.random.default_rng(3).lognormal(0.0, 1.0, (ITEMS, 1)).astype(np.float32)
    lengths = np.linalg.norm(longer, axis=1)
    allowed, banned = np.arange(ITEMS) % 3 > 0, [np.arange(1000)] * QUERIES
    exact, approximate = (
        kind(longer, lengths).search(queries, 20, banned=banned, allowed=allowed) for kind in (Exact, Approximate)
    )
    cosines = longer.astype(np.float64) @ queries.T / lengths[:, None]
    cosines[~allowed] = cosines[:1000] = -np.inf
    assert_array_equal(exact[0], np.argsort(-cosines.T, axis=1)[:, :20])
    assert_array_equal(exact[1], np.take_along_axis(cosines.T, exact[0], 1).astype(np.float32))
    assert recall(approximate[0], exact[0]) >= 0.98
    assert set(approximate[1].ravel()) <= set(cosines.astype(np.float32).ravel())


def test_no_queries_are_no_lists(exact: Exact, approximate: Approximate) -> None:
    for retriever in (exact, approximate):
        assert retriever.search(np.empty((0, WIDTH), np.float32), 5)[0].shape == (0, 5)


def test_vectors_that_cannot_be_written_to_will_do(vectors: np.ndarray) -> None:
    fixed = vectors[:100].copy()
    fixed.flags.writeable = False
    assert Exact(fixed).search(fixed[:1], 3)[0].shape == (1, 3)


# The approximate way.


def test_sketches_find_nearly_all_and_scores_are_true(
    exact: Exact, approximate: Approximate, vectors: np.ndarray, queries: np.ndarray
) -> None:
    for k, least in ((10, 0.99), (100, 0.97), (1000, 0.97)):
        codes, scores = approximate.search(queries, k)
        assert recall(codes, exact.search(queries, k)[0]) >= least
        for row, query in enumerate(queries):
            products = (vectors[codes[row]].astype(np.float64) * query).sum(1)
            assert_array_equal(scores[row], products.astype(np.float32))
            assert len(set(codes[row].tolist())) == k
        assert (np.diff(scores, axis=1) <= 0).all()


def test_turned_vectors_have_the_same_products_but_for_one_amount_a_query(
    vectors: np.ndarray, queries: np.ndarray
) -> None:
    turned, onto = index.turn(vectors)
    less = queries @ vectors.T - (queries @ onto) @ turned.T
    assert_array_equal(less.std(1) < 1e-4 * np.abs(queries @ vectors.T).max(1), True)
    assert turned.std(0) == pytest.approx(np.ones(WIDTH), rel=0.7)


def test_a_number_that_is_the_same_for_all_items_is_no_trouble(vectors: np.ndarray, queries: np.ndarray) -> None:
    same = np.c_[vectors[:, :-1], np.ones(ITEMS, np.float32)]
    assert recall(Approximate(same).search(queries, 10)[0], Exact(same).search(queries, 10)[0]) >= 0.99


def test_items_with_vectors_many_times_as_long_as_most_are_found(queries: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    uneven = (rng.standard_normal((ITEMS, WIDTH)) * rng.lognormal(0.0, 2.0, (ITEMS, 1))).astype(np.float32)
    assert recall(Approximate(uneven).search(queries, 100)[0], Exact(uneven).search(queries, 100)[0]) >= 0.98


def test_items_that_are_all_alike_and_queries_of_nothing_still_get_a_full_list(vectors: np.ndarray) -> None:
    alike, halves = np.ones((ITEMS, WIDTH), np.float32), vectors.copy()
    halves[::2] = halves[0]
    for items in (alike, halves):
        codes, _ = Approximate(items).search(np.stack([vectors[0], vectors[1] * 0, items[0]]), 50)
        assert [len(set(row.tolist()) - {-1}) for row in codes] == [50, 50, 50]
    assert codes[1].tolist() == [*range(50)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.0, 0.001, 0.3, 1.0]), k=st.integers(1, 200))
def test_what_must_not_come_never_does_and_the_list_is_full(
    approximate: Approximate, queries: np.ndarray, seed: int, share: float, k: int
) -> None:
    rng = np.random.default_rng(seed)
    allowed = rng.random(ITEMS) < share
    best = approximate.search(queries[:3], 3000)[0]
    banned = [row[: rng.integers(3000)] for row in best]
    codes, scores = approximate.search(queries[:3], k, banned=banned, allowed=allowed)
    for row, without in enumerate(banned):
        come = allowed.copy()
        come[without] = False
        found = codes[row][codes[row] >= 0]
        assert come[found].all()
        assert len(set(found.tolist())) == len(found) == min(k, come.sum())
        assert (scores[row][len(found) :] == -np.inf).all()


def test_the_best_of_those_that_may_come_are_found(exact: Exact, approximate: Approximate, queries: np.ndarray) -> None:
    banned = list(exact.search(queries, 500)[0])
    allowed = np.arange(ITEMS) % 3 == 0
    codes, _ = approximate.search(queries, 50, banned=banned, allowed=allowed)
    assert recall(codes, exact.search(queries, 50, banned=banned, allowed=allowed)[0]) >= 0.97


def test_where_few_may_come_the_list_is_exact(
    exact: Exact, approximate: Approximate, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "FEW", 500)
    allowed = np.arange(ITEMS) < 500
    for ours, theirs in zip(
        approximate.search(queries, 100, allowed=allowed), exact.search(queries, 100, allowed=allowed), strict=True
    ):
        assert_array_equal(ours, theirs)


def test_more_than_there_are_gives_all_there_are(approximate: Approximate, queries: np.ndarray) -> None:
    codes, _ = approximate.search(queries[:1], ITEMS + 10, banned=[np.array([3, 5])])
    assert sorted(codes[0].tolist()) == [-1] * 12 + [code for code in range(ITEMS) if code not in (3, 5)]


def test_nothing_comes_where_nothing_may(exact: Exact, approximate: Approximate, queries: np.ndarray) -> None:
    for retriever in (exact, approximate):
        codes, scores = retriever.search(queries, 5, allowed=np.zeros(ITEMS, bool))
        assert (codes == -1).all()
        assert (scores == -np.inf).all()


def test_the_same_vectors_give_the_same_answers(
    approximate: Approximate, vectors: np.ndarray, queries: np.ndarray
) -> None:
    first, again = approximate.search(queries, 100), Approximate(vectors.copy()).search(queries, 100)
    for ours, theirs in zip(first, again, strict=True):
        assert_array_equal(ours, theirs)


def test_threads_may_search_at_once(exact: Exact, approximate: Approximate, queries: np.ndarray) -> None:
    retrievers: tuple[Retriever, ...] = (exact, approximate)
    for retriever in retrievers:
        alone = [retriever.search(query[None], 20)[0] for query in queries]
        together = threading.Barrier(4)

        def search(start: int, retriever: Retriever = retriever, together: threading.Barrier = together) -> list[int]:
            together.wait()
            found = [retriever.search(query[None], 20)[0] for query in np.roll(queries, start, 0)]
            return np.roll(found, -start, 0).ravel().tolist()

        with ThreadPoolExecutor(4) as threads:
            for found in threads.map(search, range(0, QUERIES, 10)):
                assert found == np.ravel(alone).tolist()


def test_torch_keeps_its_threads(approximate: Approximate, vectors: np.ndarray, queries: np.ndarray) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        Approximate(vectors[:1000]).search(queries, 5)
        approximate.search(queries, 5)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_size_of_the_catalogue_decides(vectors: np.ndarray) -> None:
    assert isinstance(build_retriever(vectors[:1000]), Exact)
    assert isinstance(build_retriever(vectors[:1000], exact_up_to=1000), Exact)
    assert isinstance(build_retriever(vectors[:1000], exact_up_to=999), Approximate)
