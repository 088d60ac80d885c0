"""Losses over a few negatives instead of the whole catalogue. All positions of a batch share one set of them, so that
they cost one product and one read of their vectors, however many positions there are.

Each takes the scores of the right items and of the negatives and gives the loss of each position:
    positives    float32 [positions]
    negatives    float32 [positions, negatives]; -inf where the negative is the right item itself
    log_expected float32 [negatives]: log of how often the negative is drawn on average
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


class Negatives:
    """Draws items, with replacement, each by its count in training to a power."""

    def __init__(self, counts: Tensor, *, number: int, power: float) -> None:
        """
        Args:
            counts: [items]: events of the training period.
            number: how many are drawn at a time.
            power: 0 draws all items alike; 1 by their popularity. Items without events count as if they had one.
        """
        shares = counts.cpu().double().clamp(min=1).pow(power)  # on a GPU a running sum is not the same bits every time
        shares /= shares.sum()
        self._number = number
        self._edges = shares.cumsum(0).to(counts.device)
        self._log_expected = (shares.log() + math.log(number)).float().to(counts.device)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Item codes, int64 [number], and the log of how often each is drawn on average, float32 [number]."""
        # By inversion: `torch.multinomial` refuses catalogues above 2^24.
        codes = torch.searchsorted(
            self._edges, torch.rand(self._number, dtype=torch.float64, device=self._edges.device)
        )
        codes.clamp_(max=len(self._edges) - 1)
        return codes, self._log_expected[codes]


def sampled_softmax(positives: Tensor, negatives: Tensor, log_expected: Tensor) -> Tensor:
    """Softmax over the right item and the negatives, each of which stands for all that might have been drawn.

    With the correction by the log of the sampling probability (logQ) the sum over the negatives is an unbiased
    estimate of that over the catalogue: Bengio and Senécal, 2008; Yi et al., "Sampling-Bias-Corrected Neural
    Modeling", 2019. The right item is always there, and is not corrected (Khrylchenko et al., 2025, arXiv 2507.09331).
    """
    everything = torch.cat([positives[:, None], negatives - log_expected], 1)
    return everything.logsumexp(1) - positives


def binary_cross_entropy(positives: Tensor, negatives: Tensor, exponent: float = 1.0) -> Tensor:
    """Each item by itself, taken or not. The negatives together count as much as as many right ones.

    SASRec's loss with one negative. With an `exponent` below 1 on the right item's probability it is gBCE (Petrov and
    Macdonald, "gSASRec", 2023, arXiv 2308.07192): see `gbce_exponent`.
    """
    number = negatives.shape[1]
    return (F.softplus(negatives).sum(1) + exponent * F.softplus(-positives)) / (number + 1)


def gbce_exponent(number: int, catalogue_size: int, calibration: float) -> float:
    """gBCE's exponent beta. A calibration of 0 is plain binary cross-entropy; of 1, scores that are probabilities."""
    rate = min(1.0, number / max(catalogue_size - 1, 1))
    return rate * (calibration * (1 - 1 / rate) + 1 / rate)


def bayesian_personalised_ranking(positives: Tensor, negatives: Tensor) -> Tensor:
    """The right item above each negative: BPR (Rendle et al., 2009, arXiv 1205.2618), the mean over the negatives."""
    real = (negatives > -torch.inf).sum(1).clamp(min=1)
    return F.softplus(negatives - positives[:, None]).sum(1) / real
