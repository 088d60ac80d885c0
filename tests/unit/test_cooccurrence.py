"""What co-occurrence says of items: counted pairs, and the vectors made of them."""

from __future__ import annotations

import torch

from recloop.data.cooccurrence import cooccurrence_vectors, cooccurrences
from tests.histories import prepared_of


def test_pairs_are_counted_in_both_orders_and_count_less_the_farther_apart() -> None:
    prepared = prepared_of([[0, 1, 0, 2, 9, 9], [1, 2]], items=10, held_out=2)  # 0, 1, 0, 2 are learnt from
    pairs = cooccurrences(prepared, reach=2)
    found = {
        (one, other): round(weight, 3)
        for one, other, weight in zip(pairs.one.tolist(), pairs.other.tolist(), pairs.weights.tolist(), strict=True)
    }
    # 0-1 twice in a row; 0-2 once in a row; 1-2 once, two apart.
    assert found == {(0, 1): 2, (1, 0): 2, (0, 2): 1, (2, 0): 1, (1, 2): 0.707, (2, 1): 0.707}


def test_items_of_one_taste_get_vectors_that_point_one_way() -> None:
    torch.manual_seed(0)
    histories = [[10 * (user % 2) + (user + step * 3) % 10 for step in range(9)] for user in range(80)]
    vectors = cooccurrence_vectors(prepared_of(histories, items=22), 8, std=0.02)
    assert vectors.shape == (22, 8)
    likeness = torch.nn.functional.cosine_similarity(vectors[:20, None], vectors[None, :20], dim=2)
    same = torch.block_diag(torch.ones(10, 10), torch.ones(10, 10)).bool() & ~torch.eye(20).bool()
    other = torch.block_diag(torch.ones(10, 10), torch.ones(10, 10)) == 0
    assert likeness[same].mean() > likeness[other].mean() + 0.3
    assert 0 < vectors[20:].abs().max() < 0.02  # never seen: noise alone


def test_nothing_to_count_gives_noise() -> None:
    prepared = prepared_of([[0], [1]], items=3, held_out=0)
    assert not len(cooccurrences(prepared, reach=3).one)
    assert cooccurrence_vectors(prepared, 4, std=1.0).isfinite().all()


def test_the_held_out_events_say_nothing() -> None:
    one = cooccurrences(prepared_of([[0, 1, 2, 3, 4]], items=6), reach=5)
    other = cooccurrences(prepared_of([[0, 1, 2, 5, 5]], items=6), reach=5)
    assert one.one.tolist() == other.one.tolist()
