"""How long the monitor takes for a window of ten million events, and how much memory.

    python -m benchmarks.window [--events 10000000] [--lists 1000000]

The window is in SQLite, as the endpoint leaves it: visits of some five events, and lists of ten items. Before it lies a
day with as many, which was judged: so all signals take part. What is measured is a process of its own that runs
`recloop monitor`, its imports, Evidently's pages and the workspace included, beside one that does so for a tenth of all
that.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.report import ROOT, write
from monitoring.verdicts import Verdict, latest, store
from recloop.data.schema import INTERACTIONS, ITEMS
from recloop.project import Project
from recloop.storage import connect

CATALOGUE = 20_000
LEARNT = 1_000_000
"""Events that the live model knows"""
BATCH = 200_000
VISIT = 5
DAY = 86_400_000_000
POLL_SECONDS = 0.05


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--events", type=int, default=10_000_000)
    told.add_argument("--lists", type=int, default=1_000_000)
    given = told.parse_args()
    rows = []
    for share in (10, 1):
        with tempfile.TemporaryDirectory(prefix="recloop-") as scratch:
            rows.append(measure(Path(scratch) / "project", given.events // share, given.lists // share))
        row = rows[-1]
        print(
            f"{row['events']:,} events and {row['lists']:,} lists: {row['seconds']:.1f} s, of processor time "
            f"{row['cpu_seconds']:.1f} s, {row['memory_mb']:,.0f} MB",
            flush=True,
        )
    write("window", {"rows": rows})


def measure(root: Path, events: int, lists: int) -> dict[str, Any]:
    """Make the project, and let a process judge its window."""
    since = datetime.now(UTC) - timedelta(hours=54)
    project = make(root, since, events, lists)
    begin = time.monotonic()
    process = psutil.Popen(
        [sys.executable, "-W", "ignore", "-m", "recloop", "monitor"],
        cwd=root,
        env={"RECLOOP_ROOT": str(root), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": "", "HOME": str(root)},
        stdout=subprocess.PIPE,
        text=True,
    )
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.append(process.stdout.read()))
    reader.start()
    memory, cpu = 0, 0.0
    while process.poll() is None:
        try:
            memory = max(memory, process.memory_info().rss)
            cpu = sum(process.cpu_times()[:2])
        except psutil.Error:
            break
        time.sleep(POLL_SECONDS)
    process.wait()
    reader.join()
    seconds = time.monotonic() - begin
    if process.returncode or f"{events:,} events" not in said[0]:
        raise RuntimeError(f"the monitor did not judge the window: {said[0]}")
    database = Path(project.database_url.removeprefix("sqlite:///"))
    return {
        "events": events,
        "lists": lists,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "memory_mb": round(memory / 1e6, 1),
        "database_mb": round(database.stat().st_size / 1e6),
        "verdict": said[0].splitlines()[0],
        "signals": judged_signals(project),
    }


def judged_signals(project: Project) -> list[str]:
    """Those that took part."""
    database = connect(project.database_url)
    found = sorted(signal.name for signal in latest(database)[0].signals)
    database.dispose()
    return found


def make(root: Path, since: datetime, events: int, lists: int) -> Project:
    """A project whose model went live at `since`, and has had two days of traffic, of which the first was judged."""
    root.mkdir(parents=True)
    (root / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    project, rng = Project(root), np.random.default_rng(0)
    start = int(since.timestamp() * 1e6)
    items = [f"i{number}" for number in range(CATALOGUE)]
    project.gated.mkdir(parents=True)
    users, taken, values = drawn(rng, 0, LEARNT, LEARNT // 50)
    learnt = {
        "user_id": pa.array(users),
        "item_id": pa.array(taken),
        "event": pa.array(["rating"] * LEARNT),
        "value": pa.array(values, pa.float32()),
        "timestamp": pa.array(start - 30 * DAY + np.arange(LEARNT) * (30 * DAY // LEARNT)).cast(
            INTERACTIONS.field("timestamp").type
        ),
    }
    table = pa.table(learnt, schema=INTERACTIONS).append_column("feedback_seq", pa.nulls(LEARNT, pa.int64()))
    pq.write_table(table, project.gated / "interactions.parquet")
    kinds = [[f"kind {number % 20}"] for number in range(CATALOGUE)]
    pq.write_table(
        pa.table({"item_id": items, "title": items, "categories": kinds}, schema=ITEMS), project.gated / "items.parquet"
    )
    (project.live / "v1").mkdir(parents=True)
    (project.live / "v1" / "package.json").write_text(json.dumps({"newest": None, "feedback_watermark": 0}))
    pointer = {"version": 1, "folder": "v1", "since": since.isoformat()}
    (project.live / "champion.json").write_text(json.dumps(pointer))
    judged = connect(project.database_url)
    store(judged, Verdict(0, start + DAY, start, start + DAY, 1, events, "ok", (), (), None))
    judged.dispose()
    database = sqlite3.connect(project.database_url.removeprefix("sqlite:///"))
    database.execute("PRAGMA synchronous=OFF")
    database.executemany(
        "INSERT INTO events (event_id, user_id, item_id, event, value, timestamp, received_at) VALUES (?,?,?,?,?,?,?)",
        event_rows(rng, start, events),
    )
    database.executemany(
        "INSERT INTO impressions (request_id, user_id, served_at, version, variant, strategy, items, scores, "
        "history_length) VALUES (?, ?, ?, 1, 'champion', 'model', ?, ?, 5)",
        list_rows(rng, start, lists, events),
    )
    database.commit()
    database.close()
    return project


def drawn(rng: np.random.Generator, start: int, count: int, people: int) -> tuple[list[str], list[str], np.ndarray]:
    """Users, items and values of so many events, in visits of a user each."""
    visits = (start + np.arange(count)) // VISIT
    users = (visits * 2_654_435_761) % people
    weights = np.cumsum(1 / np.arange(1, CATALOGUE + 1) ** 0.8)
    items = np.searchsorted(weights, rng.random(count) * weights[-1])
    values = rng.choice([1.0, 2.0, 3.0, 4.0, 5.0], count, p=[0.05, 0.1, 0.3, 0.35, 0.2])
    return [f"u{user}" for user in users], [f"i{item}" for item in items], values


def event_rows(rng: np.random.Generator, start: int, count: int) -> Iterator[tuple[Any, ...]]:
    """Of two days, `count` each."""
    step = DAY // count
    for begin in range(0, 2 * count, BATCH):
        users, items, values = drawn(rng, begin, min(BATCH, 2 * count - begin), count // 50)
        for place, (user, item, value) in enumerate(zip(users, items, values.tolist(), strict=True), begin):
            at = start + place * step
            yield f"e{place}", user, item, "rating", value, at, at


def list_rows(rng: np.random.Generator, start: int, count: int, events: int) -> Iterator[tuple[Any, ...]]:
    """Lists of two days, `count` each, for users of the same time, of items that some of them take."""
    step, scores = DAY // count, json.dumps([1.0] * 10)
    for begin in range(0, 2 * count, BATCH):
        size = min(BATCH, 2 * count - begin)
        places = (np.arange(begin, begin + size) * (events // count)) // VISIT
        users = (places * 2_654_435_761) % (events // 50)
        items = rng.integers(CATALOGUE, size=(size, 10))
        items[:, 0] = rng.integers(20, size=size)
        for place, (user, row) in enumerate(zip(users.tolist(), items.tolist(), strict=True), begin):
            yield f"r{place}", f"u{user}", start + place * step, json.dumps([f"i{item}" for item in row]), scores


if __name__ == "__main__":
    main()
