"""Items without a training event are found beside what is like them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from recloop.serving.engine import Engine
from recloop.serving.newcomers import with_newcomers
from tests.asking import ask, ids
from tests.packages import write_package

VECTORS = np.array([[1, 0], [0.9, 0.1], [0, 1], [0, 0.8], [-5, -5], [-5, -5], [7, 7]], np.float32)


def items(counts: list[int]) -> pa.Table:
    categories = [["Comedy"], ["Comedy"], ["Horror"], ["Horror"], ["Comedy"], None, ["Horror"]]
    table = {"item_id": [str(code) for code in range(7)], "train_count": counts}
    return pa.table({**table, "categories": pa.array(categories, pa.list_(pa.string()))})


def test_a_newcomer_stands_where_its_like_stand_and_nobody_else_moves() -> None:
    found = with_newcomers(VECTORS, items([5, 5, 5, 5, 0, 0, 5]))
    assert np.argmax(VECTORS[[0, 2]] @ found[4]) == 0, "a comedy among the comedies"
    assert np.abs(found[4] - [0.95, 0.05]).max() < 0.5
    assert (found[[0, 1, 2, 3, 5, 6]] == VECTORS[[0, 1, 2, 3, 5, 6]]).all(), "what has no content stays as well"
    assert (VECTORS[4] == [-5, -5]).all(), "what was given is not changed"


def test_without_newcomers_or_counts_the_vectors_are_the_same_ones() -> None:
    assert with_newcomers(VECTORS, items([1] * 7)) is VECTORS
    assert with_newcomers(VECTORS, items([0] * 7)) is VECTORS
    assert with_newcomers(VECTORS, items([1] * 7).drop_columns("train_count")) is VECTORS


def test_a_newcomer_is_in_the_list_of_who_likes_what_it_is_like(tmp_path: Path) -> None:
    """Comedies lie to the right, horrors above. The training left the newcomer, a comedy, far from both."""
    vectors = [[1, 0], [0.9, 0], [0, 1], [0, 0.9], [-1, -1]]
    categories = [["Comedy"], ["Comedy"], ["Horror"], ["Horror"], ["Comedy"]]

    def after_a(count: int) -> list[str]:
        columns = {"train_count": [5, 5, 5, 5, count], "categories": categories}
        engine = Engine.load(write_package(tmp_path / f"v{count}", vectors=vectors, columns=columns))
        return ids(engine, ask(engine, None, ["a"], k=4))

    assert after_a(0) == ["b", "e", "d", "c"]
    assert after_a(1) == ["b", "d", "c", "e"], "what has a training event stays where that left it"
