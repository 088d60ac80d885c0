"""Retrieval, by the size of the catalogue: every product made, or sketches read first. Says where to switch.

    python -m benchmarks.index
    python -m benchmarks.index --data FOLDER/Beauty.txt

The vectors are made up: clusters of all sizes, some directions wider than others, lengths log-normal. With `--data`
SASRec is trained on it as well; the queries are what it makes of histories, and to its item vectors others are added,
between two that are near each other, until there are enough. Each size has a process of its own.

Milliseconds are processor time of the one thread that searches, so that what else a machine does counts little. One
query at a time is what a quiet endpoint answers, a batch is what a busy one does. The switch is at the largest size at
which a batch is answered no later by making every product.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.data import leave_one_out, name_of
from benchmarks.report import machine, write
from recloop.config import Evaluate, Train
from recloop.data.batches import RaggedTensor
from recloop.models.base import DualEncoder
from recloop.serving.index import Approximate, Exact, Retriever
from recloop.training import fit

SIZES = (10_000, 50_000, 100_000, 250_000, 500_000, 1_000_000)
WIDTH, K, QUERIES, BATCHES = 64, 100, 256, 5
BANNED = 1000
"""Items that may not come, the best ones, as of a user who has had them all."""
NEAR = 20
"""An item's neighbours, which new items are made between."""
MADE_UP = "made up"


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--items", type=int, nargs="+", default=SIZES)
    told.add_argument("--data", type=Path, help="a file in the `sequences` form, to train on")
    told.add_argument("--epochs", type=int, default=10)
    told.add_argument("--one", nargs=2, metavar=("ITEMS", "VECTORS"), help="do one, and print what was found")
    given = told.parse_args()
    torch.set_num_threads(1)
    if given.one:
        items, source = given.one
        vectors, queries = made_up(int(items)) if source == MADE_UP else grown(int(items), Path(source))
        print(json.dumps(measured(vectors, queries)))
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="recloop-bench-") as folder:
        sources = {MADE_UP: MADE_UP}
        if given.data is not None:
            sources[name_of(given.data)] = str(learnt(given.data, given.epochs, Path(folder) / "learnt.npz"))
        for name, source in sources.items():
            for items in given.items:
                command = [sys.executable, "-m", "benchmarks.index", "--one", str(items), source]
                found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
                rows.append({"vectors": name, "items": items, **found})
    switch = exact_up_to(rows)
    settings = {"width": WIDTH, "k": K, "queries": QUERIES, "banned": BANNED, "together": Exact.together, "threads": 1}
    write("index", {"settings": settings, "exact_up_to": switch, "rows": rows})
    show(rows, switch)


