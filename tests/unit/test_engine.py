"""The engine: what it recommends, to whom, and which packages it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recloop.data.batches import RaggedTensor
from recloop.errors import ModelError, RecloopError, ServingError
from recloop.files import sha256
from recloop.models.catalogue import build, load_model
from recloop.serving.engine import NOBODY, Engine, Query, best
from recloop.serving.sessions import Sessions
from recloop.serving.tables import user_hash
from tests.asking import ask, ids
from tests.packages import COUNTS, write_package


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write_package(tmp_path / "v1")


@pytest.fixture
def engine(package: Path) -> Engine:
    return Engine.load(package)


def asked(engine: Engine, *about: Any, **further: Any) -> list[str]:
    return ids(engine, ask(engine, *about, **further))


def test_a_known_user_gets_the_models_best_items_without_those_of_the_history(engine: Engine) -> None:
    answer = ask(engine, "bob", k=2)
    assert answer.wanted.strategy == "model"
    assert [(*engine.item(placed.code), placed.score) for placed in answer.listed.items] == [
        ("a", "Item a", 5.0),
        ("d", "Item d", 2.0),
    ]
    assert len(answer.wanted.history) == 2


def test_an_unknown_user_without_history_gets_what_is_popular(engine: Engine) -> None:
    for answer in (ask(engine, "nobody", k=3), ask(engine, k=3), ask(engine, "ann", [], k=3)):
        assert answer.wanted.strategy == "popular"
        assert ids(engine, answer) == ["e", "d", "c"]
        assert [placed.score for placed in answer.listed.items] == [1.0, 1 / 2, 1 / 3]


def test_behind_what_is_popular_comes_the_rest_of_the_catalogue(tmp_path: Path) -> None:
    """Popular are d and b; of the others e has nine training events, a and c have two."""
    trained = {"train_count": [2, 0, 2, 1, 9]}
    engine = Engine.load(write_package(tmp_path / "v1", popular=[3, 1], columns=trained))
    assert asked(engine, k=10) == ["d", "b", "e", "a", "c"]
    assert asked(engine, k=2) == ["d", "b"]
    assert asked(engine, k=2, filters={"title": ["Item c", "Item b", "Item a"]}) == ["b", "a"]
    assert asked(engine, k=2, exclude=["d", "e"], filters={"title": ["Item c", "Item e"]}) == ["c"]
    without = Engine.load(write_package(tmp_path / "v2", popular=[3]))
    assert asked(without, k=10) == ["d", "a", "b", "c", "e"], "where nothing is told of training events, by code"


def test_who_was_forgotten_is_nobody_to_the_model_whatever_history_they_bring(engine: Engine) -> None:
    sessions = Sessions(100)
    assert ask(engine, "ann", ["b"], sessions=sessions).wanted.user == engine.user("ann") != NOBODY
    sessions.forget(user_hash("ann"), 2**62, 0)
    assert ask(engine, "ann", ["b"], sessions=sessions).wanted.user == NOBODY
    assert ask(engine, "ann", sessions=sessions).wanted.user == NOBODY


def test_an_unknown_user_with_a_history_gets_the_model(engine: Engine) -> None:
    answer = ask(engine, "nobody", ["e", "a"], k=2)
    assert answer.wanted.strategy == "model"
    assert ids(engine, answer) == ["b", "c"]


def test_unknown_items_are_passed_over_and_named_once(engine: Engine) -> None:
    answer = ask(engine, "nobody", ["zz", "a", "yy", "zz"], k=1, exclude=["xx"])
    assert ids(engine, answer) == ["b"]
    assert answer.wanted.unknown == ["zz", "yy", "xx"]


def test_a_history_of_unknown_items_alone_is_no_history(engine: Engine) -> None:
    answer = ask(engine, "ann", ["zz"], k=1)
    assert (answer.wanted.strategy, answer.wanted.unknown, answer.wanted.history) == ("popular", ["zz"], [])


def test_excluded_items_do_not_come_whichever_way_it_answers(engine: Engine) -> None:
    assert asked(engine, "ann", k=2, exclude=["b", "d"]) == ["c", "e"]
    assert asked(engine, k=2, exclude=["e", "d"]) == ["c", "b"]


def test_seen_items_come_again_where_that_is_asked_for(engine: Engine) -> None:
    assert asked(engine, "ann", k=2, exclude_seen=False) == ["a", "b"]


def test_the_package_says_whether_seen_items_come_again_by_default(tmp_path: Path) -> None:
    engine = Engine.load(write_package(tmp_path / "v1", exclude_seen=False))
    assert asked(engine, "ann", k=1) == ["a"]
    assert asked(engine, "ann", k=1, exclude_seen=True) == ["b"]


def test_a_catalogue_that_is_used_up_gives_fewer_items(engine: Engine) -> None:
    assert asked(engine, "bob", k=100) == ["a", "d", "e"]
    assert asked(engine, "ann", ["a", "b", "c", "d", "e"], k=5) == []


def test_queries_together_get_what_each_gets_alone(engine: Engine) -> None:
    queries = [Query([0]), Query([1, 2], banned=[0, 3]), Query([4], allowed=np.array([0, 1, 1, 0, 1], bool))]
    together = engine.rank(queries, 3)
    assert [ranked.codes.tolist() for ranked in together] == [[0, 1, 2], [1, 2, 4], [1, 2, 4]]
    for query, ranked in zip(queries, together, strict=True):
        alone = engine.rank([query], 3)[0]
        assert (alone.codes.tolist(), alone.scores.tolist()) == (ranked.codes.tolist(), ranked.scores.tolist())


def test_ties_go_to_the_lower_code_and_infinite_scores_never_win() -> None:
    scores = np.array([1.0, 3.0, 2.0, 3.0, -np.inf, 2.0, np.nan])
    assert best(scores, 3).tolist() == [1, 3, 2]
    assert best(scores, 4).tolist() == [1, 3, 2, 5]
    assert best(scores, 9).tolist() == [1, 3, 2, 5, 0]
    assert best(np.zeros(5), 2).tolist() == [0, 1]
    assert best(np.full(3, -np.inf), 2).tolist() == []


def test_best_agrees_with_sorting_everything() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores = rng.integers(0, 8, 40).astype(np.float32)
        everything = sorted(range(40), key=lambda i: (-scores[i], i))
        assert best(scores, 12).tolist() == everything[:12]


def test_a_sequence_model_answers_as_it_scores(tmp_path: Path) -> None:
    folder = write_package(tmp_path / "v1")
    torch.manual_seed(3)
    model = build("sasrec", {"dim": 8, "blocks": 1}, catalogue_size=5, user_count=2, max_history=4)
    model.eval().save(folder)
    change(folder, model="sasrec", model_sha256=sha256(folder / "model.safetensors"))
    with torch.no_grad():
        scores = load_model(folder).score(RaggedTensor(torch.tensor([1, 2]), torch.tensor([0, 2])))[0]
    scores[[1, 2]] = -torch.inf
    expected = ["abcde"[code] for code in scores.argsort(descending=True)[:3]]
    assert asked(Engine.load(folder), "bob", k=3) == expected


def test_a_history_of_the_package_is_told_in_order(engine: Engine) -> None:
    assert engine.known(engine.user("bob")) == ([1, 2], [1_700_000_000_000_000, 1_700_000_000_000_001])
    assert engine.known(engine.user("nobody")) == engine.known(NOBODY) == ([], [])


def test_what_was_seen_longer_ago_than_the_model_reads_is_left_out_too(tmp_path: Path) -> None:
    """The small model reads ten events: `a` is the eleventh from the end."""
    folder = write_package(tmp_path / "v1", histories={"eve": ["a", *["b"] * 10]})
    assert asked(Engine.load(folder), "eve", k=1) == ["c"]


def test_a_package_without_users_still_answers(tmp_path: Path) -> None:
    engine = Engine.load(write_package(tmp_path / "v1", histories={}))
    assert asked(engine, "ann", ["a"], k=1) == ["b"]


def change(folder: Path, **fields: object) -> None:
    path = folder / "package.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_weights(folder: Path) -> None:
    """Sound weights of the right shape, but not those that were packed."""
    write_package(folder.parent / "other", counts={"a": 9.0, "b": 4.0, "c": 3.0, "d": 2.0, "e": 1.0})
    (folder.parent / "other" / "model.safetensors").replace(folder / "model.safetensors")


def weights_that_are_not_numbers(folder: Path) -> None:
    write_package(folder, counts=dict.fromkeys("abcde", float("nan")))


def a_score_that_is_not_a_number(folder: Path) -> None:
    write_package(folder, counts=COUNTS | {"c": float("nan")})


def a_score_without_end(folder: Path) -> None:
    write_package(folder, counts=COUNTS | {"c": float("inf")})


def a_vector_that_is_not_numbers(folder: Path) -> None:
    write_package(folder, vectors=[[1, 0], [1, 1], [0, float("nan")], [0, 1], [2, 0]])


def fewer_items(folder: Path) -> None:
    pq.write_table(pq.read_table(folder / "items.parquet").slice(0, 4), folder / "items.parquet")
    change(folder, popular=[0])


def fewer_users(folder: Path) -> None:
    pq.write_table(pq.read_table(folder / "histories.parquet").slice(0, 1), folder / "histories.parquet")


def foreign_items(folder: Path) -> None:
    table = pq.read_table(folder / "histories.parquet").slice(0, 1)
    lists = pa.array([[7]], pa.list_(pa.int32()))
    pq.write_table(table.set_column(1, "items", lists), folder / "histories.parquet")


def other_times(folder: Path) -> None:
    table = pq.read_table(folder / "histories.parquet")
    lists = pa.array([[1], [1]], pa.list_(pa.int64()))
    pq.write_table(table.set_column(2, "times", lists), folder / "histories.parquet")


DAMAGE = {
    "no package.json": (lambda f: (f / "package.json").unlink(), "package.json is missing"),
    "package.json cut short": (
        lambda f: cut_in_half(f / "package.json"),
        "package.json is not what it should be",
    ),
    "another format": (lambda f: change(f, format=2), "package.json is not what it should be: format"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
    "weights cut short": (lambda f: cut_in_half(f / "model.safetensors"), "truncated or damaged"),
    "other weights": (other_weights, "its checksum differs"),
    "weights that are not numbers": (weights_that_are_not_numbers, "scores are not numbers"),
    "one item's score": (a_score_that_is_not_a_number, "scores are not numbers"),
    "one item's score without end": (a_score_without_end, "scores are not numbers"),
    "one item's vector": (a_vector_that_is_not_numbers, "the vectors of 1 of 5 items are not numbers"),
    "no model.json": (lambda f: (f / "model.json").unlink(), "model.json is missing"),
    "items cut short": (lambda f: cut_in_half(f / "items.parquet"), "items.parquet is damaged"),
    "other times": (other_times, "histories.parquet has other times than items"),
    "no histories": (lambda f: (f / "histories.parquet").unlink(), "histories.parquet is missing"),
    "items without ids": (
        lambda f: pq.write_table(pa.table({"title": ["A"] * 5}), f / "items.parquet"),
        "items.parquet has no column item_id",
    ),
    "fewer items than the model": (fewer_items, "the model is of 5 items and 2 users"),
    "fewer users than the model": (fewer_users, "the model is of 5 items and 2 users"),
    "items that do not exist": (foreign_items, "names items that items.parquet does not have"),
    "nothing popular": (lambda f: change(f, popular=[]), "names no popular items"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_package_is_refused_by_what_is_wrong_and_how_to_mend_it(package: Path, damage: str) -> None:
    harm, message = DAMAGE[damage]
    harm(package)
    with pytest.raises((ServingError, ModelError), match=message) as caught:
        Engine.load(package)
    assert isinstance(caught.value, RecloopError)
    assert caught.value.remedy
