"""Ragged batches: every training event once, in an order that the seed decides, with little to pad."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from recloop.data.batches import Batch, RaggedTensor, TrainingBatches
from recloop.data.prepared import Ragged
from tests.histories import prepared_of


def lists(histories: RaggedTensor) -> list[list[int]]:
    bounds = histories.offsets.tolist()
    return [histories.values[a:b].tolist() for a, b in pairwise(bounds)]


def ragged(*sequences: list[int]) -> RaggedTensor:
    return RaggedTensor.of(Ragged.of(list(sequences)))


def events(batches: list[Batch]) -> Counter[tuple[int, int]]:
    """(user, item) of every event."""
    return Counter(
        (int(user), item)
        for batch in batches
        for user, history in zip(batch.users, lists(batch.histories), strict=True)
        for item in history
    )


def test_a_ragged_tensor_knows_the_row_and_the_place_of_each_event() -> None:
    sequences = ragged([7, 8, 9], [], [4])
    assert len(sequences) == 3
    assert sequences.longest == 3
    assert sequences.rows.tolist() == [0, 0, 0, 2]
    assert sequences.from_start.tolist() == [0, 1, 2, 0]


def test_the_last_events_are_kept_and_empty_histories_stay() -> None:
    assert lists(ragged([1, 2, 3, 4], [], [5]).last(2)) == [[3, 4], [], [5]]


def test_nothing_but_the_training_period_is_learnt_from() -> None:
    prepared = prepared_of([[0, 1, 2, 3], [4, 5, 6]], items=7)
    batches = list(TrainingBatches(prepared, batch_tokens=100, window=10, seed=1).epoch(1))
    assert events(batches) == {(0, 0): 1, (0, 1): 1, (1, 4): 1}


def test_every_event_is_seen_once_an_epoch_however_long_the_history() -> None:
    rng = np.random.default_rng(0)
    histories = [list(range(length)) for length in rng.integers(2, 60, size=40)]
    prepared = prepared_of(histories, items=60)
    batches = TrainingBatches(prepared, batch_tokens=32, window=8, seed=1)
    wanted = Counter((user, item) for user, history in enumerate(histories) for item in history[:-2])
    for epoch in (1, 2, 3):
        seen = list(batches.epoch(epoch))
        assert events(seen) == wanted
        assert all(batch.events <= 32 and batch.histories.longest <= 8 for batch in seen)
    assert batches.events == sum(wanted.values())


def test_a_window_is_a_stretch_of_its_users_history_with_the_weights_that_go_with_it() -> None:
    prepared = prepared_of([list(range(20))], items=20, weights=[[item / 10 for item in range(20)]])
    for batch in TrainingBatches(prepared, batch_tokens=8, window=5, seed=1).epoch(1):
        for window in lists(batch.histories):
            assert window == list(range(window[0], window[0] + len(window)))
        assert torch.allclose(batch.weights, batch.histories.values / 10)


def test_long_histories_are_cut_elsewhere_in_another_epoch() -> None:
    prepared = prepared_of([list(range(100))], items=100)
    batches = TrainingBatches(prepared, batch_tokens=10, window=10, seed=1)
    starts = {
        min(window[0] for batch in batches.epoch(e) for window in lists(batch.histories) if window[0]) for e in range(9)
    }
    assert len(starts) > 3


def test_the_seed_and_the_epoch_decide_the_order_and_nothing_else_does() -> None:
    prepared = prepared_of([[item % 9 for item in range(length)] for length in range(3, 30)], items=9)

    def order(seed: int, epoch: int) -> list[list[list[int]]]:
        batches = TrainingBatches(prepared, batch_tokens=20, window=9, seed=seed)
        return [lists(batch.histories) for batch in batches.epoch(epoch)]

    assert order(1, 5) == order(1, 5)
    assert order(1, 5) != order(2, 5)
    assert order(1, 5) != order(1, 6)


def test_a_history_longer_than_a_batch_stands_alone_in_one() -> None:
    prepared = prepared_of([list(range(12)), [0, 1, 2]], items=12)
    sizes = sorted(batch.events for batch in TrainingBatches(prepared, batch_tokens=4, window=50, seed=1).epoch(1))
    assert sizes == [1, 10]


def test_users_without_a_training_event_are_in_no_batch() -> None:
    prepared = prepared_of([[3, 4], [0, 1, 2]], items=5)
    batches = list(TrainingBatches(prepared, batch_tokens=10, window=5, seed=1).epoch(1))
    assert events(batches) == {(1, 0): 1}
    assert all(int(batch.histories.lengths.min()) > 0 for batch in batches)


def test_windows_of_like_length_share_a_batch_so_that_little_is_padded() -> None:
    rng = np.random.default_rng(0)
    histories = [[0] * int(length) for length in rng.integers(3, 52, size=400)]
    batches = TrainingBatches(prepared_of(histories, items=1), batch_tokens=400, window=51, seed=1)
    list(batches.epoch(1))
    unsorted = 1 - np.mean([len(history) - 2 for history in histories]) / 49
    assert batches.padding < unsorted / 2


@pytest.mark.parametrize("held_out", [0, 2])
def test_an_epoch_reports_the_share_that_padding_would_be(held_out: int) -> None:
    histories = [[0] * (4 + held_out), [0] * (2 + held_out)]
    batches = TrainingBatches(prepared_of(histories, items=1, held_out=held_out), batch_tokens=10, window=5, seed=1)
    list(batches.epoch(1))
    assert batches.padding == pytest.approx(2 / 8)  # one batch of two rows of four places, two of them empty
