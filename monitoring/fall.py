"""The signal `quality`: by which share what users make of the lists has fallen, and how far chance alone goes.

The NDCG of a version's lists in the window is set against that of all lists it showed before, users drawn again for
both at once (`draws.py`): one who is in both is the same person. A sum over hundreds of users is as good as normal,
so what one window in so many falls by follows from the standard error; of rare draws themselves there would be too few.
"""

from __future__ import annotations

from scipy.stats import norm  # type: ignore[import-untyped]

from monitoring.draws import ratio, spread
from monitoring.quality import Record, drawn_together, shown_to_enough
from monitoring.signals import FALL, QUALITY, Finding

METRIC = "ndcg"


def fall(now: Record | None, before: Record | None, k: int, fewest: int, share: float) -> Finding | None:
    """By which share NDCG has fallen; 0 where it has risen.

    Args:
        now: what users did with the lists of the window; None: there were none.
        before: with those that the same version showed before.
        k: places of a list that count, as they were counted.
        fewest: lists that each side has to have.
        share: of windows in which nothing has changed, how many may fall as far as chance does.

    Returns:
        None where one side has too little to say, or nothing has ever been taken.
    """
    if now is None or before is None or min(shown_to_enough(now), shown_to_enough(before)) < fewest:
        return None
    draws = drawn_together({"now": now, "before": before}, METRIC)
    ours, theirs = (ratio(draws[side, METRIC], draws[side, "lists"]) for side in ("now", "before"))
    if not theirs[0] > 0:
        return None
    fallen = 1 - ratio(ours, theirs)
    return Finding(
        QUALITY,
        max(0.0, float(fallen[0])),
        float(norm.isf(share)) * spread(fallen),
        f"NDCG@{k} {theirs[0]:.4f} → {ours[0]:.4f}",
        FALL,
    )
