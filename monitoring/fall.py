"""The signal `quality`: by which share what users make of the lists has fallen, and how far chance alone goes.

The NDCG of a version's lists in the window is set against that of all lists it showed before, users drawn again for
both at once (`draws.py`): one who is in both is the same person. The logarithm of their ratio is as good as normal,
where the ratio itself is not: a window that is low by chance has a small standard error, too. What one window in so
many falls by follows from the error of the logarithm; of rare draws themselves there would be too few.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import norm  # type: ignore[import-untyped]

from monitoring.draws import ratio, spread
from monitoring.quality import Record, drawn_together, shown_to_enough
from monitoring.signals import FALL, QUALITY, Finding

METRIC = "ndcg"
FEWEST_TAKEN = 10.0
"""Lists of which something is taken, and users who take something, that are to be expected in the window. Where nothing
has changed, and 0.5% of windows may alarm, 2.6% do with five such users, and no more than 0.5% with ten (simulated)."""


def fall(now: Record | None, before: Record | None, k: int, fewest: float, share: float) -> Finding | None:
    """By which share NDCG has fallen; 0 where it has risen.

    Args:
        now: what users did with the lists of the window; None: there were none.
        before: with those that the same version showed before.
        k: places of a list that count, as they were counted.
        fewest: lists that each side has to have.
        share: of windows in which nothing has changed, how many may fall as far as chance does.

    Returns:
        None where one side has too little to say, or too little is taken at all.
    """
    if now is None or before is None or min(shown_to_enough(now), shown_to_enough(before)) < fewest:
        return None
    hits, lists = (before.tally.sums[name] for name in ("hit_rate", "lists"))
    takers = np.count_nonzero(hits) * now.tally.users / before.tally.users
    if min(takers, hits.sum() / lists.sum() * now.tally.sums["lists"].sum()) < FEWEST_TAKEN:
        return None
    draws = drawn_together({"now": now, "before": before}, METRIC)
    ours, theirs = (ratio(draws[side, METRIC], draws[side, "lists"]) for side in ("now", "before"))
    left = ratio(ours, theirs)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Of a window in which nobody takes anything draws know no error: there it is that of a number of takers.
        error = spread(np.where(left > 0, np.log(left), np.nan)) if left[0] > 0 else takers**-0.5
    return Finding(
        QUALITY,
        max(0.0, 1 - float(left[0])),
        1 - math.exp(-float(norm.isf(share)) * error),
        f"NDCG@{k} {theirs[0]:.4f} → {ours[0]:.4f}",
        FALL,
    )
