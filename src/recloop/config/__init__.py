"""`params.yaml` as typed, validated, immutable models. The only reader of that file.

Every section is a frozen pydantic model that refuses unknown keys. Hyper-parameters of a model are declared in
the model's own file, `models/<name>.py`; `training.settings.check_models` validates those too, at the price of
importing torch.

A module is a section, or two; `loading` reads the file, and `faults` says what is wrong in it.
"""

from recloop.config.alerts import SEVERITIES, Alerting, Email, Severity
from recloop.config.evaluate import Evaluate, Promotion, TargetKind
from recloop.config.faults import describe_fault
from recloop.config.gate import BATCH_RULES, Gate
from recloop.config.loading import REMEDY, load_params, merged, validated
from recloop.config.monitoring import DriftTest, Monitoring, QuietHours, Watched, Watching
from recloop.config.params import Params
from recloop.config.platform import Platform, Storage
from recloop.config.prepare import Prepare, Split, TimeTies
from recloop.config.rerank import Condition, Rerank, Value
from recloop.config.section import Limit, Moment, Positive, Section, Seed, Share, Within
from recloop.config.serving import Serving
from recloop.config.source import MovieLens100K, Sequences, Source, Synthetic, Table, TableFile
from recloop.config.train import Augment, Loss, LossName, OptimizerName, ScheduleName, Train
from recloop.config.tune import Choice, Dimension, Range, Tune

__all__ = [
    "BATCH_RULES",
    "REMEDY",
    "SEVERITIES",
    "Alerting",
    "Augment",
    "Choice",
    "Condition",
    "Dimension",
    "DriftTest",
    "Email",
    "Evaluate",
    "Gate",
    "Limit",
    "Loss",
    "LossName",
    "Moment",
    "Monitoring",
    "MovieLens100K",
    "OptimizerName",
    "Params",
    "Platform",
    "Positive",
    "Prepare",
    "Promotion",
    "QuietHours",
    "Range",
    "Rerank",
    "ScheduleName",
    "Section",
    "Seed",
    "Sequences",
    "Serving",
    "Severity",
    "Share",
    "Source",
    "Split",
    "Storage",
    "Synthetic",
    "Table",
    "TableFile",
    "TargetKind",
    "TimeTies",
    "Train",
    "Tune",
    "Value",
    "Watched",
    "Watching",
    "Within",
    "describe_fault",
    "load_params",
    "merged",
    "validated",
]
