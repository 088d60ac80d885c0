"""One step of learning: from a batch to changed weights, in as many pieces as memory asks for.

What is left to chance follows from the batch's seed alone: the negatives, which all pieces and processes share, and
what drops out, which each process draws for itself. So a training goes on from a checkpoint without having to know
where any random generator stood, and a batch that is learnt from again, in smaller pieces, meets the same negatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.optim import SGD, Adam, AdamW, Optimizer

from recloop.config import Train
from recloop.data.batches import Batch
from recloop.models.base import Criterion, Learner
from recloop.training.distribution import Processes
from recloop.training.schedule import rate_factor

Warn = Callable[[str], None]


class NotFiniteError(Exception):
    """The loss, or a gradient, is no number any more. Says which."""


class Stepper:
    """Takes steps. Where a batch does not fit into memory it is learnt from in pieces, to the same effect."""

    def __init__(
        self,
        model: Learner,
        criterion: Callable[[], Criterion],
        settings: Train,
        processes: Processes,
        *,
        warn: Warn,
    ) -> None:
        """
        Args:
            criterion: gives that of each step.
            warn: is told where a batch did not fit.
        """
        self.optimizer = _optimizer(model, settings)
        self.pieces = 1
        """In how many a batch is learnt from: more than one where it did not fit into memory"""
        self._model, self._criterion = model, criterion
        self._settings, self._processes = settings, processes
        self._warn = warn
        device = model.device
        self._half = (
            device.type == "cuda"
            and settings.precision != "fp32"
            and torch.cuda.is_bf16_supported(including_emulation=False)
        )

    def step(self, batch: Batch, progress: float) -> float:
        """Learn from a batch. Returns the mean loss of its events, each counting by its weight.

        Args:
            batch: the whole of it; other processes are given the same.
            progress: the share of the training that is done.

        Raises:
            NotFiniteError: the loss or the gradient is no number; the weights are as they were.
            torch.OutOfMemoryError: not even a single sequence fits into memory.
        """
        factor = rate_factor(self._settings.schedule, self._settings.warmup, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = self._settings.lr * factor
        loss = self._gradients(self._processes.share(batch), float(batch.weights.sum()))
        parameters = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self._processes.add_up([loss, *(parameter.grad for parameter in parameters if parameter.grad is not None)])
        value = loss.item()
        norm = torch.nn.utils.clip_grad_norm_(parameters, self._settings.clip_norm or math.inf)
        if not math.isfinite(value) or not bool(norm.isfinite()):
            raise NotFiniteError(
                "a gradient became infinite or no number" if math.isfinite(value) else f"the loss became {value}"
            )
        self.optimizer.step()
        return value

    def _gradients(self, batch: Batch, weight: float) -> torch.Tensor:
        """Fill the gradients with those of this batch's part of the mean loss. Returns that part.

        Args:
            weight: of all events that the step learns from.
        """
        while True:
            try:
                return self._attempt(batch, weight)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error) or self.pieces >= len(batch):
                    raise
            # Outside of `except`: until here the error, and by it the attempt, held on to what there was no room for.
            self.optimizer.zero_grad()
            if self._model.device.type == "cuda":
                torch.cuda.empty_cache()
            self.pieces *= 2
            self._warn(
                f"{self._model.name}: out of memory; from here on each batch is learnt from in {self.pieces} pieces, "
                "to the same effect. A lower train.batch_tokens would be quicker"
            )

    def _attempt(self, batch: Batch, weight: float) -> torch.Tensor:
        self.optimizer.zero_grad()
        torch.manual_seed(batch.seed)
        criterion = self._criterion()
        torch.manual_seed(batch.seed + 1 + self._processes.rank)
        total = torch.zeros((), device=self._model.device)
        for piece in range(min(self.pieces, len(batch))):
            part = batch.rows(slice(piece, None, self.pieces)) if self.pieces > 1 else batch
            share = part.weights.sum() / max(weight, torch.finfo(torch.float32).tiny)
            with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self._half):
                loss = self._model.loss(part, criterion) * share
            loss.backward()
            total += loss.detach()
        return total


def out_of_memory(error: BaseException) -> bool:
    """Torch has an error of its own only for one of the ways to fill a GPU; else it is any RuntimeError."""
    texts = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in str(error) for text in texts)


def _optimizer(model: Learner, settings: Train) -> Optimizer:
    if settings.optimizer == "sgd":
        return SGD(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    kind = AdamW if settings.optimizer == "adamw" else Adam
    # (.9, .98): what Transformers, SASRec among them, are trained with. Fused: one pass over the weights, no copies.
    return kind(model.parameters(), lr=settings.lr, betas=(0.9, 0.98), weight_decay=settings.weight_decay, fused=True)
