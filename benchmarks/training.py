"""How fast training is: this engine beside RecTools' and RePlay's SASRec, in one run, and beside the floor.

    python -m benchmarks.training --data FOLDER/Beauty.txt --epochs 5

All train SASRec of the same width, depth, length and loss (softmax over the whole catalogue at every position) on the
same cores, each in its library's own way, in a process of its own, one after another. Seconds are of learning alone.

speedup              a peer's median seconds per epoch over ours
speedup_to_quality   a peer's seconds until it first has the lower of the two best validation NDCG@10, over ours
over_floor           our seconds per epoch over the floor's: the three products of [positions, width] and [width, items]
                     that the loss and its gradients need, and one exponential of every logit, on the same cores
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.command import command
from benchmarks.data import has_times, leave_one_out
from benchmarks.report import ROOT, machine, write
from recloop.config import Evaluate, Train
from recloop.data.prepared import Prepared
from recloop.errors import ConfigError, SourceError
from recloop.training import fit

PEERS = ("rectools", "replay")
ENVIRONMENT = ROOT / "benchmarks" / ".peers-venv" / "bin" / "python"
MODEL = {"dim": 64, "blocks": 2, "heads": 1, "dropout": 0.2}
TRAIN = {"lr": 0.001, "average": 0.0, "batch_tokens": 2048, "max_history": 50, "device": "cpu"}
BLOCK = 1 << 21


@command
def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--data", type=Path, help="a file in the `sequences` form (make bench-training DATA=…)")
    told.add_argument("--epochs", type=int, default=5, help="of each peer; an epoch of RecTools takes minutes")
    told.add_argument("--our-epochs", type=int, default=40)
    told.add_argument("--threads", type=int, default=2)
    told.add_argument("--ours", action="store_true", help=argparse.SUPPRESS)
    given = told.parse_args()
    if given.data is None:
        told.error("say which data: make bench-training DATA=FOLDER/Beauty.txt")
    if given.ours:
        print(json.dumps(ours(leave_one_out(given.data), given.our_epochs, given.threads)))
        return
    if has_times(given.data):
        raise SourceError(f"{given.data} is not what the peers can read", remedy="give a file with a line a user")
    if not ENVIRONMENT.exists():
        raise ConfigError(f"{ENVIRONMENT} is missing", remedy="`make bench-training DATA=file` installs the peers")
    engines = {"recloop": _run([sys.executable, "-m", "benchmarks.training", "--ours", *_arguments(given)])}
    with tempfile.TemporaryDirectory() as folder:
        for peer in PEERS:
            out = Path(folder) / f"{peer}.json"
            script = [str(ENVIRONMENT), "-m", f"benchmarks.peers.{peer}_sasrec", "--seed", "0"]
            flags = ["--data", str(given.data), "--epochs", str(given.epochs), "--threads", str(given.threads)]
            subprocess.run([*script, *flags, "--out", str(out)], cwd=ROOT, check=True)
            engines[peer] = json.loads(out.read_text())
    report = compare(engines) | {"data": given.data.stem, "threads": given.threads, "engines": engines}
    write("training", report)
    show(report)


def ours(prepared: Prepared, epochs: int, threads: int) -> dict[str, Any]:
    """Train as the peers do. Returns their form, with the floor of an epoch."""
    train = Train.model_validate(TRAIN | {"epochs": epochs, "patience": 10, "threads": threads, "seed": 0})
    found = fit("sasrec", prepared, train, Evaluate(), MODEL)
    return {
        "library": "recloop",
        "epochs": [
            {"epoch": epoch.number, "seconds": epoch.seconds, "valid_ndcg_at_10": epoch.ndcg_at_10}
            for epoch in found.curve
        ],
        "parameters": found.parameters,
        "settings": TRAIN | MODEL,
        "padding_share": found.padding_share,
        "floor_seconds": floor(found.curve[-1].events, prepared.item_count, threads),
    }


def floor(positions: int, items: int, threads: int) -> float:
    """Seconds that an epoch's loss takes at the very least: its products, and reading every logit once to make its
    exponential. Median of three."""
    torch.set_num_threads(threads)
    rows = max(1, BLOCK // items)
    queries, matrix = torch.randn(rows, MODEL["dim"]), torch.randn(items, MODEL["dim"]) * 0.02
    logits, gradient, item_gradient = torch.empty(rows, items), torch.empty_like(queries), torch.zeros_like(matrix)

    def blocks(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            torch.mm(queries, matrix.T, out=logits)
            logits.exp_()
            torch.mm(logits, matrix, out=gradient)
            item_gradient.addmm_(logits.T, queries)
        return time.perf_counter() - started

    blocks(10)
    return statistics.median(blocks(50) for _ in range(3)) / 50 * positions / rows


def compare(engines: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The ratios."""
    seconds = {name: statistics.median(each["seconds"] for each in found["epochs"]) for name, found in engines.items()}
    quality: dict[str, float] = {}
    for peer in PEERS:
        reached = min(_best(engines[peer]), _best(engines["recloop"]))
        quality[peer] = _seconds_to(engines[peer], reached) / _seconds_to(engines["recloop"], reached)
    return {
        "seconds_per_epoch": seconds,
        "speedup": {peer: seconds[peer] / seconds["recloop"] for peer in PEERS},
        "speedup_to_quality": quality,
        "over_floor": seconds["recloop"] / engines["recloop"]["floor_seconds"],
    }


def show(report: dict[str, Any]) -> None:
    table = Table("engine", "s/epoch", "epochs", "best NDCG@10 (valid)", "speed-up", "speed-up to quality")
    for name, found in report["engines"].items():
        peer = name in PEERS
        table.add_row(
            name,
            f"{report['seconds_per_epoch'][name]:.1f}",
            str(len(found["epochs"])),
            f"{_best(found):.4f}",
            f"{report['speedup'][name]:.1f} x" if peer else "",
            f"{report['speedup_to_quality'][name]:.1f} x" if peer else "",
        )
    console = Console(width=120)
    console.print(table)
    console.print(f"{report['over_floor']:.2f} x the floor; {report['threads']} threads of {machine()['cpu']}")


def _best(found: dict[str, Any]) -> float:
    return max(epoch["valid_ndcg_at_10"] for epoch in found["epochs"])


def _seconds_to(found: dict[str, Any], quality: float) -> float:
    total = 0.0
    for epoch in found["epochs"]:
        total += epoch["seconds"]
        if epoch["valid_ndcg_at_10"] >= quality:
            break
    return total


def _arguments(given: argparse.Namespace) -> list[str]:
    return ["--data", str(given.data), "--our-epochs", str(given.our_epochs), "--threads", str(given.threads)]


def _run(command: list[str]) -> dict[str, Any]:
    told = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(told.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
