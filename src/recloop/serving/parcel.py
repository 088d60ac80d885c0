"""The package on disk: what a model needs to answer requests, in one folder, without pickle.

model.safetensors, model.json   the trained model
items.parquet                   row = item code: item_id, title, …
histories.parquet               row = user code: user_id, items (codes, oldest first), times (µs since 1970)
package.json                    `PackageInfo`
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recloop.data.prepared import Ragged
from recloop.errors import ServingError
from recloop.files import sha256

REMEDY = "`recloop deploy` writes the champion's package anew"

PACKAGE_FILES = ("histories.parquet", "items.parquet", "model.json", "model.safetensors", "package.json")


class PackageInfo(BaseModel):
    """`package.json`."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    format: Literal[1]
    model: str
    """The model's name in the catalogue."""
    max_history: int = Field(ge=1)
    """The model reads this many of a history's last events; seen is all of it."""
    exclude_seen: bool
    feedback_watermark: int = Field(ge=0)
    """`seq` of the last event of the endpoint that is in `histories.parquet`; 0 if none is."""
    data_sha256: str
    model_sha256: str
    newest: str | None = None
    """Time of the newest event it knows."""
    popular: tuple[int, ...]
    """Item codes, what was most popular lately first."""
    popular_counts: tuple[int, ...] = ()
    """How many events each of them had then; empty in a package that does not say"""
    metrics: dict[str, Any] = {}


@dataclass(frozen=True)
class Parcel:
    """A package in memory, all but the model."""

    info: PackageInfo
    item_ids: list[str]
    """Row = item code."""
    titles: list[str | None]
    items: pa.Table
    """Row = item code: all that is known of the items."""
    user_ids: list[str]
    """Row = user code."""
    histories: Ragged
    """Row = user code: item codes, oldest first."""


def read_parcel(folder: Path) -> Parcel:
    """Read a package and check that its parts belong together.

    Raises:
        ServingError: a part is missing, damaged, of another format, or does not fit the others.
    """
    info = _read_info(folder / "package.json")
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise ServingError(f"{weights} is missing", remedy=REMEDY)
    if sha256(weights) != info.model_sha256:
        raise ServingError(
            f"{weights} is not the model that package.json speaks of: its checksum differs", remedy=REMEDY
        )
    items = _read_table(folder / "items.parquet", "item_id")
    users = _read_table(folder / "histories.parquet", "user_id", "items", "times")
    item_ids: list[Any] = items["item_id"].to_pylist()
    user_ids: list[Any] = users["user_id"].to_pylist()
    titles: list[Any] = items["title"].to_pylist() if "title" in items.column_names else [None] * len(item_ids)
    parcel = Parcel(info, item_ids, titles, items, user_ids, _ragged(users["items"], users["times"]))
    if parcel.histories.times is None or len(parcel.histories.times) != len(parcel.histories.values):
        raise ServingError(f"{folder / 'histories.parquet'} has other times than items", remedy=REMEDY)
    for name, codes in (
        ("histories.parquet", parcel.histories.values),
        ("package.json", np.asarray(info.popular)),
    ):
        if len(codes) and not 0 <= codes.min() <= codes.max() < len(item_ids):
            raise ServingError(f"{folder / name} names items that items.parquet does not have", remedy=REMEDY)
    return parcel


def package_sha256(folder: Path) -> str:
    """The package's identity: the hash of its files, and of nothing else that may lie beside them."""
    digest = hashlib.sha256()
    for name in PACKAGE_FILES:
        digest.update(f"{name}\0{sha256(folder / name)}\n".encode())
    return digest.hexdigest()


def check_package(folder: Path, expected: str) -> None:
    """Make sure that `folder` holds the package whose `package_sha256` is `expected`.

    Raises:
        ServingError: it does not.
    """
    try:
        found = package_sha256(folder)
    except OSError as error:
        raise ServingError(f"{error.filename} cannot be read: {error.strerror}", remedy=REMEDY) from error
    if found != expected:
        raise ServingError(f"{folder} is not the package that was deployed: its checksum differs", remedy=REMEDY)


def _read_info(path: Path) -> PackageInfo:
    try:
        return PackageInfo.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise ServingError(f"{path} is missing", remedy=REMEDY) from error
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise ServingError(
            f"{path} is not what it should be: {place or 'content'}: {fault['msg']}", remedy=REMEDY
        ) from error


def _read_table(path: Path, *columns: str) -> pa.Table:
    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise ServingError(f"{path} is missing", remedy=REMEDY) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise ServingError(f"{path} is damaged: {error}", remedy=REMEDY) from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise ServingError(f"{path} has no column {missing[0]}", remedy=REMEDY)
    return table


def _ragged(items: Any, times: Any) -> Ragged:
    """Chunked arrays of lists: of item codes, and of their times."""
    lists = items.combine_chunks()
    lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return Ragged(
        lists.flatten().to_numpy(zero_copy_only=False).astype(np.int32),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        times.combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.int64),
    )
