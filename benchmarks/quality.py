"""How good the models are: full ranking, leave-one-out, means over users and seeds with intervals.

    python -m benchmarks.quality --data FOLDER/Beauty.txt FOLDER/ml-1m.txt --models sasrec bsarec --seeds 0 1 2

Takes any file in the `sequences` form: its order is all the time it has, so ties in time stand as in the file. Takes
MovieLens' `ratings.csv` too, which has times: there a user's events at one time are put in one order and in the other,
and figures that differ rest on an order that nobody observed. The settings stand in `quality.yaml`; the epoch is
chosen on the validation period, and the test period is looked at once. Every row is written as soon as it is there and
not computed again while data and settings are the same, so a long run may be stopped and gone on with, and several
processes may run side by side. `--table` prints what is there.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from benchmarks.command import command
from benchmarks.data import has_times, leave_one_out, name_of
from benchmarks.report import COMMIT, RESULTS, ROOT, machine, read, write
from recloop.config import Evaluate, TimeTies, Train, validated
from recloop.data.prepared import Prepared
from recloop.errors import ConfigError
from recloop.evaluation import Evaluation, evaluate
from recloop.evaluation.bootstrap import interval
from recloop.evaluation.seeds import over_seeds
from recloop.models.base import ModelConfig
from recloop.models.catalogue import model_config
from recloop.training import fit

SETTINGS = Path(__file__).parent / "quality.yaml"
RUNNING = RESULTS / "running"
ORDERS: tuple[TimeTies, ...] = ("forward", "reversed")
JUDGED = Evaluate()
METRICS = ("recall_at_5", "ndcg_at_5", "recall_at_10", "ndcg_at_10")
LONG = 50
"""A data set whose histories are longer than this on average is trained as `long`, others as `short`."""


@dataclass(frozen=True)
class Run:
    """What a row is of."""

    data: str
    model: str
    """What the row is called; most are called as their kind in the catalogue."""
    time_ties: Literal["file", TimeTies]
    """`file`: the data has an order and no times."""
    seed: int

    def __str__(self) -> str:
        return f"{self.data}-{self.model}-{self.time_ties}-{self.seed}"

    def seeds_in(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows that differ in the seed at most, or in what was found."""
        key = (self.data, self.model, self.time_ties)
        return [row for row in rows if (row["data"], row["model"], row["time_ties"]) == key]


@command
def main() -> None:
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--plan", type=Path, default=SETTINGS, help="which models, and their settings")
    plan = read_plan(first.parse_known_args()[0].plan)
    told = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, parents=[first]
    )
    told.add_argument("--data", type=Path, nargs="+", default=[], metavar="FILE", help="see above")
    told.add_argument(
        "--models",
        nargs="+",
        default=list(plan["models"]),
        choices=list(plan["models"]),
        metavar="MODEL",
        help=f"of the plan; all by default: {', '.join(plan['models'])}",
    )
    told.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="a training for each (0 1 2)")
    told.add_argument("--threads", type=int, default=2, help="of a training (2)")
    told.add_argument("--table", action="store_true", help="print what is there, and run nothing")
    told.add_argument("--markdown", action="store_true", help="the table as it stands in docs/benchmarks.md")
    given = told.parse_args()
    for path in [] if given.table or given.markdown else given.data:
        for order in ORDERS if has_times(path) else ORDERS[:1]:
            prepared = leave_one_out(path, order)
            for model, seed in itertools.product(given.models, given.seeds):
                run = Run(name_of(path), model, order if has_times(path) else "file", seed)
                row(
                    run,
                    prepared,
                    plan["models"][model].get("model", model),
                    settings(plan, model, prepared),
                    given.threads,
                )
    show(plan["models"], markdown=given.markdown)


def read_plan(path: Path) -> dict[str, Any]:
    """Which models are trained, and how.

    Raises:
        ConfigError: the file is missing, or is no plan.
    """
    remedy = f"--plan is to name a file such as {SETTINGS.relative_to(ROOT)}"
    try:
        plan = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", remedy=remedy) from error
    if not isinstance(plan, dict) or not {"train", "short", "long", "models"} <= plan.keys():
        raise ConfigError(f"{path} does not say which models are trained, and how", remedy=remedy)
    return plan


def settings(plan: dict[str, Any], model: str, prepared: Prepared) -> dict[str, Any]:
    """What the model is trained with on this data: `{"train": …, "model": …}`."""
    long = len(prepared.items) > LONG * prepared.user_count
    window = dict(plan["long" if long else "short"])
    dropout = window.pop("dropout")

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(each) for key, each in value.items()}
        if isinstance(value, list):
            return [filled(each) for each in value]
        return dropout if value == "by length" else value

    own = {key: value for key, value in plan["models"][model].items() if key != "model"}
    return {"train": plan["train"] | window, "model": filled(own)}


