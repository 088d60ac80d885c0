"""The prepared data in memory: sequences are slices of one long table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recloop.config import Prepare, Split
from recloop.data.prepare import prepare
from recloop.data.prepared import Prepared, Ragged
from recloop.errors import StageError
from tests.gated import write_gated

# Two users, items by second; seconds 6 and 7 are for choosing on, 8 and 9 for judging on.
EVENTS = [("ann", item, at) for item, at in (("7", 0), ("8", 2), ("7", 4), ("9", 6), ("8", 8))] + [
    ("bob", item, at) for item, at in (("9", 1), ("8", 3), ("10", 5), ("7", 7), ("9", 9))
]
ANN, BOB = ["7", "8", "7", "9", "8"], ["9", "8", "10", "7", "9"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared")
    split = Split(valid_share=0.2, test_share=0.2)
    prepare(write_gated(root / "gated", EVENTS), root / "prepared", Prepare(), split)
    return root / "prepared"


@pytest.fixture
def data(folder: Path) -> Prepared:
    return Prepared.load(folder)


def ids(data: Prepared, ragged: Ragged) -> list[list[str]]:
    names = data.item_ids
    return [[names[item] for item in ragged[index]] for index in range(len(ragged))]


def test_ids_and_counts(data: Prepared) -> None:
    assert (data.user_count, data.item_count) == (2, 4)
    assert (data.user_ids, data.item_ids) == (["ann", "bob"], ["7", "8", "9", "10"])
    assert data.train_counts.tolist() == [2, 2, 1, 1]


def test_each_user_has_an_end_of_the_training_period(data: Prepared) -> None:
    assert data.train_ends.tolist() == [3, 8]


def test_histories_are_cut_from_the_front(data: Prepared) -> None:
    assert ids(data, data.full_histories(1)) == [["8"], ["9"]]
    assert ids(data, data.case_histories("test", 3)) == [ANN[1:4], BOB[1:4]]


def test_a_case_is_predicted_from_everything_before_it(data: Prepared) -> None:
    assert ids(data, data.case_histories("valid")) == [ANN[:3], BOB[:3]]
    assert ids(data, data.case_histories("test")) == [ANN[:4], BOB[:4]]
    assert [data.item_ids[item] for item in data.targets("test")] == ["8", "9"]
    assert data.cases["test"].users.tolist() == [0, 1]


def test_types_are_the_documented_ones(data: Prepared) -> None:
    arrays = (data.items, data.weights, data.timestamps, data.periods, data.starts, data.ends)
    assert [array.dtype for array in arrays] == [np.int32, np.float32, np.int64, np.int8, np.int64, np.int64]
    assert data.timestamps[:3].tolist() == [0, 2_000_000, 4_000_000]
    assert data.full_histories().values.dtype == np.int32
    assert data.full_histories().offsets.dtype == np.int64
    assert data.cases["valid"].positions.dtype == np.int64


def test_ragged_holds_sequences_of_any_length_none_included() -> None:
    ragged = Ragged.of([[3, 1], [], [2]])
    assert len(ragged) == 3
    assert [ragged[index].tolist() for index in range(3)] == [[3, 1], [], [2]]
    assert len(Ragged.of([])) == 0


def test_slices_may_be_empty_and_may_overlap() -> None:
    values = np.arange(10, 20, dtype=np.int32)
    ragged = Ragged.slices(values, np.array([0, 4, 2]), np.array([3, 4, 5]))
    assert [ragged[index].tolist() for index in range(3)] == [[10, 11, 12], [], [12, 13, 14]]
    assert len(Ragged.slices(values, np.array([], np.int64), np.array([], np.int64))) == 0


@pytest.mark.parametrize(
    "name", ["interactions.parquet", "users.parquet", "items.parquet", "cases.parquet", "meta.json"]
)
def test_a_file_that_is_missing_or_damaged_is_named_with_the_remedy(folder: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "prepared"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / name).write_bytes((copy / name).read_bytes()[:-20])
    with pytest.raises(StageError, match=rf"{name} is damaged: (?s:.*)`dvc repro prepare`"):
        Prepared.load(copy)
    (copy / name).unlink()
    with pytest.raises(StageError, match=rf"{name} is missing\n.*`dvc repro prepare`"):
        Prepared.load(copy)
