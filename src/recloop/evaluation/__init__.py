"""Metrics over the whole catalogue, intervals, segments and comparisons."""

from recloop.evaluation.evaluation import Evaluation
from recloop.evaluation.examination import Examination, evaluate

__all__ = ["Evaluation", "Examination", "evaluate"]
