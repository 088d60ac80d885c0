"""How fast the endpoint answers, beside what its parts cost by themselves and beside others, in one run.

    python -m benchmarks.serving --data FOLDER/Beauty.txt [--rounds 3] [--seconds 6]
    python -m benchmarks.serving --table

The load comes from a process of its own (`load.py`). The endpoint is asked in three ways:

    known   users whose list was made before and has not changed since: what a busy page mostly asks
    mixed   nine lists for one event, users by how active they are: after an event the user's list is made anew
    new     no list was ever made before: every one is computed

The others say hello or compute every list. Every server is started anew in every round, on this machine's loopback,
with one worker; what is told of a server are medians over the rounds. The ratios are of throughput at the same number
of connections; `ratio` is that of `known`, and `ratios` has all three. The latency at half load is that of lists in
`mixed`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.report import machine, read, write
from benchmarks.servers import environment
from benchmarks.servers.package import make_large_package, make_package
from benchmarks.servers.run import PEERS, server, usage, users_of
from recloop.exclusive import free_port

CONNECTIONS = (1, 16, 64)
COMPARED = 16
"""Connections at which throughput is compared."""
LINES = 300_000
"""Requests in a file, more than are sent: nothing in it is to be asked twice"""
ZIPF = 1.0
"""The n-th most active user asks 1 / n as often as the most active"""
WAYS = ("known", "mixed", "new")
OURS = "recloop"
LARGE = 1_000_000
COMPARED_WITH = {
    "bentoml_hello": ("bentoml_hello",),
    "starlette_hello": ("starlette_hello",),
    "litserve": ("litserve_sasrec",),
    "ray_serve": ("ray_sasrec", "ray_direct_sasrec"),
}
"""What a ratio is called → the servers it is against; of several the fastest"""
WARM_SECONDS = {"known": 10.0, "mixed": 10.0, "new": 2.0, "all": 2.0}
"""How long a server is asked before it is measured; after it the users of `known` are known"""


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--data", type=Path, help="a file in the `sequences` form, that the model is trained on")
    told.add_argument("--rounds", type=int, default=3)
    told.add_argument("--seconds", type=float, default=6.0, help="of every measurement")
    told.add_argument("--epochs", type=int, default=10, help="of the model's training")
    told.add_argument("--items", type=int, default=LARGE, help="of the large catalogue; 0: leave it out")
    told.add_argument("--table", action="store_true", help="print what was measured last")
    given = told.parse_args()
    if given.table:
        show(read("serving"))
        return
    if given.data is None:
        told.error("--data is needed: a file in the `sequences` form (docs/benchmarks.md says where to find some)")
    with tempfile.TemporaryDirectory(prefix="recloop-") as scratch:
        folder = Path(scratch)
        package = make_package(given.data, folder / "package", epochs=given.epochs)
        environment.make()
        found = measure(package, given.rounds, given.seconds, folder)
        if given.items:
            found["million_items"] = large(folder, given.items, given.seconds)
        found["data"] = given.data.stem
        write("serving", found)
        show(read("serving"))


def measure(package: Path, rounds: int, seconds: float, folder: Path) -> dict[str, Any]:
    """All servers, in every round."""
    rows: list[dict[str, Any]] = []
    for round_ in range(rounds):
        for name in PEERS:
            port = free_port("127.0.0.1", 0)
            with server(name, port=port, package=package) as process:
                for way in WAYS if name == OURS else ("all",):
                    path = folder / f"{name}-{way}-{round_}"
                    requests = Requests(write_requests(path, name, way, package, round_))
                    load(port, requests, 16, WARM_SECONDS[way])
                    for connections in CONNECTIONS:
                        found = watched(process, port, requests, connections, seconds)
                        rows.append({"server": name, "way": way, "round": round_, **found})
                        print(json.dumps(rows[-1]), flush=True)
                    if name == OURS:
                        top = max(row["per_second"] for row in rows if (row["server"], row["way"]) == (name, way))
                        found = watched(process, port, requests, 64, 2 * seconds, rate=top / 2)
                        rows.append({"server": name, "way": f"{way}, half load", "round": round_, **found})
                        print(json.dumps(rows[-1]), flush=True)
    summary = summarise(rows)

    def per_second(name: str, way: str = "all") -> float:
        which = (name, way, COMPARED)
        return float(
            next(row["per_second"] for row in summary if (row["server"], row["way"], row["connections"]) == which)
        )

    ratios = {
        way: {
            name: round(per_second(OURS, way) / max(map(per_second, peers)), 3) for name, peers in COMPARED_WITH.items()
        }
        for way in WAYS
    }
    half = {row["way"].partition(",")[0]: row["p99_ms_of"] for row in summary if "half load" in row["way"]}
    return {
        "settings": {"rounds": rounds, "seconds": seconds, "workers": 1, "compared_at": COMPARED, "k": 10},
        "ratio": ratios["known"],
        "ratios": ratios,
        "p99_ms_at_half_load": half["mixed"]["/recommend"],
        "p99_ms_at_half_load_of": half,
        "servers": summary,
        "rows": rows,
    }


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians over the rounds; failures are added up."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["server"], row["way"], row["connections"]), []).append(row)
    summary = []
    for (name, way, connections), group in groups.items():
        figures = ("per_second", "p50_ms", "p99_ms", "cpu_ms_per_request", "memory_mb")
        paths = {path for row in group for path in row["by_path"]}
        summary.append(
            {"server": name, "way": way, "connections": connections}
            | {figure: round(median(row[figure] for row in group), 3) for figure in figures}
            | {"p99_ms_of": {path: round(median(row["by_path"][path]["p99_ms"] for row in group), 3) for path in paths}}
            | {"failed": sum(row["failed"] for row in group)}
        )
    return summary


def write_requests(path: Path, name: str, way: str, package: Path, seed: int, lines: int = LINES) -> Path:
    """A file of requests for `load.py`."""
    users = users_of(package)
    peer = PEERS[name]
    rng = np.random.default_rng(seed)
    with path.open("w") as file:
        if way == "all":
            for user in rng.permutation(users)[:5000] if peer.serves_model else users[:1]:
                file.write(f"{peer.path}\t{json.dumps(peer.body(str(user)))}\n")
        else:
            for target, body in ours(way, users, items_of(package), rng, lines):
                file.write(f"{target}\t{json.dumps(body)}\n")
    return path


def ours(
    way: str, users: list[str], items: list[str], rng: np.random.Generator, lines: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Paths and bodies for the endpoint."""
    order = rng.permutation(len(users))
    if way == "known":
        for user in order[:5000]:
            yield "/recommend", {"user_id": users[user]}
        return
    weights = 1 / np.arange(1, len(users) + 1) ** ZIPF
    drawn = order[rng.choice(len(users), lines, p=weights / weights.sum())]
    if way == "new":
        for number, user in enumerate(drawn):
            yield "/recommend", {"user_id": users[user], "context": {"visit": str(number)}}
        return
    chosen = rng.integers(len(items), size=lines)
    run = rng.bytes(4).hex()
    for number, (user, item) in enumerate(zip(drawn, chosen, strict=True)):
        if number % 10 == 9:
            event = {"event_id": f"{run}-{number}", "user_id": users[user], "item_id": items[item], "event": "view"}
            yield "/events", {"events": [event]}
        else:
            yield "/recommend", {"user_id": users[user]}


