"""What the servers serve: a package of a small trained SASRec, or of one with a million items that nobody trained.

    python -m benchmarks.servers.package FOLDER --data FILE [--epochs 3]
    python -m benchmarks.servers.package FOLDER --items 1000000 [--users 20000]

How quick an answer is does not rest on how good it is, so a few epochs will do; and for a catalogue that is too large
to train on here the vectors are drawn, spread as those of a trained model are: an index finds its way among vectors
that stand in groups, and would be judged wrongly on vectors that stand anywhere.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.data import leave_one_out
from recloop.config import Evaluate, Train
from recloop.data.prepared import Ragged
from recloop.files import replace_folder, sha256, write_json
from recloop.models.base import Recommender
from recloop.models.catalogue import build
from recloop.models.sequence import SequenceModel
from recloop.serving.parcel import PackageInfo, read_parcel
from recloop.training import fit

MODEL = {"dim": 64, "blocks": 2, "heads": 1, "dropout": 0.5}
MAX_HISTORY = 50
TRAIN = {"lr": 0.002, "batch_tokens": 2048, "max_history": MAX_HISTORY, "device": "cpu"}
POPULAR = 1000

NORM, NORM_SPREAD = 0.46, 0.24
"""An item vector's length: the median, and the deviation of its logarithm."""
COMMON = 0.85
"""How much of a direction all groups share, of one that is a group's own: two items' cosine is 0.25 on average."""
SPREAD = 0.83
"""How far items lie from the middle of their group: their cosine with it is 0.77."""
DECAY = 0.8
"""Variance along the axes falls with the number of the axis to this power: 64 count as much as 24 equal ones."""
INTERESTS = 3
"""Groups that a user deals with."""
NEWEST = 1_750_000_000_000_000
"""When the drawn histories end, in µs since 1970."""
STEP = 3_600_000_000
"""µs between a drawn history's events."""


def make_package(sequences_file: Path, folder: Path, *, epochs: int = 3) -> Path:
    """Train SASRec on a file in the `sequences` form, and write the whole package to `folder`, replacing what is there.

    Raises:
        SourceError: the file is missing, or not of that form.
    """
    prepared = leave_one_out(sequences_file)
    train = Train.model_validate(TRAIN | {"epochs": epochs, "patience": epochs, "seed": 0})
    model = fit("sasrec", prepared, train, Evaluate(), MODEL).model
    histories = prepared.full_histories()
    return _write(folder, model, prepared.item_ids, prepared.user_ids, histories, digest=sha256(sequences_file))


def make_large_package(
    folder: Path, *, items: int = 1_000_000, users: int = 20_000, seed: int = 0, groups: int = 2000
) -> Path:
    """Write a package of SASRec with drawn item vectors and histories to `folder`; the same numbers give the same one.

    Args:
        folder: replaced if it is there.
        items: how many; ids are their codes.
        users: how many; ids are their codes.
        seed: of all that is drawn.
        groups: of items that are alike.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model = build("sasrec", MODEL, catalogue_size=items, user_count=users, max_history=MAX_HISTORY).eval()
    assert isinstance(model, SequenceModel)  # noqa: S101 (for the type checker)
    shares = rng.lognormal(0.0, 0.7, groups)
    group_of = rng.choice(groups, items, p=shares / shares.sum())
    with torch.no_grad():
        model.items.weight[:-1] = torch.from_numpy(_vectors(group_of, groups, model.items.embedding_dim, rng))
    histories = _histories(group_of, groups, users, rng)
    digest = hashlib.sha256(f"drawn: {items} items, {users} users, {groups} groups, seed {seed}".encode()).hexdigest()
    return _write(folder, model, [*map(str, range(items))], [*map(str, range(users))], histories, digest=digest)


def _vectors(group_of: np.ndarray, groups: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """float32 [items, width]: as those of a SASRec that was trained on Amazon's Beauty, whose figures stand above."""
    axes = np.linalg.qr(rng.standard_normal((width, width)))[0].astype(np.float32)
    axes *= (np.arange(1, width + 1, dtype=np.float32) ** (-DECAY / 2))[:, None]

    def directions(count: int) -> np.ndarray:
        return _units(rng.standard_normal((count, width), np.float32) @ axes)

    centres = _units(directions(groups) + COMMON * directions(1))
    vectors = _units(centres[group_of] + SPREAD * directions(len(group_of)))
    vectors *= rng.lognormal(np.log(NORM), NORM_SPREAD, (len(group_of), 1)).astype(np.float32)
    return vectors


def _histories(group_of: np.ndarray, groups: int, users: int, rng: np.random.Generator) -> Ragged:
    """What users dealt with: items of a few groups each, in each group some far more often than others."""
    by_group = np.argsort(group_of, kind="stable")
    sizes = np.bincount(group_of, minlength=groups)
    starts = np.cumsum(sizes) - sizes
    liked = group_of[rng.integers(len(group_of), size=(users, INTERESTS))]
    lengths = np.clip(rng.lognormal(np.log(12), 0.8, users).astype(np.int64), 3, 300)
    owners = np.repeat(np.arange(users), lengths)
    group = liked[owners, rng.integers(INTERESTS, size=len(owners))]
    place = (sizes[group] * rng.random(len(owners)) ** 3).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    before = offsets[1:][owners] - np.arange(len(owners))
    return Ragged(by_group[starts[group] + place].astype(np.int32), offsets, NEWEST - STEP * before)


def _write(
    folder: Path, model: Recommender, item_ids: list[str], user_ids: list[str], histories: Ragged, *, digest: str
) -> Path:
    """Write the parts, and read them as the endpoint does."""
    assert histories.times is not None  # noqa: S101 (for the type checker)
    counts = np.bincount(histories.values, minlength=len(item_ids))
    popular = np.argsort(-counts, kind="stable")[:POPULAR]
    popular = popular[counts[popular] > 0]
    items = pa.table({"item_id": item_ids, "title": [f"Item {item_id}" for item_id in item_ids]})
    offsets = pa.array(histories.offsets, pa.int32())
    users = pa.table(
        {
            "user_id": pa.array(user_ids, pa.string()),
            "items": pa.ListArray.from_arrays(offsets, pa.array(histories.values, pa.int32())),
            "times": pa.ListArray.from_arrays(offsets, pa.array(histories.times, pa.int64())),
        }
    )

    def fill(new: Path) -> None:
        model.save(new)
        pq.write_table(items, new / "items.parquet", compression="zstd")
        pq.write_table(users, new / "histories.parquet", compression="zstd")
        info = PackageInfo(
            format=1,
            model=model.name,
            max_history=model.max_history,
            exclude_seen=True,
            feedback_watermark=0,
            data_sha256=digest,
            model_sha256=sha256(new / "model.safetensors"),
            popular=tuple(popular.tolist()),
            popular_counts=tuple(counts[popular].tolist()),
        )
        write_json(new / "package.json", info.model_dump(mode="json"))

    replace_folder(folder, fill)
    read_parcel(folder)
    return folder


def _units(vectors: np.ndarray) -> np.ndarray:
    units: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("folder", type=Path)
    what = told.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=Path, help="a file in the `sequences` form, to train on")
    what.add_argument("--items", type=int, help="a catalogue of so many, drawn")
    told.add_argument("--epochs", type=int, default=3)
    told.add_argument("--users", type=int, default=20_000)
    given = told.parse_args()
    if given.data is not None:
        make_package(given.data, given.folder, epochs=given.epochs)
    else:
        make_large_package(given.folder, items=given.items, users=given.users)


if __name__ == "__main__":
    main()
