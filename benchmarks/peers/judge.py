"""What every engine is judged by: the same hold-out, and the same full ranking of its user and item vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ROWS = 256
"""Users encoded, and ranked, at once: 12 MiB of scores for 12,000 items."""


@dataclass(frozen=True)
class Holdout:
    """Histories split leave-one-out; items are numbered from 0, in order of their length, then of their characters."""

    items: int
    """Size of the catalogue: every item of the file, held-out ones included."""
    learnt: tuple[list[int], ...]
    """What may be learnt from, a history a user: all but the last two events, and all of a user with fewer than 3."""
    shown: dict[str, tuple[list[int], ...]]
    """By "valid" and "test": what precedes the target, which is both the input and what is not to be ranked."""
    targets: dict[str, np.ndarray]
    """By "valid" and "test": int64 [cases], the item to be found."""


@dataclass(frozen=True)
class Verdict:
    """Means over the cases of a full ranking."""

    recall_at_10: float
    ndcg_at_10: float


def read(path: Path) -> Holdout:
    """Read `path`, a line a user (`user item item …`, in order of time), and hold out each user's last two events.

    Raises:
        ValueError: a line has no item.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    histories = [line.split()[1:] for line in lines if line.strip()]
    if not all(histories):
        raise ValueError(f"{path}: a line has no item; expected `user item item …` on every line")
    found = sorted({item for history in histories for item in history}, key=lambda item: (len(item), item))
    codes = {item: code for code, item in enumerate(found)}
    coded = [[codes[item] for item in history] for history in histories]
    tested = [history for history in coded if len(history) >= 3]
    return Holdout(
        items=len(codes),
        learnt=tuple(history[:-2] if len(history) >= 3 else history for history in coded),
        shown={"valid": tuple(history[:-2] for history in tested), "test": tuple(history[:-1] for history in tested)},
        targets={
            "valid": np.array([history[-2] for history in tested], dtype=np.int64),
            "test": np.array([history[-1] for history in tested], dtype=np.int64),
        },
    )


def encoded(
    histories: Sequence[Sequence[int]], encode: Callable[[Tensor], Tensor], *, length: int, padding: int
) -> Tensor:
    """What `encode` makes of each history's last `length` items: float [histories, width].

    Histories of similar length go together, so that little of what is encoded is padding.

    Args:
        histories: items as the engine numbers them, in order of time.
        encode: takes int64 [rows, places], padded on the left, and gives float [rows, width].
        length: items at most.
        padding: the number that stands for no item.
    """
    kept = [history[-length:] for history in histories]
    by_length = sorted(range(len(kept)), key=lambda row: len(kept[row]))
    vectors = []
    for start in range(0, len(by_length), ROWS):
        rows = [kept[row] for row in by_length[start : start + ROWS]]
        places = max(1, len(rows[-1]))
        vectors.append(encode(torch.tensor([[padding] * (places - len(row)) + list(row) for row in rows])))
    return torch.cat(vectors)[torch.tensor(by_length).argsort()]


def judge(
    users: Tensor,
    items: Tensor,
    *,
    seen: Sequence[Sequence[int]],
    targets: np.ndarray,
    unknown: Tensor | None = None,
) -> Verdict:
    """Rank the whole catalogue for each user by inner product, and see where the target lands.

    Items seen score -inf, and so do items that the engine does not know: a target among either is a miss. Ties in score
    go to the lower item number, so that an engine that tells nothing apart gains nothing by it.

    Args:
        users: float [cases, width], what the engine makes of each history.
        items: float [items, width].
        seen: what is not to be ranked, a history a case.
        targets: int64 [cases], the item to be found.
        unknown: bool [items], the items that the engine cannot recommend; None for none.

    Raises:
        ValueError: a score is not a number.
    """
    places = []
    for start in range(0, len(targets), ROWS):
        scores = users[start : start + ROWS].float() @ items.float().T
        if not torch.isfinite(scores).all():
            raise ValueError("the engine gave vectors whose products are not finite: has its training diverged?")
        rows = len(scores)
        out = torch.zeros_like(scores, dtype=torch.bool)
        for row, history in enumerate(seen[start : start + rows]):
            out[row, list(history)] = True
        if unknown is not None:
            out |= unknown
        scores.masked_fill_(out, -torch.inf)
        target = torch.from_numpy(targets[start : start + rows]).unsqueeze(1)
        own = scores.gather(1, target)
        lower = torch.arange(len(items)) < target
        ahead = ((scores > own) | ((scores == own) & lower)).sum(1)
        places.append(ahead.double().masked_fill(own.squeeze(1).isinf(), torch.inf))
    place = torch.cat(places)
    hit = (place < 10).double()
    return Verdict(recall_at_10=hit.mean().item(), ndcg_at_10=(hit / torch.log2(place + 2)).mean().item())
