"""What is made small in training. A criterion takes a model's predictions and gives a scalar."""

from recloop.training.losses.criterion import build_criterion

__all__ = ["build_criterion"]
