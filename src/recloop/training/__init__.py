"""The training loop: determinism, early stopping, curves."""

from recloop.training.distribution import is_first
from recloop.training.loop import fit
from recloop.training.result import Epoch, FitResult, save_fit

__all__ = ["Epoch", "FitResult", "fit", "is_first", "save_fit"]
