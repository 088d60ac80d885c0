"""Does the monitor cry wolf, and does it see the wolf? Windows of real traffic, with and without an injected drift.

    python -m benchmarks.monitoring --data FOLDER/ml-latest-small
    python -m benchmarks.monitoring --table

`--data` is a folder with MovieLens' ratings.csv and movies.csv. The visits are put in an order of their own, drawn at
random, so that nothing drifts in them: a visit keeps its user and what it rates, and begins when
another one did. A model is taken to know what comes before a moment; the visits after it are in the database of an
endpoint, with lists that item-kNN made on the way through each, and are judged window by window by the monitor's own
functions, from what is read in that database to the verdict, with the policy of `params.yaml`'s defaults. Only
Evidently's pages are left out. Every order of the visits is another period; three of its windows are judged.

A drift comes in three sizes, is in the first of them and stays. It is detected where the verdict of the first window
is not `ok`; `delay` is in which window it was. A false alarm is a verdict that is not `ok` where nothing was injected.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection

from benchmarks.command import command
from benchmarks.drifts import DRIFTS, SIZES
from benchmarks.report import machine, read, write
from benchmarks.visits import EARLIER, LIVE, VISITS, WINDOWS, Period, Stretch, load, period_of, store
from monitoring.backend import duckdb
from monitoring.pace import Pace, rate
from monitoring.policy import Judgement, judge
from monitoring.reference import Reference, reference
from monitoring.seen import look
from monitoring.traffic import span, traffic_of
from monitoring.window import Window, count_events
from recloop.config import MovieLens100K, Params
from recloop.storage import connect

PARAMS = Params(source=MovieLens100K(kind="movielens-100k"), zoo=("popularity",), models={"popularity": {}})
"""Of the policy, and of what else the monitor goes by, the defaults"""


@dataclass(frozen=True)
class Found:
    """What the monitor said of one period."""

    calm: list[tuple[str, ...]]
    """Of each window in which nothing was injected: the signals that drifted"""
    delays: dict[str, dict[str, int | None]]
    """Kind → size → in which window, from 1, it was detected; None: in none that was looked at, which is the first
    alone at the small and the large size"""
    seen_by: dict[str, tuple[str, ...]]
    """Kind → the signals that drifted in the first window, at the middle size"""


@command
def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--data", type=Path, help="a folder with ratings.csv and movies.csv")
    told.add_argument("--windows", type=int, default=200, help="without drift, at least")
    told.add_argument("--repeats", type=int, default=50, help="of every drift and size")
    told.add_argument(
        "--processes", type=int, default=2, help="nothing is timed, so that they do not disturb each other"
    )
    told.add_argument(
        "--drifts", nargs="+", choices=[*DRIFTS], default=[*DRIFTS], help="what was measured of the others is kept"
    )
    told.add_argument("--table", action="store_true", help="print what was measured last")
    given = told.parse_args()
    if not given.table:
        if given.data is None:
            told.error("--data is needed: a folder with MovieLens' ratings.csv and movies.csv")
        found = measure(given.data, given.windows, given.repeats, given.processes, given.drifts)
        write("monitoring", with_others(found, read("monitoring")))
    show(read("monitoring"))


def with_others(found: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """What was found, with what was measured before of the drifts that are not in it."""
    for key in ("detection_rate", "delay_windows", "seen_by", "seen_by_nothing_else", "sizes"):
        both = before.get(key, {}) | found[key]
        found[key] = {kind: both[kind] for kind in DRIFTS if kind in both}
    found["detection_rate_middle"] = float(np.mean([sizes["middle"] for sizes in found["detection_rate"].values()]))
    return found


def measure(folder: Path, windows: int, repeats: int, processes: int, kinds: Collection[str]) -> dict[str, Any]:
    """All periods, with these drifts."""
    periods = max(-(-windows // WINDOWS), repeats)
    found: list[Found] = []
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        jobs = [pool.submit(examine, folder, seed, kinds if seed < repeats else ()) for seed in range(periods)]
        for job in jobs:
            found.append(job.result())
            alarms = sum(bool(signals) for each in found for signals in each.calm)
            print(f"{len(found)} of {periods} periods: {alarms} false alarms", flush=True)
    calm = [signals for each in found for signals in each.calm]
    delays = {
        kind: {size: [each.delays[kind][size] for each in found if each.delays] for size in SIZES} for kind in kinds
    }
    rates = {
        kind: {size: float(np.mean([delay == 1 for delay in each])) for size, each in sizes.items()}
        for kind, sizes in delays.items()
    }
    seen = {kind: [each.seen_by[kind] for each in found if each.seen_by] for kind in kinds}
    return {
        "data": folder.name,
        "settings": {
            "visits": VISITS,
            "windows": len(calm),
            "repeats": repeats,
            "policy": PARAMS.monitoring.model_dump(),
        },
        "false_alarm_rate": float(np.mean([bool(signals) for signals in calm])),
        "false_alarms_by_signal": dict(Counter(name for signals in calm for name in signals).most_common()),
        "detection_rate": rates,
        "delay_windows": {
            kind: [Counter(sizes["middle"])[number] for number in (1, 2, 3, None)] for kind, sizes in delays.items()
        },
        "seen_by": {
            kind: dict(Counter(name for each in sets for name in each).most_common()) for kind, sets in seen.items()
        },
        "seen_by_nothing_else": {
            kind: dict(Counter(each[0] for each in sets if len(each) == 1).most_common()) for kind, sets in seen.items()
        },
        "sizes": {kind: dict(zip(SIZES, DRIFTS[kind].shares, strict=True)) for kind in kinds},
    }


def examine(folder: Path, seed: int, kinds: Collection[str]) -> Found:
    """One period: its windows as they are, and with every drift of `kinds`."""
    period = period_of(*load(folder), np.random.default_rng(seed))
    with tempfile.TemporaryDirectory(prefix="recloop-bench-") as scratch, duckdb() as backend:
        watch = _Watch(period, Path(scratch), backend)
        with watch.database() as connection:
            calm = [watch.judged(connection, number, period.window(number)) for number in range(WINDOWS)]
        delays: dict[str, dict[str, int | None]] = {}
        seen_by = {}
        for place, (kind, drift) in enumerate(DRIFTS.items()):
            if kind not in kinds:
                continue
            delays[kind] = {}
            for size, share in zip(SIZES, drift.shares, strict=True):
                rng = np.random.default_rng([seed, place, round(1000 * share)])
                delays[kind][size] = None
                with watch.database() as connection:
                    for number in range(WINDOWS):
                        injected = drift.inject(period.window(number), share, period, rng)
                        judgement = watch.judged(connection, number, injected)
                        if number == 0 and size == "middle":
                            seen_by[kind] = drifted(judgement)
                        if judgement.outcome != "ok":
                            delays[kind][size] = number + 1
                            break
                        if size != "middle":
                            break
    return Found([drifted(judgement) for judgement in calm], delays, seen_by)


def drifted(judgement: Judgement) -> tuple[str, ...]:
    """The signals for which the verdict is not `ok`."""
    return tuple(signal.name for signal in judgement.signals if signal.counts and signal.severity != "note")


class _Watch:
    """The monitor, at the database of a period.

    Args:
        period: what is known, and what comes in.
        folder: an empty one.
        backend: an Ibis DuckDB backend.
    """

    def __init__(self, period: Period, folder: Path, backend: Any) -> None:
        self._period, self._folder, self._backend = period, folder, backend
        period.write_gated(folder / "gated")
        self._engine = connect(f"sqlite:///{folder / 'recloop.db'}")
        with self._engine.begin() as connection:
            for number in range(-EARLIER, 0):
                store(connection, period.window(number))
        self._reference: Reference | None = None

    @contextmanager
    def database(self) -> Iterator[Connection]:
        """What is stored through it is gone afterwards."""
        with self._engine.connect() as connection:
            yield connection
            connection.rollback()

    def judged(self, connection: Connection, number: int, came: Stretch) -> Judgement:
        """Let a window come in, and judge it."""
        store(connection, came)
        ends = self._period.ends
        window = Window(ends[EARLIER + number], ends[EARLIER + number + 1])
        seen = look(self._backend, connection, window, LIVE, PARAMS)
        paces = [
            Pace(each, rate(count_events(connection, each), each))
            for each in (Window(ends[place], ends[place + 1]) for place in range(EARLIER + number))
        ]
        traffic = traffic_of(connection, seen, self._against(seen.received), LIVE, PARAMS, paces)
        return judge(traffic.findings, PARAMS.monitoring.signals)

    def _against(self, received: Any) -> Reference:
        """The same for all windows of a period, which are about as long as the first of them."""
        if self._reference is None:
            share, took = PARAMS.monitoring.reference_share, span(received["timestamp"])
            self._reference = reference(self._backend, self._folder / "gated", LIVE, share, took)
        return self._reference


def show(found: dict[str, Any]) -> None:
    """Tables for people."""
    table = Table(
        "drift", *(f"{size}: detected at once" for size in SIZES), "seen by, at the middle size", "by it alone"
    )
    table.title = (
        f"{found['data']}, {found['settings']['visits']} visits a window; false alarms {found['false_alarm_rate']:.1%} "
        f"of {found['settings']['windows']}; {machine()['cores']} cores"
    )
    for kind, rates in found["detection_rate"].items():
        sizes = found["sizes"][kind]
        table.add_row(
            kind,
            *(f"{rates[size]:.0%} (at {sizes[size]:.0%})" for size in SIZES),
            _counted(found["seen_by"][kind]),
            _counted(found["seen_by_nothing_else"][kind]),
        )
    console = Console(width=160)
    console.print(table)
    console.print(f"false alarms by signal: {json.dumps(found['false_alarms_by_signal'])}")


def _counted(names: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in names.items())


if __name__ == "__main__":
    main()
