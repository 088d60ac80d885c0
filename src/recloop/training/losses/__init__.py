"""What is made small in training. A criterion takes a model's predictions and gives a scalar."""

from recloop.training.losses.criterion import Criterion, build_criterion

__all__ = ["Criterion", "build_criterion"]