def items_of(package: Path) -> list[str]:
    """Ids of the items."""
    ids: list[str] = pq.read_table(package / "items.parquet", columns=["item_id"])["item_id"].to_pylist()
    return ids


@dataclass
class Requests:
    """A file of them, and how many of it were sent: what was asked once is not new any more."""

    path: Path
    sent: int = 0


def load(port: int, requests: Requests, connections: int, seconds: float, rate: float = 0.0) -> dict[str, Any]:
    """What `load.py` saw."""
    command = [sys.executable, "-m", "benchmarks.load", "--port", port]
    command += [
        "--requests",
        requests.path,
        "--skip",
        requests.sent,
        "--connections",
        connections,
        "--seconds",
        seconds,
        "--rate",
        rate,
    ]
    done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    requests.sent += sum(found["statuses"].values()) + connections
    return found


def watched(
    process: psutil.Process, port: int, requests: Requests, connections: int, seconds: float, rate: float = 0.0
) -> dict[str, Any]:
    """The same, with what the server took for it."""
    before = usage(process)
    found = load(port, requests, connections, seconds, rate)
    after = usage(process)
    answers = sum(found["statuses"].values())
    return found | {
        "failed": answers - found["answered"],
        "cpu_ms_per_request": round(1000 * (after.cpu_seconds - before.cpu_seconds) / max(1, found["answered"]), 4),
        "memory_mb": round(after.rss_mb),
    }


