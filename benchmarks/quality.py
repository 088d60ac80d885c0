"""How good the models are: full ranking, leave-one-out, means over users and seeds with intervals.

    python -m benchmarks.quality --data FOLDER/Beauty.txt FOLDER/ml-1m.txt --models sasrec bsarec --seeds 0 1 2

Takes any file in the `sequences` form: its order is all the time it has, so ties in time stand as in the file. Where a
model has several settings in `quality.yaml`, all are trained with the first seed and the validation period chooses; the
test period is looked at once, with the chosen one. Every row is written as soon as it is there and not computed again
while the settings are the same, so a long run may be stopped and gone on with. `--table` prints what is there.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML

from benchmarks.data import leave_one_out
from benchmarks.report import RESULTS, machine, read, write
from recloop.config import Evaluate, Train
from recloop.data.prepared import Prepared
from recloop.evaluation import Evaluation, evaluate
from recloop.evaluation.bootstrap import interval
from recloop.evaluation.seeds import over_seeds
from recloop.training import FitResult, fit

SETTINGS = Path(__file__).parent / "quality.yaml"
JUDGED = Evaluate()
METRICS = ("recall_at_5", "ndcg_at_5", "recall_at_10", "ndcg_at_10")
LONG = 50
"""A data set whose histories are longer than this on average is read 200 events back, others 50: as the papers do."""


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--plan", type=Path, default=SETTINGS, help="which models, and their settings")
    plan: dict[str, Any] = YAML(typ="safe").load(told.parse_known_args()[0].plan)
    told.add_argument("--data", type=Path, nargs="+", default=[])
    told.add_argument(
        "--models", nargs="+", default=list(plan["models"]), choices=list(plan["models"]), metavar="MODEL"
    )
    told.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    told.add_argument("--threads", type=int, default=2)
    told.add_argument("--table", action="store_true", help="print what is there, and run nothing")
    told.add_argument("--markdown", action="store_true", help="the table as it stands in the README")
    given = told.parse_args()
    for path in [] if given.table or given.markdown else given.data:
        prepared = leave_one_out(path)
        for model, seed in itertools.product(given.models, given.seeds):
            ways = settings(plan["train"], plan["models"][model], prepared)
            row(path.stem, prepared, model, plan["models"][model].get("model", model), ways, seed, given.threads)
    show(markdown=given.markdown)


def settings(train: dict[str, Any], model: dict[str, Any], prepared: Prepared) -> list[dict[str, Any]]:
    """All the settings to try: each is `{"train": …, "model": …}`."""
    long = len(prepared.items) > LONG * prepared.user_count
    window = {"max_history": 200, "batch_tokens": 4096} if long else {"max_history": 50}
    fixed = {key: value for key, value in model.items() if key not in ("choose", "model")}
    choices = model.get("choose", {})
    return [
        {"train": train | window, "model": fixed | dict(zip(choices, values, strict=True))}
        for values in itertools.product(*choices.values())
    ]


def row(
    data: str, prepared: Prepared, model: str, kind: str, ways: list[dict[str, Any]], seed: int, threads: int
) -> None:
    """Train and judge, unless the row is there already.

    Args:
        model: what the row is called; most are called as their `kind` is in the catalogue.
    """
    digest = hashlib.sha256(json.dumps([ways, prepared.item_count, len(prepared.items)]).encode()).hexdigest()[:12]
    rows = read("quality").get("rows", [])
    known = [each for each in rows if (each["data"], each["model"], each["digest"]) == (data, model, digest)]
    if any(each["seed"] == seed for each in known):
        return
    started = time.perf_counter()
    ways = [known[0]["settings"]] if known else ways
    trained = [(learn(data, prepared, model, kind, way, seed, threads), way) for way in ways]
    found, way = max(trained, key=lambda each: each[0].best.ndcg_at_10)
    judged = evaluate(found.model, prepared, "test", JUDGED, way["train"]["max_history"])
    keep(data, model, digest, seed, judged)
    told = {
        "data": data,
        "model": model,
        "seed": seed,
        "time_ties": "file",
        **{metric: judged.means[metric] for metric in METRICS},
        **{f"{metric}_interval": list(bounds(judged.per_user[metric])) for metric in METRICS},
        "valid_ndcg_at_10": found.best.ndcg_at_10,
        "epochs": found.epochs,
        "best_epoch": found.best_epoch,
        "seconds_per_epoch": found.seconds / max(found.epochs, 1),
        "seconds": time.perf_counter() - started,
        "padding_share": found.padding_share,
        "parameters": found.parameters,
        "tried": [{"settings": each, "valid_ndcg_at_10": result.best.ndcg_at_10} for result, each in trained],
        "settings": way,
        "digest": digest,
        "hardware": machine()["cpu"],
    }
    stale = [each for each in rows if (each["data"], each["model"]) == (data, model) and each["digest"] != digest]
    rows = [each for each in read("quality").get("rows", []) if each not in stale]
    write("quality", {"rows": [*rows, told]})


def learn(
    data: str, prepared: Prepared, model: str, kind: str, way: dict[str, Any], seed: int, threads: int
) -> FitResult:
    print(f"{data}: {model}, seed {seed}, {json.dumps(way['model'])}", file=sys.stderr, flush=True)
    train = Train.model_validate(way["train"] | {"seed": seed, "threads": threads})
    checkpoint = RESULTS / "running" / f"{data}-{model}.safetensors"
    return fit(kind, prepared, train, JUDGED, way["model"], checkpoint=checkpoint)


def users_file(data: str, model: str, digest: str, seed: int) -> Path:
    return RESULTS / "users" / f"{data}-{model}-{digest}-{seed}.npz"


def keep(data: str, model: str, digest: str, seed: int, judged: Evaluation) -> None:
    """A number a user and metric, for means over seeds: too much for the report, but little when compressed."""
    path = users_file(data, model, digest, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{metric: judged.per_user[metric] for metric in METRICS})


def bounds(values: np.ndarray) -> tuple[float, float]:
    found = interval(values, samples=JUDGED.bootstrap, confidence=JUDGED.confidence, seed=JUDGED.seed)
    return found.low, found.high


HEAD = ("data", "model", "seeds", "Recall@10 [95%]", "NDCG@10 [95%]", "Recall@5", "NDCG@5", "epochs", "minutes")


def lines() -> list[list[str]]:
    """A line a data set and model, best first: means over users and seeds, and minutes of a training in all."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for each in read("quality").get("rows", []):
        groups.setdefault((each["data"], each["model"], each["digest"]), []).append(each)
    found = []
    for (data, model, digest), seeds in sorted(groups.items(), key=lambda group: (group[0][0], -mean(group[1]))):
        files = [users_file(data, model, digest, each["seed"]) for each in seeds]
        if all(file.exists() for file in files):
            over = over_seeds([dict(np.load(file)) for file in files], JUDGED)
            cells = [str(over[metric].interval) for metric in METRICS[2:]]
        else:
            cells = [f"{mean(seeds, metric):.4f}" for metric in METRICS[2:]]
        cells += [f"{mean(seeds, metric):.4f}" for metric in METRICS[:2]]
        minutes = np.mean([each["seconds_per_epoch"] * each["epochs"] / 60 for each in seeds])
        found.append([data, model, str(len(seeds)), *cells, f"{mean(seeds, 'epochs'):.0f}", f"{minutes:.1f}"])
    return found


def show(*, markdown: bool) -> None:
    """The table."""
    facts = read("quality").get("hardware", machine())
    note = f"Leave-one-out, full ranking, seen items left out. {facts['cores']} cores, {facts['cpu']}."
    if markdown:
        print("\n".join(f"| {' | '.join(line)} |" for line in [HEAD, ["---"] * len(HEAD), *lines()]), note, sep="\n\n")
        return
    table = Table(*HEAD)
    for line in lines():
        table.add_row(*line)
    console = Console(width=150)
    console.print(table)
    console.print(note)


def mean(rows: list[dict[str, Any]], key: str = "ndcg_at_10") -> float:
    return float(np.mean([row[key] for row in rows]))


if __name__ == "__main__":
    main()
