"""Ranking metrics over the whole catalogue, intervals and comparisons."""

from recloop.evaluation.evaluation import Evaluation, Examination, evaluate

__all__ = ["Evaluation", "Examination", "evaluate"]
