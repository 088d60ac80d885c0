"""Small packages to serve, with scores that can be read off: popularity's score of an item is its count, and where
items have vectors, those that point where the history's do have the highest, the longer the higher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recloop.files import sha256, write_json
from recloop.models.catalogue import build
from recloop.models.mf import MatrixFactorisation
from recloop.models.popularity import Popularity
from recloop.serving.parcel import package_sha256

COUNTS = {"a": 5.0, "b": 4.0, "c": 3.0, "d": 2.0, "e": 1.0}
HISTORIES: dict[str, list[str]] = {"ann": ["a"], "bob": ["b", "c"]}


def write_package(
    folder: Path,
    *,
    counts: Mapping[str, float] = COUNTS,
    histories: Mapping[str, Sequence[str]] = HISTORIES,
    watermark: int = 0,
    exclude_seen: bool = True,
    vectors: Sequence[Sequence[float]] | None = None,
    columns: Mapping[str, Any] | None = None,
    popular: Sequence[int] | None = None,
) -> Path:
    """Write a package whose model ranks items by `counts`; what is popular is the same backwards.

    Args:
        vectors: of the items; the model is then `mf`, and `counts` names the items only.
        columns: what else is known of the items.
        popular: item codes, instead of all backwards.
    """
    items = list(counts)
    sizes = {"catalogue_size": len(items), "user_count": len(histories), "max_history": 10}
    model = build("popularity", {}, **sizes) if vectors is None else build("mf", {"dim": len(vectors[0])}, **sizes)
    with torch.no_grad():
        if isinstance(model, Popularity):
            model.counts.copy_(torch.tensor(list(counts.values())))
        if isinstance(model, MatrixFactorisation):
            model.items.weight.copy_(torch.tensor(vectors))
    model.save(folder)
    titles = [f"Item {item}" for item in items]
    pq.write_table(pa.table({"item_id": items, "title": titles, **(columns or {})}), folder / "items.parquet")
    codes = [[items.index(item) for item in history] for history in histories.values()]
    times = [[1_700_000_000_000_000 + place for place in range(len(history))] for history in codes]
    users = pa.table(
        {
            "user_id": pa.array(list(histories), pa.string()),
            "items": pa.array(codes, pa.list_(pa.int32())),
            "times": pa.array(times, pa.list_(pa.int64())),
        }
    )
    pq.write_table(users, folder / "histories.parquet")
    write_json(
        folder / "package.json",
        {
            "format": 1,
            "model": model.name,
            "max_history": 10,
            "exclude_seen": exclude_seen,
            "feedback_watermark": watermark,
            "data_sha256": "d" * 64,
            "model_sha256": sha256(folder / "model.safetensors"),
            "newest": None,
            "popular": list(reversed(range(len(items)))) if popular is None else list(popular),
            "metrics": {"ndcg_at_10": 0.5},
        },
    )
    return folder


def point_at(
    live: Path,
    version: int,
    *,
    previous: int | None = None,
    sha256: str | None = None,
    pointer: str = "champion.json",
) -> None:
    """Make `version`, whose package is at `live/v<version>` (or missing), the one to serve."""
    package = live / f"v{version}"
    if sha256 is None:
        sha256 = package_sha256(package) if package.is_dir() else "0" * 64
    write_json(
        live / pointer,
        {
            "version": version,
            "folder": f"v{version}",
            "package_sha256": sha256,
            "since": "2026-01-01T00:00:00+00:00",
            "previous": previous,
            "reason": "it was better",
        },
    )
