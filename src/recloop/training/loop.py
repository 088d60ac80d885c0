"""Training a model on the training period, and keeping the epoch that does best on the validation period."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from rich.console import Console
from torch.optim import SGD, Adam, AdamW, Optimizer

from recloop.config import Evaluate, Train, validated
from recloop.data.batches import TrainingBatches
from recloop.data.prepared import Prepared
from recloop.errors import ModelError, StageError
from recloop.evaluation import Examination
from recloop.models.base import ClosedForm, Learner, LearnerConfig
from recloop.models.catalogue import build
from recloop.training.determinism import choose_device, deterministic
from recloop.training.losses import Criterion, build_criterion
from recloop.training.progress import TrainingProgress
from recloop.training.result import Epoch, FitResult

OnEpoch = Callable[[int, Mapping[str, float]], None]


def fit(
    name: str,
    prepared: Prepared,
    train: Train,
    evaluate: Evaluate,
    model_params: Mapping[str, Any],
    *,
    on_epoch: OnEpoch | None = None,
    progress: bool = True,
) -> FitResult:
    """Train the model `name`. The same arguments on the same machine give the same model, bit for bit.

    Args:
        name: of the catalogue.
        prepared: the data; learnt from in its training period, and chosen on in its validation period.
        train: how it is trained.
        evaluate: how it is judged after each epoch.
        model_params: its section under `models`; what it sets under `train` there wins over `train`.
        on_epoch: is told the number and the metrics of each epoch as it ends.
        progress: whether it is shown on stderr how training goes.

    Raises:
        ConfigError: the model or a setting of it is wrong, or the device is not there.
        StageError: there is nothing to learn from, or nothing to choose on.
        ModelError: training diverged, or ran out of memory.
    """
    if not prepared.weights[prepared.periods == 0].sum() > 0:
        raise StageError(
            "the training period holds no event of any weight",
            remedy="give prepare.events weights above 0, lower split.valid_share and test_share, or give more data",
        )
    examination = Examination(prepared, "valid", evaluate, train.max_history)
    with deterministic(seed=train.seed, threads=train.threads), _out_of_memory_explained(name):
        model = build(
            name,
            model_params,
            catalogue_size=prepared.item_count,
            user_count=prepared.user_count,
            max_history=train.max_history,
        ).to(choose_device(train.device))
        if isinstance(model, ClosedForm):
            return _compute(model, prepared, examination, on_epoch)
        assert isinstance(model, Learner)  # noqa: S101 – the two ways there are
        settings = _settings(name, train, model.config)
        console = Console(stderr=True) if progress else None
        return _learn(model, prepared, settings, examination, on_epoch, console)


def _compute(model: ClosedForm, prepared: Prepared, examination: Examination, on_epoch: OnEpoch | None) -> FitResult:
    started = time.perf_counter()
    model.fit(prepared)
    seconds = time.perf_counter() - started
    events = int(prepared.train_counts.sum())
    only = Epoch(0, None, examination.of(model).means, seconds, events)
    if on_epoch is not None:
        on_epoch(only.number, only.metrics)
    return FitResult(model.cpu(), only, (only,), 0.0, model.device.type)


def _learn(
    model: Learner,
    prepared: Prepared,
    settings: Train,
    examination: Examination,
    on_epoch: OnEpoch | None,
    console: Console | None,
) -> FitResult:
    device = model.device
    batches = TrainingBatches(
        prepared,
        batch_tokens=settings.batch_tokens,
        window=settings.max_history + 1,
        seed=settings.seed,
        device=device,
    )
    criterion = build_criterion(settings.loss, model, torch.tensor(prepared.train_counts))
    optimizer = _optimizer(model, settings)
    curve: list[Epoch] = []
    best: Epoch | None = None
    weights: dict[str, torch.Tensor] = {}
    progress = TrainingProgress(model.name, epochs=settings.epochs, events=batches.events, console=console)
    with progress:
        for number in range(1, settings.epochs + 1):
            started = time.perf_counter()
            loss = _epoch(model, criterion, batches, optimizer, number, settings, progress)
            seconds = time.perf_counter() - started
            epoch = Epoch(number, loss, examination.of(model).means, seconds, batches.events)
            curve.append(epoch)
            if best is None or epoch.ndcg_at_10 > best.ndcg_at_10:
                best = epoch
                weights = {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}
            last = number == settings.epochs or number - best.number >= settings.patience
            progress.epoch(epoch, last=last)
            if on_epoch is not None:
                on_epoch(number, epoch.metrics)
            if last:
                break
    assert best is not None  # noqa: S101 – there is at least one epoch
    model.load_state_dict(weights)
    return FitResult(model.cpu().eval(), best, tuple(curve), batches.padding, device.type)


def _epoch(
    model: Learner,
    criterion: Criterion,
    batches: TrainingBatches,
    optimizer: Optimizer,
    number: int,
    settings: Train,
    progress: TrainingProgress,
) -> float:
    """One pass over the training period. Returns the mean loss of its events."""
    model.train()
    total = 0.0
    for batch in batches.epoch(number):
        loss = criterion(model.predictions(batch))
        value = loss.item()
        if not math.isfinite(value):
            raise ModelError(
                f"{model.name}: the loss became {value} in epoch {number}, at a learning rate of {settings.lr:g}",
                remedy=f"lower the learning rate: train.lr, or models.{model.name}.train.lr where that is set",
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += value * batch.events
        progress.step(batch.events, value)
    return total / batches.events


def _settings(name: str, train: Train, config: LearnerConfig) -> Train:
    """`train`, with what the model's own section sets in its place."""
    own = config.train.model_dump(exclude_none=True)
    return validated(Train, train.model_dump() | own, where=f"models.{name}.train")


def _optimizer(model: Learner, settings: Train) -> Optimizer:
    if settings.optimizer == "sgd":
        return SGD(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    kind = AdamW if settings.optimizer == "adamw" else Adam
    # (.9, .98): what Transformers, SASRec among them, are trained with.
    return kind(model.parameters(), lr=settings.lr, betas=(0.9, 0.98), weight_decay=settings.weight_decay)


@contextmanager
def _out_of_memory_explained(name: str) -> Iterator[None]:
    """Torch has an error of its own only for a GPU that is full; on a CPU it is any RuntimeError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        full = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if not full:
            raise
        raise ModelError(
            f"{name}: out of memory",
            remedy=f"lower train.batch_tokens, train.max_history or the sizes under models.{name}",
        ) from error
