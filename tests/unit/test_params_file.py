"""Values in params.yaml are changed as a person would change them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from recloop.config import load_params
from recloop.errors import ConfigError
from recloop.params_file import change_params
from tests.conftest import ROOT

SMALL = """\
# Ours.
source: {kind: movielens-100k}
zoo: [sasrec] # one is enough

models: # sections
    sasrec:   {dim: 8,  dropout: 0.2} # a note
    mf:
        dim: 8 # another
        train:
split: {valid_share: 0.1}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "params.yaml"
    file.write_text(SMALL)
    return file


def changed(lines: list[str]) -> list[str]:
    return [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]


def test_only_the_line_of_a_changed_value_changes(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    shutil.copyfile(ROOT / "params.yaml", path)
    before = path.read_text().splitlines()

    diff = change_params(path, {"serving.port": 3001, "monitoring.cooldown_hours": 12.0})

    after = path.read_text().splitlines()
    assert [line for line in after if line not in before] == ["  port: 3001", "  cooldown_hours: 12.0"]
    assert changed(diff) == ["-  port: 3000", "+  port: 3001", "-  cooldown_hours: 6.0", "+  cooldown_hours: 12.0"]
    assert len(before) == len(after)


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"models.sasrec.dim": 16}, ["    sasrec: {dim: 16, dropout: 0.2}   # a note"]),
        ({"models.sasrec.train.lr": 0.00001}, ["    sasrec: {dim: 8, dropout: 0.2, train: {lr: 1e-05}} # a note"]),
        ({"models.mf.dim": 16}, ["        dim: 16 # another"]),
        ({"models.mlp.hidden": [64, 32]}, ["    mlp:", "      hidden: [64, 32]"]),
        ({"split.valid_share": 0.2}, ["split: {valid_share: 0.2}"]),
        ({"train": {"lr": 0.01, "loss": {"kind": "bpr"}}}, ["train:", "  lr: 0.01", "  loss:", "    kind: bpr"]),
    ],
)
def test_comments_stay_in_their_column_and_what_is_on_one_line_stays_there(
    path: Path, changes: dict[str, Any], lines: list[str]
) -> None:
    diff = change_params(path, changes)

    text = path.read_text()
    assert [line[1:].strip() for line in changed(diff) if line[0] == "+"] == [line.strip() for line in lines]
    untouched = [line for line in SMALL.splitlines() if f"-{line}" not in diff]
    assert [line for line in text.splitlines() if line in untouched] == untouched
    for comment in ("# Ours.", "# one is enough", "# sections", "# a note", "# another"):
        assert comment in text
    params = load_params(path)
    for key, value in changes.items():
        found: Any = params.model_dump(mode="json", exclude_unset=True)
        for part in key.split("."):
            found = found[part]
        assert found == value


def test_what_the_file_says_already_is_no_change(path: Path) -> None:
    assert change_params(path, {"models.sasrec.dim": 8, "split.valid_share": 0.1}) == []
    assert path.read_text() == SMALL


def test_a_change_can_be_looked_at_first(path: Path) -> None:
    assert changed(change_params(path, {"split.valid_share": 0.2}, write=False))
    assert path.read_text() == SMALL


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("split.valid_share", 2, r"params\.yaml: split\.valid_share: .*less than or equal to 1"),
        ("split.valid_shar", 0.2, r"split\.valid_shar: unknown key; did you mean `valid_share`\?"),
        ("zoo.sasrec", 1, r"zoo\.sasrec cannot be set: zoo is a value, not a section"),
    ],
)
def test_a_change_that_is_not_valid_leaves_the_file_as_it_was(path: Path, key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        change_params(path, {key: value})
    assert path.read_text() == SMALL
