"""How much memory training takes, by the size of the catalogue: a step, and a whole training of one epoch.

    python -m benchmarks.memory
    python -m benchmarks.memory --data FOLDER/Beauty.txt

Each is taken in a process of its own, whose peak of resident memory the system tells: everything counts, Python, torch,
weights, gradients and what the optimiser remembers; in a training also the start by co-occurrence, the best weights,
the checkpoint and the validation. Beside it stands what the logits of a batch alone would take if they were held at
once. With `--data` the catalogue is as large as that file's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.command import command
from benchmarks.data import leave_one_out
from benchmarks.report import machine, write
from recloop.config import Evaluate, Loss, Train
from recloop.data.batches import Batch, RaggedTensor
from recloop.data.prepared import Cases, Prepared
from recloop.models.base import Learner
from recloop.models.catalogue import build
from recloop.training import fit
from recloop.training.distribution import Processes
from recloop.training.losses import build_criterion
from recloop.training.step import Stepper

SIZES = (10_000, 100_000, 1_000_000)
LOSSES = ("cross_entropy", "sampled_softmax")
EVENTS, LENGTH, DIM = 2048, 32, 64
USERS, ASKED = 200, 64
"""Of a training; of so many it is validated what comes next."""


@command
def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--items", type=int, nargs="+", default=SIZES)
    told.add_argument("--data", type=Path, help="a file in the `sequences` form, instead of sizes")
    told.add_argument("--one", nargs=3, metavar=("WHAT", "ITEMS", "LOSS"), help="do one, and print what it took")
    given = told.parse_args()
    if given.one:
        what, items, loss = given.one
        seconds = {"step": step, "training": training}[what](int(items), loss)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"peak_mb": peak / 1e6, "seconds": seconds}))
        return
    sizes = given.items if given.data is None else [leave_one_out(given.data).item_count]
    rows: list[dict[str, Any]] = []
    for what, items, loss in itertools.product(("step", "training"), sizes, LOSSES):
        one = [sys.executable, "-m", "benchmarks.memory", "--one", what, str(items), loss]
        found = json.loads(subprocess.run(one, stdout=subprocess.PIPE, text=True, check=True).stdout)
        rows.append({"what": what, "items": items, "loss": loss, **found, "logits_mb": EVENTS * items * 4 / 1e6})
    write("memory", {"settings": {"events": EVENTS, "dim": DIM, "model": "sasrec"}, "rows": rows})
    table = Table("", "items", "loss", "peak", "logits alone", "seconds", title=f"memory, {machine()['cpu']}")
    for row in rows:
        sizes_shown = f"{row['peak_mb']:,.0f} MB", f"{row['logits_mb']:,.0f} MB"
        table.add_row(row["what"], f"{row['items']:,}", row["loss"], *sizes_shown, f"{row['seconds']:.1f}")
    Console(width=100).print(table)


def step(items: int, loss: str) -> float:
    """Take two steps (in the first the optimiser makes room). Returns the seconds of the second."""
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
    stepper.step(batch, 0.5)
    started = time.perf_counter()
    stepper.step(batch, 0.5)
    return time.perf_counter() - started


def training(items: int, loss: str) -> float:
    """Train for an epoch on made-up histories, with a checkpoint. Returns the seconds of learning."""
    rng = np.random.default_rng(0)
    taken = rng.integers(items, size=(USERS, LENGTH)).astype(np.int32)
    starts = np.arange(USERS) * LENGTH
    periods = np.zeros((USERS, LENGTH), np.int8)
    periods[:, -2:] = 1, 2
    users = np.arange(USERS, dtype=np.int32)
    counts = np.bincount(taken[:, :-2].ravel(), minlength=items)
    prepared = Prepared(
        items=taken.ravel(),
        weights=np.ones(taken.size, np.float32),
        timestamps=np.arange(taken.size),
        periods=periods.ravel(),
        starts=starts,
        ends=starts + LENGTH,
        user_ids=[str(user) for user in users],
        item_table=pa.table({"item_id": np.arange(items).astype(str), "train_count": counts}),
        cases={"valid": Cases(users[:ASKED], starts[:ASKED] + LENGTH - 2), "test": Cases(users[:0], starts[:0])},
        meta={},
    )
    train = Train(batch_tokens=EVENTS, max_history=LENGTH, epochs=1, loss=Loss.model_validate({"kind": loss}))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.safetensors"
        return fit("sasrec", prepared, train, Evaluate(), {"dim": DIM}, progress=False, checkpoint=path).seconds


if __name__ == "__main__":
    main()
