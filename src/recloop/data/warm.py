"""The folder `data/warm`: the champion that a training may begin from, as of the last snapshot; or none.

    champion.json                   `model_sha256` and `learnt_until`, both null where there is none
    model.safetensors, model.json   the champion, as it is served
    items.parquet                   row = item code there: item_id
    users.parquet                   row = user code there: user_id

It is an output of the stage `warm`, so that DVC versions it like any other data, and a training that began from a
champion can be made again. The same champion gives the same bytes.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recloop.errors import StageError
from recloop.files import read_json, replace_folder, sha256, write_json

TOLD = "champion.json"
MODEL = ("model.safetensors", "model.json")
NONE = {"model_sha256": None, "learnt_until": None}
REMEDY = "`dvc checkout warm` brings it back; `recloop snapshot` takes the champion anew"


@dataclass(frozen=True)
class Champion:
    """A champion to begin from, but for its weights, which stay on the disk."""

    weights: Path
    model: str
    """Its name in the catalogue"""
    model_sha256: str
    """Of its weights: who it is"""
    learnt_until: int | None
    """Time of the newest event it learnt from, in µs since 1970; None where it was not time that parted what it learnt
    from what it was judged on"""
    item_ids: list[str]
    """Row = item code there"""
    user_ids: list[str]
    """Row = user code there"""


def read_champion(folder: Path) -> Champion | None:
    """The champion in `folder`; None where there is none.

    Raises:
        StageError: a part of it is missing or damaged.
    """
    told = read_json(folder / TOLD, remedy="`recloop warm` makes it anew, with no champion in it")
    if not isinstance(told, dict) or told.keys() != NONE.keys():
        raise StageError(f"{folder / TOLD} does not say what champion this is", remedy=REMEDY)
    if told["model_sha256"] is None:
        return None
    weights, description = (folder / name for name in MODEL)
    if not weights.is_file() or sha256(weights) != told["model_sha256"]:
        raise StageError(f"{weights} is not the champion that {TOLD} speaks of", remedy=REMEDY)
    return Champion(
        weights=weights,
        model=read_json(description, remedy=REMEDY)["name"],
        model_sha256=told["model_sha256"],
        learnt_until=told["learnt_until"],
        item_ids=_ids(folder / "items.parquet", "item_id"),
        user_ids=_ids(folder / "users.parquet", "user_id"),
    )


def write_champion(
    folder: Path, model: Path, *, item_ids: pa.ChunkedArray, user_ids: pa.ChunkedArray, learnt_until: int | None
) -> None:
    """Put a champion into `folder`, in the place of what is there.

    Args:
        folder: of the stage `warm`.
        model: a folder with the champion's model.
        item_ids: in the order of its item codes.
        user_ids: in the order of its user codes.
        learnt_until: as in `Champion`.
    """

    def fill(new: Path) -> None:
        for name in MODEL:
            shutil.copyfile(model / name, new / name)
        for name, ids in (("item", item_ids), ("user", user_ids)):
            table = pa.table({f"{name}_id": ids.combine_chunks().cast(pa.string())})
            pq.write_table(table, new / f"{name}s.parquet", compression="zstd")
        write_json(new / TOLD, {"model_sha256": sha256(new / MODEL[0]), "learnt_until": learnt_until})

    replace_folder(folder, fill)


def write_none(folder: Path) -> None:
    """Leave no champion in `folder`. (One file says so: of a folder without any DVC would warn whenever it runs.)"""
    replace_folder(folder, lambda new: write_json(new / TOLD, NONE))


def ensure_warm(folder: Path) -> str:
    """Make the folder, without a champion, where there is none; leave one that is there alone. Returns what it holds.

    Raises:
        StageError: the one that is there is damaged.
    """
    if not (folder / TOLD).exists():
        write_none(folder)
    champion = read_champion(folder)
    if champion is None:
        return f"no champion to begin from in {folder}"
    return f"a champion to begin from in {folder}, left as it is: its weights' sha256 is {champion.model_sha256}"


def _ids(path: Path, column: str) -> list[str]:
    try:
        ids: list[str] = pq.read_table(path, columns=[column])[column].to_pylist()
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        raise StageError(f"{path} is missing or damaged: {error}", remedy=REMEDY) from error
    return ids
