"""BPR-MF: matrix factorisation that learns to put what was taken above what was not, pair by pair.

BPR: Bayesian Personalized Ranking from Implicit Feedback, Rendle et al., 2009 (arXiv 1205.2618). It is `mf` with
another loss. A user is answered by folding in, as there.
"""

from __future__ import annotations

from recloop.config import Loss
from recloop.models.base import Overrides
from recloop.models.mf import MatrixFactorisation, MfConfig


class BprMfConfig(MfConfig):
    """Hyper-parameters of BPR-MF."""

    train: Overrides = Overrides(loss=Loss(kind="bpr", negatives=64), lr=0.01, epochs=60, patience=6)


class BprMf(MatrixFactorisation):
    """User vectors, item vectors and item biases, by pairs."""

    Config = BprMfConfig
    name = "bpr_mf"
    config: BprMfConfig