def made_up(items: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors float32 [items, width] and queries float32 [queries, width]."""
    rng = np.random.default_rng(0)
    clusters = max(16, items // 200)
    widths = np.arange(1, WIDTH + 1, dtype=np.float32) ** -0.5
    sizes = np.arange(1, clusters + 1) ** -0.7
    chances = sizes / sizes.sum()
    centres = rng.standard_normal((clusters, WIDTH), np.float32)

    def near_centres(count: int, spread: float) -> np.ndarray:
        beside = np.float32(spread) * rng.standard_normal((count, WIDTH), np.float32)
        near: np.ndarray = (centres[rng.choice(clusters, count, p=chances)] + beside) * widths
        return near

    vectors = near_centres(items, 0.6)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors *= rng.lognormal(0.0, 0.3, (items, 1)).astype(np.float32)
    return vectors, near_centres(QUERIES, 0.8)


def learnt(data: Path, epochs: int, path: Path) -> Path:
    """Train SASRec on `data`, and write its item vectors, and queries made of whole histories, to `path`."""
    prepared = leave_one_out(data)
    train = Train(lr=0.002, average=0.995, epochs=epochs, batch_tokens=2048, max_history=50, threads=1)
    model = fit("sasrec", prepared, train, Evaluate(), {"dim": WIDTH, "dropout": 0.5}, progress=False).model.eval()
    if not isinstance(model, DualEncoder):
        raise TypeError("a model that makes vectors is needed")
    users = np.random.default_rng(0).choice(prepared.user_count, QUERIES, replace=False)
    histories = [prepared.items[prepared.starts[user] : prepared.ends[user]][-50:] for user in users]
    offsets = torch.tensor([0, *np.cumsum([len(history) for history in histories])])
    with torch.inference_mode():
        queries = model.encode(RaggedTensor(torch.from_numpy(np.concatenate(histories)).long(), offsets)).numpy()
        np.savez(path, vectors=model.item_matrix().numpy(), queries=queries)
    return path


def grown(items: int, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """As many of the vectors at `path` as `items`, or all and others between them; and the queries there."""
    rng = np.random.default_rng(0)
    with np.load(path) as file:
        vectors, queries = file["vectors"], file["queries"]
    if items <= len(vectors):
        return vectors[np.sort(rng.choice(len(vectors), items, replace=False))], queries
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    parts = np.array_split(units, len(units) // 1000 + 1)
    near = np.concatenate([np.argpartition(-(part @ units.T), NEAR)[:, : NEAR + 1] for part in parts])
    first = rng.integers(len(vectors), size=items - len(vectors))
    second = near[first, rng.integers(NEAR + 1, size=len(first))]
    share = rng.uniform(0, 0.5, (len(first), 1)).astype(np.float32)
    apart = 0.4 * (vectors[near[:, 1]] - vectors).std(0)
    between = vectors[first] * (1 - share) + vectors[second] * share
    between += apart * rng.standard_normal(between.shape, np.float32)
    return np.concatenate([vectors, between]), queries


def measured(vectors: np.ndarray, queries: np.ndarray) -> dict[str, Any]:
    """What either way takes, and what the approximate one finds of what there is."""
    exact = Exact(vectors)
    wall, own = time.perf_counter(), time.process_time()
    approximate = Approximate(vectors)
    found: dict[str, Any] = {
        "build_seconds": time.perf_counter() - wall,
        "build_cpu_seconds": time.process_time() - own,
        "vectors_mb": vectors.nbytes / 1e6,
        "index_mb": faiss.serialize_index(approximate._index).nbytes / 1e6,
    }
    best = exact.search(queries, BANNED)[0]
    found["exact"], found["approximate"] = costs(exact, queries, best), costs(approximate, queries, best)
    for k in (10, K):
        codes = approximate.search(queries, k)[0]
        recalls = [np.isin(codes[row], best[row, :k]).mean() for row in range(len(queries))]
        found[f"recall_at_{k}"], found[f"worst_recall_at_{k}"] = float(np.mean(recalls)), float(np.min(recalls))
    return found


def costs(retriever: Retriever, queries: np.ndarray, best: np.ndarray) -> dict[str, float]:
    """Milliseconds of a query alone, of one with `best` [queries, banned] banned, and of each in a batch."""
    alone = timed(lambda row: retriever.search(queries[row : row + 1], K), len(queries))
    banned = timed(lambda row: retriever.search(queries[row : row + 1], K, banned=[best[row]]), len(queries))
    together = timed(lambda _: retriever.search(queries[: Exact.together], K), BATCHES)
    found = {"together": float(np.median(together)) / Exact.together}
    for name, taken in (("", alone), ("banned_", banned)):
        found |= {f"{name}p50": float(np.median(taken)), f"{name}p99": float(np.quantile(taken, 0.99))}
    return found


def timed(call: Callable[[int], Any], times: int) -> np.ndarray:
    """Milliseconds of this thread's processor time that each `call` takes, once one has been made to warm up."""
    call(0)
    taken = []
    for number in range(times):
        started = time.thread_time()
        call(number)
        taken.append(1000 * (time.thread_time() - started))
    return np.array(taken)


def exact_up_to(rows: list[dict[str, Any]]) -> int:
    """The largest size up to which a batch is answered no later by making every product, whatever the vectors."""
    later = [row["items"] for row in rows if row["exact"]["together"] > row["approximate"]["together"]]
    return max((row["items"] for row in rows if row["items"] < min(later, default=np.inf)), default=0)


def show(rows: list[dict[str, Any]], switch: int) -> None:
    heads = ("vectors", "items", "exact p50/p99", "batch", "sketches p50/p99", "batch", f"{BANNED} banned")
    title = f"retrieval of {K}, ms; every product up to {switch:,} items; {machine()['cpu']}"
    table = Table(*heads, f"recall@{K}", "worst", "build", "memory", title=title)
    for row in rows:
        exact, sketches = row["exact"], row["approximate"]
        table.add_row(
            row["vectors"],
            f"{row['items']:,}",
            f"{exact['p50']:.2f} / {exact['p99']:.2f}",
            f"{exact['together']:.2f}",
            f"{sketches['p50']:.2f} / {sketches['p99']:.2f}",
            f"{sketches['together']:.2f}",
            f"{sketches['banned_p50']:.2f} / {sketches['banned_p99']:.2f}",
            f"{row[f'recall_at_{K}']:.4f}",
            f"{row[f'worst_recall_at_{K}']:.2f}",
            f"{row['build_cpu_seconds']:.1f} s",
            f"{row['vectors_mb']:,.0f} + {row['index_mb']:,.0f} MB",
        )
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
