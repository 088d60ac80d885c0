"""How often each place of a list is looked at, and what would have been taken had all been looked at like the first.

A user who does not take the eighth item may not have seen it. Where an item came to its place by chance, the place says
nothing of how good it is: how much less often such items are taken from the eighth place than from the first is how
much less often people look there (the position-based model: Joachims, Swaminathan and Schnabel, "Unbiased
Learning-to-Rank with Biased Feedback", WSDM 2017). What is taken from a place is then weighed by one over that.

Rare looks make heavy weights, so these are clipped, and the sum is divided by what the weights come to over the items
that were looked at, as far as the model says, rather than by the number of items (self-normalised: Swaminathan and
Joachims, "The Self-Normalized Estimator for Counterfactual Learning", NeurIPS 2015). So a clipped place counts for
less above and below the line, instead of pulling the figure down.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import isotonic_regression  # type: ignore[import-untyped]

BY_CHANCE = 0.5
"""An item is where it is by chance if it came there with a lower probability than this. The others of such a list have
one, too: that of being left where the model had put them."""
FEWEST_PLACED = 500
"""Where fewer items were placed by chance, nothing is corrected,"""
FEWEST_TAKEN = 100
"""or where fewer of them were taken,"""
LEAST_LEFT = 0.75
"""or where clipping would leave less of what the items weigh: what stands where few look would hardly count."""


def looked_at(placed: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """How often each place is looked at, the first one that is known being 1; never more often than one above it.

    A place where chance put nothing is taken to be like its neighbours.

    Args:
        placed: float64 [places]: items that chance put there.
        taken: float64 [places]: those of them that users took.

    Returns:
        float64 [places]; NaN where nothing was taken.
    """
    if not taken.any():
        return np.full(len(placed), np.nan)
    known = np.flatnonzero(placed)
    rates = isotonic_regression(taken[known] / placed[known], weights=placed[known], increasing=False).x
    found: np.ndarray = np.interp(np.arange(len(placed)), known, rates / rates[0])
    return found


def corrected(shown: np.ndarray, taken: np.ndarray, looked: np.ndarray, clip: float) -> np.ndarray:
    """The share of items that would have been taken, had every place been looked at like the first.

    Args:
        shown, taken: float64 [..., places]
        looked: float64 [..., places], as `looked_at` has it.
        clip: the highest weight, at least 1.

    Returns:
        float64 [...]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = np.minimum(1 / looked, clip)
        share: np.ndarray = (weights * taken).sum(-1) / (weights * looked * shown).sum(-1)
    return share


def too_rare(shown: np.ndarray, looked: np.ndarray, clip: float) -> str | None:
    """Why nothing is corrected, where people look so rarely at some places that clipping would decide.

    Args:
        shown: float64 [places]: items.
        looked, clip: as `corrected` has them.
    """
    left = float((np.minimum(1, looked * clip) * shown).sum() / shown.sum())
    if left >= LEAST_LEFT:
        return None
    return (
        f"Not corrected for places: some are looked at so rarely that monitoring.clip, {clip:g}, leaves {left:.0%} of "
        f"the weights; it takes {LEAST_LEFT:.0%}. A higher one leaves more, with wider intervals."
    )


def too_few(placed: float, taken: float) -> str | None:
    """Why nothing is corrected, where chance placed too little."""
    if placed >= FEWEST_PLACED and taken >= FEWEST_TAKEN:
        return None
    return (
        f"Not corrected for places: in full lists chance placed {placed:,.0f} items, of which {taken:,.0f} were taken; "
        f"it takes {FEWEST_PLACED:,} and {FEWEST_TAKEN:,}. serving.rerank.explore places some."
    )
