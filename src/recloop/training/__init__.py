"""The training loop: determinism, early stopping, curves."""

from recloop.training.loop import fit
from recloop.training.result import Epoch, FitResult, save_fit

__all__ = ["Epoch", "FitResult", "fit", "save_fit"]