def large(folder: Path, items: int, seconds: float) -> dict[str, Any]:
    """A catalogue of a million items: every list is computed."""
    package = make_large_package(folder / "large", items=items)
    port = free_port("127.0.0.1", 0)
    with server(OURS, port=port, package=package) as process:
        requests = Requests(write_requests(folder / "large-new", OURS, "new", package, 0))
        load(port, requests, 4, 2.0)
        top = watched(process, port, requests, COMPARED, 2 * seconds)
        half = watched(process, port, requests, 64, 4 * seconds, rate=top["per_second"] / 2)
    return {"items": items, "p99_ms": half["p99_ms"], "recall_at_100": recall(package), "top": top, "half_load": half}


def recall(package: Path, users: int = 500, k: int = 100) -> float:
    """Share of the true best items that the index finds, over users of the package."""
    import torch

    from recloop.data.batches import RaggedTensor
    from recloop.models.base import DualEncoder
    from recloop.models.catalogue import load_model
    from recloop.serving.index import Exact, build_retriever
    from recloop.serving.parcel import read_parcel

    parcel, model = read_parcel(package), load_model(package).eval()
    assert isinstance(model, DualEncoder)  # noqa: S101 (for the type checker)
    with torch.inference_mode():
        vectors = model.item_matrix().numpy()
        rows = range(0, len(parcel.user_ids), max(1, len(parcel.user_ids) // users))
        queries = [
            model.encode(
                RaggedTensor(
                    torch.from_numpy(parcel.histories[row][-model.max_history :].astype(np.int64)),
                    torch.tensor([0, min(model.max_history, len(parcel.histories[row]))]),
                )
            ).numpy()[0]
            for row in rows
        ]
    asked = np.stack(queries)
    found, true = (each.search(asked, k)[0] for each in (build_retriever(vectors), Exact(vectors)))
    return float(np.mean([len(np.intersect1d(*pair)) / k for pair in zip(found, true, strict=True)]))


def show(found: dict[str, Any]) -> None:
    """A table for people."""
    table = Table(
        "", "way", "connections", "req/s", "p50 ms", "p99 ms (lists / events)", "CPU ms / req", "memory MB", "failed"
    )
    table.title = f"one worker each; {machine()['cpu']}, {machine()['cores']} cores"
    for row in found["servers"]:
        title = PEERS[row["server"]].title
        p99 = " / ".join(f"{row['p99_ms_of'][path]:.2f}" for path in sorted(row["p99_ms_of"], reverse=True))
        speed = f"{row['per_second']:,.0f}", f"{row['p50_ms']:.2f}", p99
        cost = f"{row['cpu_ms_per_request']:.3f}", f"{row['memory_mb']:,.0f}", str(row["failed"])
        table.add_row(title, row["way"], str(row["connections"]), *speed, *cost)
    console = Console(width=130)
    console.print(table)
    for way, ratios in found["ratios"].items():
        console.print(f"throughput, {way}: " + ", ".join(f"{ratio:.2f} x {name}" for name, ratio in ratios.items()))
    if "million_items" in found:
        many = found["million_items"]
        console.print(f"{many['items']:,} items: p99 {many['p99_ms']:.1f} ms, recall@100 {many['recall_at_100']:.4f}")


if __name__ == "__main__":
    main()
