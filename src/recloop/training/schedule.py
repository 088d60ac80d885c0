"""How the learning rate goes over a training."""

from __future__ import annotations

import math

from recloop.config import ScheduleName


def rate_factor(schedule: ScheduleName, warmup: float, progress: float) -> float:
    """What the learning rate is multiplied by.

    Args:
        schedule: what becomes of it after the warm-up.
        warmup: the share of the training in which it rises from 0.
        progress: the share of the training that is done, up to 1.
    """
    if progress < warmup:
        return progress / warmup
    if schedule == "constant":
        return 1.0
    left = 1 - (progress - warmup) / max(1 - warmup, 1e-9)
    return left if schedule == "linear" else (1 - math.cos(math.pi * left)) / 2