def row(run: Run, prepared: Prepared, kind: str, how: dict[str, Any], threads: int) -> None:
    """Train and judge a model of the catalogue's `kind`, unless the row is there already."""
    train = validated(Train, how["train"] | {"seed": run.seed, "threads": threads}, where="train")
    digest = digest_of(train, model_config(kind, how["model"]), prepared)
    known = [each for each in run.seeds_in(stored().get("rows", [])) if each["digest"] == digest]
    if any(each["seed"] == run.seed for each in known):
        return
    started = time.perf_counter()
    print(f"{run}: {json.dumps(how['model'])}", file=sys.stderr, flush=True)
    checkpoint = RUNNING / f"{run}.safetensors"
    found = fit(kind, prepared, train, JUDGED, how["model"], checkpoint=checkpoint)
    judged = evaluate(found.model, prepared, "test", JUDGED, train.max_history)
    users = users_file(run, digest)
    keep(users, judged)
    told = {
        **asdict(run),
        **{metric: judged.means[metric] for metric in METRICS},
        **{f"{metric}_interval": list(bounds(judged.per_user[metric])) for metric in METRICS},
        "valid_ndcg_at_10": found.best.ndcg_at_10,
        "epochs": found.epochs,
        "best_epoch": found.best_epoch,
        "seconds_per_epoch": found.seconds / max(found.epochs, 1),
        "seconds": time.perf_counter() - started,
        "padding_share": found.padding_share,
        "parameters": found.parameters,
        "settings": how,
        "digest": digest,
        "hardware": machine()["cpu"],
        "commit": COMMIT,
    }
    with alone():
        rows = read("quality").get("rows", [])
        for old in users.parent.glob(f"{run}-*.npz"):
            if old != users:
                old.unlink()
        gone = [each for each in run.seeds_in(rows) if each["digest"] != digest or each["seed"] == run.seed]
        write("quality", {"rows": [*(each for each in rows if each not in gone), told]})
    checkpoint.unlink(missing_ok=True)


def digest_of(train: Train, model: ModelConfig, prepared: Prepared) -> str:
    """Of all settings and the data: where any is another, rows are made anew."""
    settings = [train.model_dump(mode="json", exclude={"seed", "threads", "warm_start"})]  # there is no champion here
    settings += [model.model_dump(mode="json"), JUDGED.model_dump(mode="json")]
    content = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for array in (prepared.items, prepared.periods, prepared.starts, prepared.timestamps):
        content.update(array.tobytes())
    return content.hexdigest()[:12]


def stored() -> dict[str, Any]:
    with alone():
        return read("quality")


@contextmanager
def alone() -> Iterator[None]:
    """Meanwhile no other process reads or writes the rows."""
    RUNNING.mkdir(parents=True, exist_ok=True)
    with (RUNNING / "quality.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def users_file(run: Run, digest: str) -> Path:
    return RESULTS / "users" / f"{run}-{digest}.npz"


def keep(path: Path, judged: Evaluation) -> None:
    """A number a user and metric, for means over seeds: too much for the report, but little when compressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{metric: judged.per_user[metric] for metric in METRICS})


def bounds(values: np.ndarray) -> tuple[float, float]:
    found = interval(values, samples=JUDGED.bootstrap, confidence=JUDGED.confidence, seed=JUDGED.seed)
    return found.low, found.high


HEAD = ("data", "ties", "model", "seeds", "Recall@10 [95%]", "NDCG@10 [95%]", "Recall@5", "NDCG@5", "epochs", "minutes")


def lines(models: Collection[str]) -> list[list[str]]:
    """A line a data set, order of ties and model, best first: means over users and seeds, and minutes of a training."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for each in stored().get("rows", []):
        if each["model"] in models:
            groups.setdefault((each["data"], each["time_ties"], each["model"]), []).append(each)
    found = []
    for (data, ties, model), seeds in sorted(groups.items(), key=lambda group: (*group[0][:2], -mean(group[1]))):
        files = [users_file(Run(data, model, each["time_ties"], each["seed"]), each["digest"]) for each in seeds]
        if all(file.exists() for file in files):
            over = over_seeds([dict(np.load(file)) for file in files], JUDGED)
            cells = [str(over[metric].interval) for metric in METRICS[2:]]
        else:
            cells = [f"{mean(seeds, metric):.4f}" for metric in METRICS[2:]]
        cells += [f"{mean(seeds, metric):.4f}" for metric in METRICS[:2]]
        minutes = np.mean([each["seconds_per_epoch"] * each["epochs"] / 60 for each in seeds])
        found.append([data, ties, model, str(len(seeds)), *cells, f"{mean(seeds, 'epochs'):.0f}", f"{minutes:.1f}"])
    return found


def show(models: Collection[str], *, markdown: bool) -> None:
    """The table of a plan's models."""
    facts = stored().get("hardware", machine())
    kinds = sorted({row["hardware"] for row in stored().get("rows", []) if row["model"] in models})
    note = f"Leave-one-out, full ranking, seen items left out. {facts['cores']} cores; {'; '.join(kinds)}."
    if markdown:
        print(
            "\n".join(f"| {' | '.join(line)} |" for line in [HEAD, ["---"] * len(HEAD), *lines(models)]),
            note,
            sep="\n\n",
        )
        return
    table = Table(*HEAD)
    for line in lines(models):
        table.add_row(*line)
    console = Console(width=150)
    console.print(table)
    console.print(note)


def mean(rows: list[dict[str, Any]], key: str = "ndcg_at_10") -> float:
    return float(np.mean([row[key] for row in rows]))


if __name__ == "__main__":
    main()
