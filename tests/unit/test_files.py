"""Files are whole or as they were: after an error, a kill or a full disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from recloop.errors import RecloopError, StageError
from recloop.files import read_json, replace_folder, replacing, sha256, write_json


def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as part:
        part.write_text("half of the new")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_and_says_so(small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(256 << 10)
    path = disk / "file"
    path.write_text("old")
    with (
        pytest.raises(RecloopError, match="the disk is full; what was there is as it was\n  → free some space"),
        replacing(path) as part,
    ):
        part.write_bytes(b"x" * 1_000_000)
    assert path.read_text() == "old"
    assert list(disk.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_folder_and_says_so(small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(256 << 10)
    folder = disk / "folder"
    replace_folder(folder, lambda new: (new / "file").write_text("old") and None)
    with pytest.raises(RecloopError, match="the disk is full; what was there is as it was"):
        replace_folder(folder, lambda new: (new / "file").write_bytes(b"x" * 1_000_000) and None)
    assert (folder / "file").read_text() == "old"
    assert list(disk.iterdir()) == [folder]


def test_a_replaced_folder_holds_only_what_is_new(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    replace_folder(folder, lambda new: (new / "a").write_text("1") and None)
    replace_folder(folder, lambda new: (new / "b").write_text("2") and None)
    assert [path.name for path in folder.iterdir()] == ["b"]
    assert list(tmp_path.iterdir()) == [folder]


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"x": 1, "é": [0.1]})
    write_json(tmp_path / "b", {"é": [0.1], "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_folders_digest_sees_names_and_content(tmp_path: Path) -> None:
    for name, file, text in (("a", "x", "1"), ("b", "x", "1"), ("c", "y", "1"), ("d", "x", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(text)
    a, b, c, d = (sha256(tmp_path / name) for name in "abcd")
    assert a == b
    assert len({a, c, d}) == 3


def test_damaged_json_is_named_with_its_mend(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(StageError, match=r"x\.json is missing\n  → run it"):
        read_json(path, remedy="run it")
    path.write_text('{"half": ')
    with pytest.raises(StageError, match=r"x\.json is damaged"):
        read_json(path, remedy="run it")
