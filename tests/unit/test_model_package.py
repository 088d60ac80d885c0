"""The package: all that serving needs, the same bytes every time."""

from __future__ import annotations

from pathlib import Path

import pytest

from recloop.data.prepared import Prepared
from recloop.errors import StageError
from recloop.files import sha256
from recloop.project import Project
from recloop.registry.package import build_package, popular_items
from recloop.serving.parcel import PACKAGE_FILES, package_sha256
from tests.trained import ITEMS, make_project, write_model, write_prepared


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = make_project(tmp_path / "project")
    write_model(project, "d")
    return project


def test_a_package_holds_the_catalogue_everybodys_history_and_where_it_came_from(
    project: Project, tmp_path: Path
) -> None:
    parcel = build_package(project, "popularity", tmp_path / "package").parcel

    assert parcel.item_ids == list(ITEMS)
    assert parcel.titles[0] == "Item a"
    assert len(parcel.user_ids) == 40
    assert parcel.histories[0].tolist() == [0, 1, 2, 3]  # a, b, c, d: all periods
    assert parcel.info.model == "popularity"
    assert parcel.info.data_sha256 == sha256(project.prepared)
    assert parcel.info.newest == "2023-11-17T22:13:20.000000+00:00"
    assert parcel.info.metrics["ndcg_at_10"] == pytest.approx(1.0)
    assert "users" not in parcel.info.metrics


def test_the_same_inputs_give_the_same_bytes_and_nothing_but_the_package_counts(
    project: Project, tmp_path: Path
) -> None:
    one = build_package(project, "popularity", tmp_path / "one")
    two = build_package(project, "popularity", tmp_path / "two")
    assert sorted(path.name for path in one.folder.iterdir()) == sorted(PACKAGE_FILES)
    assert all((one.folder / name).read_bytes() == (two.folder / name).read_bytes() for name in PACKAGE_FILES)

    (two.folder / "MLmodel").write_text("beside it")
    assert package_sha256(one.folder) == package_sha256(two.folder)
    (two.folder / "items.parquet").write_bytes(b"other")
    assert package_sha256(one.folder) != package_sha256(two.folder)


def test_histories_are_whole_though_the_model_looks_at_their_ends_only(project: Project, tmp_path: Path) -> None:
    params = project.root / "params.yaml"
    params.write_text(params.read_text().replace("epochs: 2", "max_history: 2"))

    parcel = build_package(Project(project.root), "popularity", tmp_path / "package").parcel

    assert parcel.info.max_history == 2
    assert parcel.histories[0].tolist() == [0, 1, 2, 3]  # all of it has been seen, and is not recommended again


def test_what_is_popular_is_what_was_taken_in_the_last_thirty_days(tmp_path: Path) -> None:
    # Events are a day apart: b's fall 30 and more days before the last one, c's and a's within.
    users = {"u": ["b", "b", "b", *["c"] * 20, *["a"] * 10]}
    prepared = write_prepared(tmp_path / "prepared", users=users, items=("a", "b", "c", "d"))
    assert popular_items(prepared) == ((2, 0), (20, 10))  # c 20 times, a 10 times; d never

    timeless = Prepared(**{**vars(prepared), "meta": {**prepared.meta, "newest": None}})
    assert popular_items(timeless) == ((2, 0, 1), (20, 10, 3))


def test_ties_in_popularity_go_to_the_lower_code(tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "prepared", users={"u": ["c", "a", "b"]}, items=("a", "b", "c"))

    assert popular_items(prepared) == ((0, 1, 2), (1, 1, 1))


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [
        ("models/popularity/model.safetensors", "dvc repro train@popularity"),
        ("models/popularity/model.json", "dvc repro train@popularity"),
        ("reports/evaluation/popularity.json", "dvc repro evaluate@popularity"),
        ("data/prepared/items.parquet", "dvc repro prepare"),
    ],
)
def test_a_missing_part_is_named_with_the_stage_that_makes_it(
    project: Project, tmp_path: Path, missing: str, remedy: str
) -> None:
    (project.root / missing).unlink()

    with pytest.raises(StageError, match=f"{missing} is missing") as caught:
        build_package(project, "popularity", tmp_path / "package")

    assert remedy in (caught.value.remedy or "")
    assert not (tmp_path / "package").exists()
