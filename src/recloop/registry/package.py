"""The package: all that it takes to serve one model, in one folder, without a pickle and without its project.

    model.safetensors, model.json   the trained model
    items.parquet                   row = item code: item_id, train_count, title, categories, attributes
    histories.parquet               row = user code: user_id, items (codes) and times (µs since 1970) of all events
    package.json                    `PackageInfo`

`serving/parcel.py` reads it. The same prepared data, model and params give the same bytes.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recloop.data.prepared import Prepared, Ragged
from recloop.errors import StageError
from recloop.files import read_json, replace_folder, sha256, write_json
from recloop.project import Project
from recloop.serving.parcel import PackageInfo, Parcel, package_sha256, read_parcel

POPULAR_ITEMS = 1000
POPULAR_DAYS = 30
EXAMPLE_ITEMS = 3


@dataclass(frozen=True)
class Package:
    """A package on disk, read and found whole."""

    folder: Path
    parcel: Parcel

    @property
    def model(self) -> str:
        return self.parcel.info.model

    @property
    def sha256(self) -> str:
        return package_sha256(self.folder)

    def example_history(self) -> list[str]:
        """A few of the most popular items: an input that any model of this catalogue can answer."""
        return [self.parcel.item_ids[code] for code in self.parcel.info.popular[:EXAMPLE_ITEMS]]

    @classmethod
    def load(cls, folder: Path) -> Package:
        """Read the package at `folder`.

        Raises:
            ServingError: a part is missing or damaged, or does not fit the others.
        """
        return cls(folder, read_parcel(folder))


def build_package(project: Project, model: str, target: Path) -> Package:
    """Write the package of the trained model `model` to `target`, whole, replacing what is there.

    Raises:
        StageError: the model, its evaluation or the prepared data is missing.
    """
    trained = project.model(model)
    for name in ("model.safetensors", "model.json"):
        if not (trained / name).is_file():
            raise StageError(f"{trained / name} is missing", remedy=f"`dvc repro train@{model}` trains it")
    prepared = Prepared.load(project.prepared)
    params = project.params
    popular, popular_counts = popular_items(prepared)
    info = PackageInfo(
        format=1,
        model=model,
        max_history=params.train.max_history,
        exclude_seen=params.evaluate.exclude_seen,
        feedback_watermark=prepared.meta["feedback_watermark"],
        data_sha256=sha256(project.prepared),
        model_sha256=sha256(trained / "model.safetensors"),
        newest=prepared.meta["newest"],
        popular=popular,
        popular_counts=popular_counts,
        metrics=evaluation_means(project, model),
    )

    def fill(folder: Path) -> None:
        shutil.copyfile(trained / "model.safetensors", folder / "model.safetensors")
        shutil.copyfile(trained / "model.json", folder / "model.json")
        pq.write_table(prepared.item_table, folder / "items.parquet", compression="zstd")
        # All of them: a model reads the last `max_history`, but nothing that was seen is recommended again.
        histories = _histories(prepared.user_ids, prepared.full_histories())
        pq.write_table(histories, folder / "histories.parquet", compression="zstd")
        write_json(folder / "package.json", info.model_dump(mode="json"))

    replace_folder(target, fill)
    return Package.load(target)


def popular_items(prepared: Prepared) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Codes of the items with the most events in the last 30 days of the data, ties by the lower code; and how many.

    Data without times counts as a whole. Items without an event there are not popular.
    """
    items = prepared.items
    if prepared.meta["newest"] is not None and len(items):
        since = prepared.timestamps.max() - POPULAR_DAYS * 86_400_000_000
        items = items[prepared.timestamps > since]
    counts = np.bincount(items, minlength=prepared.item_count)
    order = np.argsort(-counts, kind="stable")[:POPULAR_ITEMS]
    order = order[counts[order] > 0]
    return tuple(order.tolist()), tuple(counts[order].tolist())


def evaluation_means(project: Project, model: str) -> dict[str, float]:
    """Metric → its mean over the test period, from the report of the stage `evaluate`."""
    content = read_json(
        project.reports / "evaluation" / f"{model}.json", remedy=f"`dvc repro evaluate@{model}` writes it"
    )
    means: dict[str, float] = {}
    for name, value in content.items():
        figure: Any = value.get("mean") if isinstance(value, dict) else value
        if isinstance(figure, int | float) and name not in ("users", "cases"):
            means[name] = float(figure)
    return means


def _histories(user_ids: list[str], histories: Ragged) -> pa.Table:
    offsets = pa.array(histories.offsets, pa.int64())
    lists = pa.LargeListArray.from_arrays(offsets, pa.array(histories.values, pa.int32()))
    times = pa.LargeListArray.from_arrays(offsets, pa.array(histories.times, pa.int64()))
    return pa.table(
        {
            "user_id": pa.array(user_ids, pa.string()),
            "items": lists.cast(pa.list_(pa.int32())),
            "times": times.cast(pa.list_(pa.int64())),
        }
    )
