"""What a peer is asked to do, and the file in which it keeps what it measured."""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers.judge import Holdout, Verdict, judge

NOISE = (
    "unique with argument that is not",  # RecTools, to pandas
    "Pydantic serializer warnings",  # RecTools writes down its own configuration
    "You defined a `validation_step`",  # we judge ourselves
    r"`isinstance\(treespec, LeafSpec\)`",  # Lightning, to torch
    "Your `IterableDataset` has `__len__`",  # RePlay's dataset, with no workers
    "The following dataset paths aren't provided",  # RePlay is asked to learn only
)
"""Starts of warnings that tell nothing about a run."""


@dataclass(frozen=True)
class Architecture:
    """What all engines have in common."""

    width: int = 64
    blocks: int = 2
    heads: int = 1
    dropout: float = 0.2
    max_length: int = 50
    learning_rate: float = 1e-3


@dataclass(frozen=True)
class Order:
    """One run, as asked for on the command line."""

    data: Path
    epochs: int
    threads: int
    seed: int
    batch_size: int
    out: Path


@dataclass(frozen=True)
class Vectors:
    """What an engine makes of histories: inner products of these are its scores."""

    users: Tensor
    """float [histories, width]"""
    items: Tensor
    """float [items, width]"""
    unknown: Tensor | None = None
    """bool [items], the items that the engine never saw; None where it has a vector for each"""


def parser(library: str) -> argparse.ArgumentParser:
    """The command line that all peers share."""
    options = argparse.ArgumentParser(description=f"Learn SASRec with {library}'s own trainer, and time it.")
    options.add_argument("--data", type=Path, required=True, help="a line a user: `user item item …`, in order of time")
    options.add_argument("--epochs", type=int, required=True)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--batch-size", type=int, default=128, help="users a batch")
    options.add_argument("--out", type=Path, required=True, help="JSON, written anew after every epoch")
    return options


def order(arguments: argparse.Namespace) -> Order:
    """The order in `arguments`, with torch set to its number of threads, and known noise of the libraries off."""
    torch.set_num_threads(arguments.threads)
    for message in NOISE:
        warnings.filterwarnings("ignore", message=message)
    return Order(
        data=arguments.data,
        epochs=arguments.epochs,
        threads=arguments.threads,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        out=arguments.out,
    )


@dataclass
class Journal:
    """Times each epoch of learning, judges the model in between, and writes both down at once.

    A run that is cut off leaves the epochs it finished. The test figures are those of the epoch that was best on
    validation so far.
    """

    library: str
    package: str
    order: Order
    holdout: Holdout
    settings: dict[str, Any]
    clock: Callable[[], float] = time.perf_counter
    epochs: list[dict[str, float]] = field(default_factory=list)
    test: dict[str, float] = field(default_factory=dict)
    started: float = 0.0
    worked: float = 0.0

    def epoch_starts(self) -> None:
        """Learning begins."""
        self.started, self.worked = self.clock(), time.process_time()

    def epoch_ends(self, model: nn.Module, vectors: Callable[[str], Vectors], loss: float | None) -> None:
        """Learning pauses: stop the clock, judge, write.

        Args:
            model: what learns; it is put to inference while it is judged, and back to learning afterwards.
            vectors: gives the vectors for "valid" or "test".
            loss: mean over the epoch, where the library tells.
        """
        learning, worked = self.clock() - self.started, time.process_time() - self.worked
        model.eval()
        with torch.inference_mode():
            valid = self._verdict("valid", vectors)
            best = not self.epochs or valid.ndcg_at_10 > max(epoch["valid_ndcg_at_10"] for epoch in self.epochs)
            if best:
                self.test = {"epoch": len(self.epochs) + 1, **asdict(self._verdict("test", vectors))}
        model.train()
        self.epochs.append(
            {
                "epoch": len(self.epochs) + 1,
                "seconds": learning,
                "processor_seconds": worked,
                "judging_seconds": self.clock() - self.started - learning,
                "valid_recall_at_10": valid.recall_at_10,
                "valid_ndcg_at_10": valid.ndcg_at_10,
                **({} if loss is None else {"train_loss": loss}),
            }
        )
        self._write(model)

    def _verdict(self, part: str, vectors: Callable[[str], Vectors]) -> Verdict:
        found = vectors(part)
        return judge(
            found.users,
            found.items,
            seen=self.holdout.shown[part],
            targets=self.holdout.targets[part],
            unknown=found.unknown,
        )

    def _write(self, model: nn.Module) -> None:
        text = json.dumps(
            {
                "library": self.library,
                "version": version(self.package),
                "epochs": self.epochs,
                "loss": "full softmax cross-entropy at every position",
                "parameters": sum(weight.numel() for weight in model.parameters()),
                "settings": {
                    **asdict(Architecture()),
                    **self.settings,
                    "batch_size": self.order.batch_size,
                    "threads": self.order.threads,
                    "seed": self.order.seed,
                    "torch": torch.__version__,
                    "data": {
                        "file": self.order.data.name,
                        "users": len(self.holdout.learnt),
                        "items": self.holdout.items,
                        "events_learnt_from": sum(map(len, self.holdout.learnt)),
                        "cases": len(self.holdout.targets["test"]),
                    },
                },
                "test": self.test,
            },
            indent=2,
        )
        self.order.out.parent.mkdir(parents=True, exist_ok=True)
        part = self.order.out.with_name(self.order.out.name + ".part")
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(self.order.out)
