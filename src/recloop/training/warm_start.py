"""Beginning from the champion's weights instead of from nothing.

What a model has a row of for each item or user follows the id: a row goes to where its item or user is now, and what
the champion did not know begins as it would without. All else is taken over as it is. Only weights are: the optimiser
begins with nothing remembered, and the champion itself is no candidate, the first epoch is.

It is all or nothing. And it must not be where the champion has learnt from what this training is judged on: it would
be chosen, and made champion again, for what it remembers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from recloop.data.prepared import Prepared
from recloop.data.warm import Champion, read_champion
from recloop.models.base import Learner, Recommender


class FromNothing(Exception):
    """Why a training cannot begin from the champion."""


@dataclass(frozen=True)
class Carried:
    """What was taken over. A model that has no rows of users keeps none, and none is new to it."""

    model_sha256: str
    """Of the champion's weights"""
    items_kept: int
    items_new: int
    users_kept: int
    users_new: int

    def __str__(self) -> str:
        of_users = self.users_kept or self.users_new
        users = f", {self.users_kept:,} users kept, {self.users_new:,} new" if of_users else ""
        items = f"{self.items_kept:,} items kept, {self.items_new:,} new"
        return f"the champion with the sha256 {self.model_sha256[:12]}…: {items}{users}"


@dataclass(frozen=True)
class Rows:
    """Which rows of the champion go where."""

    then: torch.Tensor
    """int64 [kept]: codes there"""
    now: torch.Tensor
    """int64 [kept]: codes of the same ids now"""
    count_then: int
    count_now: int

    @classmethod
    def of(cls, then: Sequence[str], now: Sequence[str]) -> Rows:
        """From the ids by code, there and now."""
        codes = {name: code for code, name in enumerate(then)}
        found = np.fromiter((codes.get(name, -1) for name in now), np.int64, len(now))
        kept = np.flatnonzero(found >= 0)
        return cls(torch.from_numpy(found[kept]), torch.from_numpy(kept), len(then), len(now))

    @property
    def new(self) -> int:
        """How many ids the champion did not know"""
        return self.count_now - len(self.now)


@dataclass(frozen=True)
class WarmStart:
    """A champion, and how its weights go into a model of this training."""

    weights: Path
    rows: Mapping[str, Rows]
    """Of the tensors that have rows of items or users; whatever stands after those rows is taken over as it is"""
    carried: Carried

    @classmethod
    def plan(cls, model: Recommender, prepared: Prepared, folder: Path) -> WarmStart:
        """How `model` begins from the champion in `folder`.

        Args:
            model: that is to be trained; not changed.
            prepared: what it learns from.
            folder: `data/warm`.

        Raises:
            FromNothing: it cannot.
            StageError: what is in the folder is damaged.
        """
        if not isinstance(model, Learner):
            raise FromNothing("it is computed from the data at once")
        champion = read_champion(folder)
        if champion is None:
            raise FromNothing("no champion was taken to begin from (`recloop snapshot` takes the live one)")
        if champion.model != model.name:
            raise FromNothing(f"the champion is {champion.model}")
        _require_unseen(champion, prepared)
        items = Rows.of(champion.item_ids, prepared.item_ids)
        users = Rows.of(champion.user_ids, prepared.user_ids)
        rows = dict.fromkeys(model.item_rows, items) | dict.fromkeys(model.user_rows, users)
        _require_shapes(champion, model, rows)
        carried = Carried(
            champion.model_sha256,
            items_kept=len(items.now),
            items_new=items.new,
            users_kept=len(users.now) if model.user_rows else 0,
            users_new=users.new if model.user_rows else 0,
        )
        return cls(champion.weights, rows, carried)

    def carry(self, model: Learner) -> None:
        """Put the champion's weights into `model`."""
        with torch.no_grad(), safe_open(self.weights, "pt") as file:
            for name, tensor in model.state_dict().items():
                old, rows = file.get_tensor(name).to(tensor.device), self.rows.get(name)
                if rows is None:
                    tensor.copy_(old)
                else:
                    tensor[rows.now.to(tensor.device)] = old[rows.then.to(tensor.device)]
                    tensor[rows.count_now :] = old[rows.count_then :]


def _require_unseen(champion: Champion, prepared: Prepared) -> None:
    """Refuse a champion that has learnt from events of the validation or the test period."""
    if champion.learnt_until is None:
        raise FromNothing("it was not time that parted what the champion learnt from the rest (split.kind)")
    judged_from = int(prepared.timestamps[prepared.periods > 0].min())
    if champion.learnt_until >= judged_from:
        until, since = (datetime.fromtimestamp(time / 1e6, UTC) for time in (champion.learnt_until, judged_from))
        raise FromNothing(f"the champion has learnt from events until {until}, and those from {since} on are to judge")


def _require_shapes(champion: Champion, model: Learner, rows: Mapping[str, Rows]) -> None:
    """Refuse a champion whose tensors are not this model's, but for the number of items and users."""
    with safe_open(champion.weights, "pt") as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 – no mapping
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name, each in rows.items():
        first, *rest = wanted[name]
        wanted[name] = (first - each.count_now + each.count_then, *rest)
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            had, has = (_shown(shapes.get(name)) for shapes in (found, wanted))
            raise FromNothing(f"the champion is of another shape: its {name} is {had}, and {has} would be needed")


def _shown(shape: tuple[int, ...] | None) -> str:
    return "not there" if shape is None else "×".join(map(str, shape))
