"""Does the loop pay? Real events in order of time as live traffic, under six policies of retraining.

    python -m benchmarks.loop --data FOLDER/ml-latest-small
    python -m benchmarks.loop --table

`--data` is a folder with MovieLens' ratings.csv and movies.csv; MovieLens-100K is played beside it, from the project's
own source. The first half of the events trains the first version, the rest is played (`recloop.replay`). The model was
chosen on the first half of MovieLens-100K alone: trained on the first 40,000 events, of those models that train in
seconds it was the best in the 10,000 after them. The policies are as `monitoring`'s defaults have them, with trainings
from nothing; some are also played with trainings that begin from what is live, as they do by default
(`train.warm_start`). What a training comes to rests on chance, too: with several `--seeds` figures are means over
them. The picture is `results/loop.png`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.command import command
from benchmarks.report import RESULTS, ROOT, machine, read, write
from recloop.config import MovieLens100K, Params, Prepare, Split, Table, TableFile, Train
from recloop.data.sources import ingest
from recloop.errors import SourceError
from recloop.replay.figures import ReplayReport
from recloop.replay.log import read_log
from recloop.replay.picture import draw
from recloop.replay.policies import DEFAULT, EVERY, POLICIES, WARM
from recloop.replay.run import replay
from recloop.replay.table import show

MODEL = "sasrec"
SETTINGS = {"dim": 32, "blocks": 1, "dropout": 0.2}
TRAIN = {"lr": 0.003, "average": 0.99, "epochs": 15, "patience": 3, "warm_start": False, "threads": 1, "device": "cpu"}
SPLIT = {"valid_share": 0.05}
"""Enough users to choose an epoch by; what is not learnt is the newest of all"""
MOVIELENS = "ml-100k"


@command
def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--data", type=Path, help="a folder with ratings.csv and movies.csv")
    told.add_argument("--windows", type=int, default=20)
    told.add_argument("--seeds", type=int, nargs="+", default=[0])
    told.add_argument("--only", action="store_true", help="without MovieLens-100K; what was measured of it is kept")
    told.add_argument("--table", action="store_true", help="print what was measured last")
    given = told.parse_args()
    if not given.table:
        if given.data is None:
            told.error("--data is needed: a folder with MovieLens' ratings.csv and movies.csv")
        sources: dict[str, MovieLens100K | Table] = {given.data.resolve().name: latest(given.data)}
        if not given.only:
            sources = {MOVIELENS: MovieLens100K(kind="movielens-100k")} | sources
        for name, source in sources.items():
            _keep(name, measure(source, given.data, given.windows, given.seeds))
    reports = {name: ReplayReport.model_validate(report) for name, report in read("loop")["reports"].items()}
    draw(reports, RESULTS / "loop.png")
    console = Console(width=100)
    for name, report in reports.items():
        console.print(show(f"{name}; {machine()['cores']} cores, one thread", report))


def latest(folder: Path) -> Table:
    """MovieLens' own files, as the project's source `table` reads them.

    Raises:
        SourceError: they are not there.
    """
    for name in ("ratings.csv", "movies.csv"):
        if not (folder / name).is_file():
            raise SourceError(f"{folder / name} is missing", remedy="--data is a folder with MovieLens' two files")
    return Table(
        kind="table",
        folder=Path(),
        interactions=TableFile(
            path=Path("ratings.csv"),
            columns={"user_id": "userId", "item_id": "movieId", "value": "rating", "timestamp": "timestamp"},
            constants={"event": "rating"},
        ),
        items=TableFile(
            path=Path("movies.csv"), columns={"item_id": "movieId", "title": "title", "categories": "genres"}
        ),
        timestamp_unit="s",
    )


def measure(source: MovieLens100K | Table, folder: Path, windows: int, seeds: Sequence[int]) -> dict[str, Any]:
    """One data set under all policies."""
    begun = time.perf_counter()
    params = Params(
        source=source,
        zoo=(MODEL,),
        models={MODEL: SETTINGS},
        prepare=Prepare(min_user_events=1),
        split=Split.model_validate(SPLIT),
        train=Train.model_validate(TRAIN),
    )
    with tempfile.TemporaryDirectory(prefix="recloop-bench-") as scratch:
        base = ROOT if isinstance(source, MovieLens100K) else folder
        ingest(source, Path(scratch) / "raw", base=base)
        log = read_log(Path(scratch) / "raw", windows)
        wanted = [*POLICIES, *(f"{name}{WARM}" for name in (EVERY, "new data", DEFAULT))]
        say = partial(print, flush=True)
        report = replay(log, params, MODEL, Path(scratch), policies=wanted, seeds=seeds, say=say)
    return report.model_dump(mode="json") | {"seconds": round(time.perf_counter() - begun, 1)}


def _keep(name: str, report: dict[str, Any]) -> None:
    """Write one data set's figures beside those of others."""
    before = read("loop")
    seconds = before.get("seconds", {}) | {name: report.pop("seconds")}
    reports = before.get("reports", {}) | {name: report}
    figures = ("quality", "quality_kept", "trainings", "training_share")
    data = {
        each: {policy: {figure: facts[figure] for figure in figures} for policy, facts in found["policies"].items()}
        for each, found in reports.items()
    }
    settings = {"model": MODEL, **SETTINGS, "train": TRAIN, "split": SPLIT, "default": f"{DEFAULT}{WARM}"}
    write("loop", {"data": data, "settings": settings, "seconds": seconds, "reports": reports})


if __name__ == "__main__":
    main()
