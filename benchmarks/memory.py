"""How much memory a training step takes, by the size of the catalogue.

Each step is taken in a process of its own, whose peak of resident memory the system tells: everything counts, Python,
torch, weights, gradients and what the optimiser remembers. Beside it stands what the logits of the batch alone would
take if they were held at once.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.report import machine, write
from recloop.config import Loss, Train
from recloop.data.batches import Batch, RaggedTensor
from recloop.models.base import Learner
from recloop.models.catalogue import build
from recloop.training.distribution import Processes
from recloop.training.losses import build_criterion
from recloop.training.step import Stepper

SIZES = (10_000, 100_000, 1_000_000)
LOSSES = ("cross_entropy", "sampled_softmax")
EVENTS, LENGTH, DIM = 2048, 32, 64


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--items", type=int, nargs="+", default=SIZES)
    arguments.add_argument("--one", nargs=2, metavar=("ITEMS", "LOSS"), help="take one step, and print the peak")
    given = arguments.parse_args()
    if given.one:
        print(step(int(given.one[0]), given.one[1]))
        return
    rows: list[dict[str, Any]] = []
    for items in given.items:
        for loss in LOSSES:
            command = [sys.executable, "-m", "benchmarks.memory", "--one", str(items), loss]
            peak = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            rows.append({"items": items, "loss": loss, "peak_mb": peak / 1e6, "logits_mb": EVENTS * items * 4 / 1e6})
    write("memory", {"settings": {"events": EVENTS, "dim": DIM, "model": "sasrec"}, "rows": rows})
    table = Table("items", "loss", "peak", "logits alone", title=f"memory of a training step, {machine()['cpu']}")
    for row in rows:
        table.add_row(f"{row['items']:,}", row["loss"], f"{row['peak_mb']:,.0f} MB", f"{row['logits_mb']:,.0f} MB")
    Console().print(table)


def step(items: int, loss: str) -> int:
    """Take two steps (in the first the optimiser makes room). Returns the peak of resident memory, in bytes."""
    torch.set_num_threads(2)
    model = build("sasrec", {"dim": DIM}, catalogue_size=items, user_count=1, max_history=LENGTH)
    if not isinstance(model, Learner):
        raise TypeError("a model that learns by gradients is needed")
    train = Train(batch_tokens=EVENTS, loss=Loss.model_validate({"kind": loss}))
    stepper = Stepper(model, build_criterion(train.loss, model, torch.ones(items)), train, Processes(), warn=print)
    sequences = EVENTS // LENGTH
    histories = RaggedTensor(torch.randint(items, (EVENTS,)), torch.arange(sequences + 1) * LENGTH)
    users, ones = torch.zeros(sequences, dtype=torch.int64), torch.ones(EVENTS)
    batch = Batch(histories, ones, users, shown=histories.values, chances=ones, seed=0)
    for _ in range(2):
        stepper.step(batch, 0.5)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
