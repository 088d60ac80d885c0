"""What a retraining gains, or loses, by beginning from the champion's weights instead of from nothing.

    python -m benchmarks.warm_start --data FOLDER/ml-latest-small/ratings.csv
    python -m benchmarks.warm_start --table

In order of time: the champion knows the first 80% of the events, the retraining the first 90%, and both are judged on
the rest, which neither knows. Of what each knows, the last tenth of all events is what its epoch is chosen on. Three
ways for each seed: `kept`, the champion as it was; `cold`, a retraining from nothing; `warm`, one that begins from the
champion. Model and settings are those of `benchmarks.loop`. Seconds are of learning, on one thread; that a training
goes on for `patience` epochs after its best one is counted in `epochs` and `seconds`, and not in what it took to the
best.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.command import command
from benchmarks.data import REMEDY, has_times, name_of, source_of
from benchmarks.loop import MODEL, SETTINGS, TRAIN
from benchmarks.report import machine, read, write
from recloop.config import Evaluate, Prepare, Split, Train
from recloop.data.prepare import prepare
from recloop.data.prepared import Prepared
from recloop.data.sources import ingest
from recloop.data.warm import write_champion
from recloop.errors import SourceError
from recloop.evaluation import evaluate
from recloop.models.base import Learner, Recommender
from recloop.models.catalogue import build
from recloop.training import FitResult, fit
from recloop.training.warm_start import WarmStart

CHAMPION, RETRAINED = 0.8, 0.9
"""Shares of the events that are known"""
CHOSEN_ON = 0.1
"""The newest of them, as a share of all events"""
LEAST_TEST = 0.001
"""Preparation wants a test period, also for the champion"""
WAYS = ("kept", "cold", "warm")
FIGURES = {
    "best_epoch": ("epochs to the best", 1),
    "seconds_to_best": ("seconds to it", 1),
    "epochs": ("epochs", 1),
    "seconds": ("seconds", 1),
    "valid": ("valid NDCG@10", 4),
    "test": ("test NDCG@10", 4),
}
"""Of a way: what they are called in the table, and with how many decimals"""


@command
def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--data", type=Path, help="MovieLens' ratings.csv")
    told.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    told.add_argument("--table", action="store_true", help="print what was measured last")
    given = told.parse_args()
    if not given.table:
        if given.data is None or not has_times(given.data):
            told.error("--data is needed: MovieLens' ratings.csv, which says when things happened")
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="recloop-bench-") as scratch:
            known, now = timeline(given.data, Path(scratch))
            rows = [row for seed in given.seeds for row in measure(known, now, seed, Path(scratch) / str(seed))]
        facts = {"data": name_of(given.data), "settings": {"model": MODEL, **SETTINGS, "train": TRAIN}}
        took = round(time.perf_counter() - begun, 1)
        write("warm_start", facts | {"took_seconds": took, "means": means(rows), "rows": rows})
    show(read("warm_start"))


def timeline(path: Path, folder: Path) -> tuple[Prepared, Prepared]:
    """What the champion knew, and what is known now.

    Raises:
        SourceError: the file is missing, or not of that form.
    """
    raw, early = folder / "raw", folder / "early"
    try:
        ingest(source_of(path), raw, base=path.parent)
    except SourceError as error:
        raise SourceError(error.message, remedy=REMEDY) from error
    shutil.copytree(raw, early)
    log = pq.read_table(raw / "interactions.parquet")
    order = pc.sort_indices(log, [("timestamp", "ascending")])
    pq.write_table(log.take(order[: round(CHAMPION * len(log))]), early / "interactions.parquet")
    shares = ((early, CHOSEN_ON / CHAMPION, LEAST_TEST), (raw, CHOSEN_ON, 1 - RETRAINED))
    both = []
    for number, (gated, valid, test) in enumerate(shares):
        prepared = folder / f"prepared-{number}"
        prepare(gated, prepared, Prepare(min_user_events=1), Split(valid_share=valid, test_share=test))
        both.append(Prepared.load(prepared))
    return both[0], both[1]


def measure(known: Prepared, now: Prepared, seed: int, folder: Path) -> list[dict[str, Any]]:
    """A champion of what was known, and the three ways to go on."""
    train = Train.model_validate(TRAIN | {"seed": seed})
    champion = fit(MODEL, known, train, Evaluate(), SETTINGS, progress=False)
    champion.model.save(folder / "model")
    items, users = (pa.chunked_array([ids]) for ids in (known.item_ids, known.user_ids))
    until = int(known.timestamps[known.periods == 0].max())
    write_champion(folder / "warm", folder / "model", item_ids=items, user_ids=users, learnt_until=until)
    rows: list[dict[str, Any]] = [{"seed": seed, "way": "kept", "test": judged(kept(now, train, folder / "warm"), now)}]
    cold, warm = (
        fit(MODEL, now, train, Evaluate(), SETTINGS, progress=False, champion=begin)
        for begin in (None, folder / "warm")
    )
    for way, result in (("cold", cold), ("warm", warm)):
        reached = [epoch for epoch in result.curve if epoch.ndcg_at_10 >= cold.best.ndcg_at_10]
        rows.append(
            {
                "seed": seed,
                "way": way,
                "best_epoch": result.best_epoch,
                "seconds_to_best": seconds_until(result, result.best_epoch),
                "epochs": result.epochs,
                "seconds": round(result.seconds, 2),
                "valid": result.best.ndcg_at_10,
                "test": judged(result.model, now),
                "epochs_to_colds_best": reached[0].number if reached else None,
                "curve": [epoch.ndcg_at_10 for epoch in result.curve],
            }
        )
        print(f"seed {seed}, {way}: {result}", flush=True)
    assert warm.warm_start is not None  # noqa: S101 – it fits
    rows[-1] |= {"items_kept": warm.warm_start.items_kept, "items_new": warm.warm_start.items_new}
    return rows


def kept(now: Prepared, train: Train, champion: Path) -> Recommender:
    """The champion, with rows for the items it does not know."""
    torch.manual_seed(train.seed)
    sizes = {"catalogue_size": now.item_count, "user_count": now.user_count, "max_history": train.max_history}
    model = build(MODEL, SETTINGS, **sizes)
    if not isinstance(model, Learner):
        raise TypeError("a model that learns by gradients is needed")
    WarmStart.plan(model, now, champion).carry(model)
    return model.eval()


def judged(model: Recommender, now: Prepared) -> float:
    """NDCG@10 in the test period."""
    train = Train.model_validate(TRAIN)
    return evaluate(model, now, "test", Evaluate(), train.max_history).means["ndcg_at_10"]


def seconds_until(result: FitResult, number: int) -> float:
    return round(sum(epoch.seconds for epoch in result.curve[:number]), 2)


def means(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Way → figure → its mean over the seeds, and its spread (standard deviation, of one seed none)."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for way in WAYS:
        own = [row for row in rows if row["way"] == way]
        for figure in FIGURES:
            values = [row[figure] for row in own if figure in row]
            if values:
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                found.setdefault(way, {})[figure] = {"mean": statistics.fmean(values), "spread": spread}
    return found


def show(content: dict[str, Any]) -> None:
    """What was measured, a line a way."""
    title = f"{content['data']}, {MODEL}, one thread of {machine()['cores']}; mean ± spread over seeds"
    table = Table("", *(name for name, _ in FIGURES.values()), title=title)
    for way, found in content["means"].items():
        cells = (
            f"{found[figure]['mean']:.{decimals}f} ± {found[figure]['spread']:.{decimals}f}" if figure in found else "–"
            for figure, (_, decimals) in FIGURES.items()
        )
        table.add_row(way, *cells)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
