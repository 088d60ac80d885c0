"""Ragged batches: what a model is given. No sequence is padded here.

A training epoch cuts every user's history into windows, puts windows of like length together (so that a model that
must pad inside, pads little) and fills each batch up to a number of events. What comes first is drawn anew every
epoch from the seed and the epoch's number alone; so is all else that is left to chance while a batch is learnt from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from recloop.data.augmentation import Augmentation
from recloop.data.prepared import Prepared, Ragged


@dataclass(frozen=True)
class RaggedTensor:
    """Sequences of any length, end to end, on one device. Sequence `i` is `values[offsets[i]:offsets[i + 1]]`."""

    values: Tensor
    """int64 [events]"""
    offsets: Tensor
    """int64 [sequences + 1]"""
    times: Tensor | None = None
    """int64 [events]: when each was, in µs since 1970; None where that is not known"""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of(cls, sequences: Ragged, device: torch.device | str = "cpu") -> RaggedTensor:
        """The same sequences as tensors on `device`."""
        values = torch.from_numpy(sequences.values.astype(np.int64))
        offsets = torch.from_numpy(sequences.offsets.astype(np.int64))
        times = None if sequences.times is None else torch.from_numpy(sequences.times.astype(np.int64)).to(device)
        return cls(values.to(device), offsets.to(device), times)

    @cached_property
    def lengths(self) -> Tensor:
        """int64 [sequences]"""
        return self.offsets.diff()

    @cached_property
    def rows(self) -> Tensor:
        """int64 [events]: the sequence each event is of."""
        return torch.repeat_interleave(
            torch.arange(len(self), device=self.values.device), self.lengths, output_size=len(self.values)
        )

    @cached_property
    def from_start(self) -> Tensor:
        """int64 [events]: how many events of its sequence come before each."""
        return torch.arange(len(self.values), device=self.values.device) - self.offsets[:-1][self.rows]

    @cached_property
    def longest(self) -> int:
        """Length of the longest sequence; 0 where there is none."""
        return int(self.lengths.max()) if len(self) else 0

    def take(self, rows: Tensor) -> tuple[RaggedTensor, Tensor]:
        """These sequences, and int64 [their events]: where each of their events stood."""
        lengths = self.lengths[rows]
        offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
        total = int(offsets[-1])
        shift = torch.repeat_interleave(self.offsets[:-1][rows] - offsets[:-1], lengths, output_size=total)
        index = shift + torch.arange(total, device=self.values.device)
        return self._at(index, offsets), index

    def started(self, token: int) -> RaggedTensor:
        """The same sequences with `token` before each, at the time of what it stands before."""
        return self._with(token, 1)

    def ended(self, token: int) -> RaggedTensor:
        """The same sequences with `token` after each, at the time of what it stands after."""
        return self._with(token, 0)

    def _with(self, token: int, shift: int) -> RaggedTensor:
        places = torch.arange(len(self.values), device=self.values.device) + self.rows + shift
        values = self.values.new_full((len(self.values) + len(self),), token)
        values[places] = self.values
        offsets = self.offsets + torch.arange(len(self) + 1, device=self.offsets.device)
        times = None
        if self.times is not None:
            times = torch.zeros_like(values)
            times[places] = self.times
            some = self.lengths > 0
            added = (offsets[:-1] if shift else offsets[1:] - 1)[some]
            times[added] = times[added + (1 if shift else -1)]
        return RaggedTensor(values, offsets, times)

    def last(self, count: int) -> RaggedTensor:
        """At most the last `count` events of each sequence."""
        if self.longest <= count:
            return self
        kept = self.lengths.clamp(max=count)
        mask = self.from_start >= (self.lengths - kept)[self.rows]
        return self._at(mask, torch.nn.functional.pad(kept.cumsum(0), (1, 0)))

    def _at(self, which: Tensor, offsets: Tensor) -> RaggedTensor:
        return RaggedTensor(self.values[which], offsets, None if self.times is None else self.times[which])


@dataclass(frozen=True)
class Batch:
    """Windows of histories to learn from."""

    histories: RaggedTensor
    weights: Tensor
    """float32 [events]: how much each event counts in the loss"""
    users: Tensor
    """int64 [sequences]: user codes"""
    shown: Tensor
    """int64 [events]: what a model is shown of each event: the item itself, or another one, or the catalogue's size for
    nothing, where histories are augmented"""
    chances: Tensor
    """float32 [events]: a number from 0 to 1, drawn anew each epoch: for models that hide events"""
    seed: int
    """Of what else is drawn while it is learnt from"""

    def __len__(self) -> int:
        return len(self.histories)

    def rows(self, which: slice) -> Batch:
        """Some of its windows."""
        rows = torch.arange(len(self), device=self.users.device)[which]
        histories, events = self.histories.take(rows)
        return Batch(
            histories, self.weights[events], self.users[rows], self.shown[events], self.chances[events], self.seed
        )

    @property
    def events(self) -> int:
        return len(self.histories.values)


class TrainingBatches:
    """The training period as batches, in an order of its own for every epoch."""

    def __init__(
        self,
        prepared: Prepared,
        *,
        batch_tokens: int,
        window: int,
        seed: int,
        device: torch.device | str = "cpu",
        augmentation: Augmentation | None = None,
    ) -> None:
        """
        Args:
            prepared: the data; only its training period is read.
            batch_tokens: events in a batch, at most.
            window: events of one user that stand together, at most; at least 2.
            seed: of the order.
            device: where batches are put.
            augmentation: what is done to histories first; None for nothing.
        """
        self._starts, self._ends = prepared.starts, prepared.train_ends
        self._items, self._weights, self._times = prepared.items, prepared.weights, prepared.timestamps
        self._batch_tokens, self._window = batch_tokens, window
        self._seed, self._device = seed, device
        self._augmentation = augmentation
        self.events = int((self._ends - self._starts).sum())
        """Events of the last epoch: every event of the training period once, unless histories are cropped."""
        self.padding = 0.0
        """Share of places that would be empty, had the batches of the last epoch been padded."""

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch `number`; the same number gives the same batches."""
        rng = np.random.default_rng([self._seed, number])
        users, starts, ends = self._windows(rng)
        if self._augmentation is not None:
            starts, ends = self._augmentation.cropped(starts, ends, rng)
        lengths = ends - starts
        groups = list(self._groups(lengths, rng))
        places = sum(len(group) * int(lengths[group].max()) for group in groups)
        self.events = int(lengths.sum())
        self.padding = 1 - self.events / places if places else 0.0
        for index in rng.permutation(len(groups)):
            yield self._batch(users[groups[index]], starts[groups[index]], ends[groups[index]], rng)

    def _windows(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Users, first and past-the-last rows. A history longer than a window is cut at places drawn anew each time."""
        lengths = self._ends - self._starts
        first = np.where(lengths > self._window, rng.integers(1, self._window + 1, size=len(lengths)), self._window)
        counts = np.where(lengths > 0, 1 + np.maximum(0, -(-(lengths - first) // self._window)), 0)
        users = np.repeat(np.arange(len(lengths)), counts)
        index = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
        # Window i ends `first + i × window` events after the user's first, and starts one window before.
        cuts = self._starts[users] + first[users] + index * self._window
        starts = np.maximum(self._starts[users], cuts - self._window)
        return users, starts, np.minimum(self._ends[users], cuts)

    def _groups(self, lengths: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Which windows make up each batch: sorted by length, those of one length by chance, and cut by their events.

        Sorting only within parts of the epoch would mix lengths more, at 10 to 30% padding instead of 1 to 4%; models
        learn no better from it.
        """
        order = rng.permutation(len(lengths))
        order = order[np.argsort(lengths[order], kind="stable")]
        start, held = 0, 0
        for end, length in enumerate(lengths[order].tolist()):
            if held + length > self._batch_tokens and end > start:
                yield order[start:end]
                start, held = end, 0
            held += length
        if start < len(order):
            yield order[start:]

    def _batch(self, users: np.ndarray, starts: np.ndarray, ends: np.ndarray, rng: np.random.Generator) -> Batch:
        offsets = np.concatenate([[0], np.cumsum(ends - starts)]).astype(np.int64)
        rows = np.repeat(starts - offsets[:-1], ends - starts) + np.arange(offsets[-1])
        if self._augmentation is not None:
            rows = self._augmentation.reordered(rows, offsets, rng)
        items = self._items[rows]
        shown = items if self._augmentation is None else self._augmentation.shown(items, rng)
        return Batch(
            histories=RaggedTensor.of(Ragged(items, offsets, self._times[rows]), self._device),
            weights=torch.from_numpy(self._weights[rows].astype(np.float32)).to(self._device),
            users=torch.from_numpy(users.astype(np.int64)).to(self._device),
            shown=torch.from_numpy(shown.astype(np.int64)).to(self._device),
            chances=torch.from_numpy(rng.random(len(rows), np.float32)).to(self._device),
            seed=int(rng.integers(1 << 62)),
        )
