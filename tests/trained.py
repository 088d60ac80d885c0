"""Small trained projects to register: prepared data made by hand, and models whose scores can be read off."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recloop.data.prepared import Prepared
from recloop.data.schema import TIMESTAMP
from recloop.evaluation import evaluate
from recloop.files import write_json
from recloop.models.catalogue import build, load_model
from recloop.models.popularity import Popularity
from recloop.project import Project
from recloop.registry.tracking import ensure_database

ROOT = Path(__file__).resolve().parent.parent

START = 1_700_000_000_000_000
DAY = 86_400_000_000

ITEMS = tuple("abcdefghijklmno")
"""Fifteen items, so that a list of ten leaves some out."""
USERS = {f"u{number:02}": ["a", "b", "c", "d"] for number in range(40)}
"""Everybody takes a, b, c and then d: the last is the test case, the one before it the validation case."""

PARAMS = """
source: {kind: movielens-100k}
zoo: [popularity]
train: {epochs: 2}
models:
  popularity: {half_life_days: null}
  mf: {dim: 4}
evaluate: {bootstrap: 200}
promotion: {min_users: 10, max_latency_ms: 5000}
"""


def make_project(root: Path) -> Project:
    """A project with params, prepared data, MLflow's empty database and no model."""
    project = Project(root)
    project.var.mkdir(parents=True)
    (root / "params.yaml").write_text(PARAMS)
    write_prepared(project.prepared)
    empty_registry(project)
    return project


def empty_registry(project: Project) -> None:
    """MLflow's database, with nothing in it yet."""
    shutil.copyfile(_empty_database(), project.var / "mlflow.db")


def _empty_database() -> Path:
    """MLflow's schema, made once and kept: it takes seconds."""
    path = ROOT / ".pytest_cache" / "recloop" / f"mlflow-{version('mlflow')}.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    ensure_database(path)
    return path


def write_prepared(
    folder: Path,
    *,
    users: Mapping[str, Sequence[str]] = USERS,
    items: Sequence[str] = ITEMS,
    watermark: int = 0,
) -> Prepared:
    """Prepared data: a user's events are a day apart, the last is of the test period, the one before of
    `valid`."""
    folder.mkdir(parents=True, exist_ok=True)
    code = {item: number for number, item in enumerate(items)}
    lengths = [len(history) for history in users.values()]
    ends = np.cumsum(lengths)
    starts = ends - lengths
    taken = np.array([code[item] for history in users.values() for item in history], np.int32)
    place = np.concatenate([np.arange(length) for length in lengths])
    from_end = np.concatenate([np.arange(length)[::-1] for length in lengths])
    periods = np.where(from_end == 0, 2, np.where(from_end == 1, 1, 0)).astype(np.int8)
    times = START + DAY * place
    pq.write_table(
        pa.table(
            {
                "user": pa.array(np.repeat(np.arange(len(users)), lengths), pa.int32()),
                "item": pa.array(taken),
                "event": pa.array(["purchase"] * len(taken)),
                "value": pa.array(np.ones(len(taken), np.float32)),
                "weight": pa.array(np.ones(len(taken), np.float32)),
                "timestamp": pa.array(times, pa.int64()).cast(TIMESTAMP),
                "period": pa.array(periods),
            }
        ),
        folder / "interactions.parquet",
    )
    pq.write_table(
        pa.table({"user_id": list(users), "start": pa.array(starts), "end": pa.array(ends)}),
        folder / "users.parquet",
    )
    counts = np.bincount(taken[periods == 0], minlength=len(items))
    pq.write_table(
        pa.table(
            {
                "item_id": list(items),
                "train_count": pa.array(counts),
                "title": [f"Item {item}" for item in items],
                "categories": pa.array([["letters"]] * len(items), pa.list_(pa.string())),
            }
        ),
        folder / "items.parquet",
    )
    cases = [(period, user, row) for period in (1, 2) for user, row in enumerate(ends - (3 - period))]
    period, user, row = zip(*cases, strict=True)
    pq.write_table(
        pa.table(
            {
                "period": pa.array(period, pa.int8()),
                "user": pa.array(user, pa.int32()),
                "position": pa.array(row, pa.int64()),
            }
        ),
        folder / "cases.parquet",
    )
    newest = np.datetime64(int(times.max()), "us").item().isoformat(timespec="microseconds") + "+00:00"
    meta = {
        "users": len(users),
        "items": len(items),
        "interactions": len(taken),
        "newest": newest,
        "feedback_watermark": watermark,
    }
    write_json(folder / "meta.json", meta)
    return Prepared.load(folder)


def write_model(project: Project, best: str, *, name: str = "popularity") -> None:
    """A trained model with its reports: popularity that puts the item `best` first, and the rest in their
    order.

    Asked for what comes after a, b, c, where d is right, `best="d"` has d first: NDCG@10 is 1. With
    `best="o"` the list is o, d, …: 1 / log2(3).
    """
    prepared = Prepared.load(project.prepared)
    model = build("popularity", {}, catalogue_size=prepared.item_count, user_count=prepared.user_count, max_history=100)
    assert isinstance(model, Popularity)
    scores = torch.arange(prepared.item_count, 0, -1, dtype=torch.float32)
    scores[prepared.item_ids.index(best)] = 100
    model.counts.copy_(scores)
    model.save(project.model(name))
    write_json(
        project.reports / "training" / f"{name}.json",
        {"best_epoch": 0, "epochs": 1, "valid": {"ndcg_at_10": 0.5}, "parameters": prepared.item_count},
    )
    curve = project.reports / "curves" / f"{name}.csv"
    curve.parent.mkdir(parents=True, exist_ok=True)
    curve.write_text("epoch,loss,ndcg_at_10\n0,,0.5\n")
    params = project.params
    judged = evaluate(load_model(project.model(name)), prepared, "test", params.evaluate, params.train.max_history)
    judged.save(project.reports, name, valid=project.reports / "training" / f"{name}.json")
    write_json(project.reports / "comparison.json", {"best": name})
