"""Augmented histories: what is changed, how often, and what never is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from recloop.config import Augment
from recloop.data.augmentation import Augmentation, similar_items
from recloop.data.batches import TrainingBatches
from tests.histories import prepared_of

PREPARED = prepared_of([list(range(20)), [3, 4, 5, 0, 1], [0, 1]], items=20)
"""Of the first history 18 events are learnt from, of the second three, of the third none."""


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_crop_is_a_stretch_at_least_half_as_long() -> None:
    starts, ends = np.zeros(2000, np.int64), np.full(2000, 9)
    first, last = Augmentation(Augment(crop=1), PREPARED).cropped(starts, ends, rng())
    assert first.min() == 0
    assert last.max() == 9
    assert set((last - first).tolist()) == {5, 6, 7, 8, 9}


def test_a_share_of_the_histories_is_cropped() -> None:
    starts, ends = np.zeros(2000, np.int64), np.full(2000, 100)
    first, last = Augmentation(Augment(crop=0.25), PREPARED).cropped(starts, ends, rng())
    assert np.mean(last - first < 100) == pytest.approx(0.25, abs=0.03)


def test_reordering_keeps_every_event_in_its_window_and_moves_only_one_stretch() -> None:
    offsets = np.array([0, 12, 24, 25])
    rows = np.arange(100, 125)
    moved = 0
    for seed in range(50):
        found = Augmentation(Augment(reorder=1), PREPARED).reordered(rows, offsets, np.random.default_rng(seed))
        for start, end in itertools.pairwise(offsets):
            assert sorted(found[start:end]) == rows[start:end].tolist()
            changed = np.flatnonzero(found[start:end] != rows[start:end])
            assert not len(changed) or changed[-1] - changed[0] < 3  # a quarter of twelve
            moved += len(changed) > 0
    assert moved > 50


def test_masked_events_are_not_shown_but_still_to_be_predicted() -> None:
    batches = TrainingBatches(
        PREPARED, batch_tokens=50, window=20, seed=0, augmentation=Augmentation(Augment(mask=0.5), PREPARED)
    )
    (batch,) = batches.epoch(1)
    assert sorted(batch.histories.values.tolist()) == sorted([*range(18), 3, 4, 5])
    hidden = batch.shown == 20
    assert 4 < int(hidden.sum()) < 17
    assert batch.shown[~hidden].equal(batch.histories.values[~hidden])


def test_substitutes_are_items_that_occur_near_each_other() -> None:
    similar = similar_items(PREPARED)
    assert set(similar[10].tolist()) == {7, 8, 9, 11, 12, 13}
    assert set(similar[19].tolist()) == {-1}  # not in the training period
    augmentation = Augmentation(Augment(substitute=0.5), PREPARED)
    items = np.full(4000, 10, np.int32)
    shown = augmentation.shown(items, rng())
    assert set(shown.tolist()) == {7, 8, 9, 10, 11, 12, 13}
    assert np.mean(shown != 10) == pytest.approx(0.5, abs=0.03)
    assert augmentation.shown(np.full(5, 19, np.int32), rng()).tolist() == [19] * 5


def test_the_same_epoch_is_augmented_alike_and_another_otherwise() -> None:
    augmentation = Augmentation(Augment(crop=0.5, mask=0.2, reorder=0.5, substitute=0.2), PREPARED)

    def epoch(number: int) -> list[list[int]]:
        batches = TrainingBatches(PREPARED, batch_tokens=50, window=20, seed=0, augmentation=augmentation)
        return [batch.shown.tolist() for batch in batches.epoch(number)]

    assert epoch(1) == epoch(1)
    assert epoch(1) != epoch(2)
