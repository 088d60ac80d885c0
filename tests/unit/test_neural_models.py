"""Recurrent, convolutional and perceptron models: each learns a pattern that was planted, and none sees its target."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from recloop.config import Evaluate, Train
from recloop.data.batches import RaggedTensor
from recloop.errors import ConfigError
from recloop.models.bags import bags
from recloop.models.base import Predictor
from recloop.models.caser import windows
from recloop.models.catalogue import build, model_config
from recloop.models.neumf import Neumf
from recloop.models.recurrent import Packing
from recloop.models.sequence import SequenceModel
from recloop.training import fit
from tests.histories import prepared_of, walks
from tests.zoo import batch_of, ragged, some_model

ORDERED = ("rnn", "lstm", "gru4rec", "caser")
BAGS = ("mlp", "neumf")
NAMES = (*ORDERED, *BAGS)


def learnt(name: str, params: dict[str, Any], histories: list[list[int]], items: int, **train: Any) -> Predictor:
    settings = Train(
        **({"lr": 0.03, "epochs": 12, "patience": 25, "batch_tokens": 128, "max_history": 10} | train),
        average=0.0,  # so few steps have no mean
        threads=1,
    )
    evaluate = Evaluate(exclude_seen=False)
    model = fit(name, prepared_of(histories, items=items), settings, evaluate, params, progress=False).model
    assert isinstance(model, Predictor)
    return model


# What each learns.


@pytest.mark.parametrize(("name", "dropout"), [("rnn", 0.0), ("lstm", 0.0), ("gru4rec", 0.0), ("caser", 0.2)])
def test_what_reads_the_order_learns_that_each_item_is_followed_by_the_next(name: str, dropout: float) -> None:
    """With room to spare, so that no processor's way of rounding decides: so it is with other seeds, too."""
    model = learnt(name, {"dim": 16, "dropout": dropout}, walks(users=60, items=12, length=10), 12, epochs=25)
    histories = [[(start + step) % 12 for step in range(3)] for start in range(12)]
    assert model.score(ragged(*histories)).argmax(1).tolist() == [(history[-1] + 1) % 12 for history in histories]


@pytest.mark.parametrize("name", ["lstm", "gru4rec"])
def test_what_has_a_memory_learns_that_an_item_decides_which_comes_four_later(name: str) -> None:
    """After 0 and any three comes 6; after 1 and any three, 7."""
    rng = np.random.default_rng(0)
    starts, between = rng.integers(2, size=(160, 2)).tolist(), rng.integers(2, 6, size=(160, 2, 3)).tolist()
    parts = [
        [[start, *some, 6 + start] for start, some in zip(*both, strict=True)]
        for both in zip(starts, between, strict=True)
    ]
    model = learnt(name, {"dim": 16, "dropout": 0.0}, [[*one, *other, 0] for one, other in parts], 8, epochs=25)
    assert model.score(ragged([0, 3, 5, 2], [1, 3, 5, 2])).argmax(1).tolist() == [6, 7]


def test_caser_learns_that_what_follows_two_items_depends_on_both() -> None:
    """1 after 0 is followed by 2, but 1 after 3 by 4."""
    histories = [[0, 1, 2, 3, 1, 4] * 3 if user % 2 else [3, 1, 4, 0, 1, 2] * 3 for user in range(40)]
    model = learnt("caser", {"dim": 16, "window": 3, "init": "random"}, histories, 5, max_history=16)
    assert model.score(ragged([0, 1], [3, 1])).argmax(1).tolist() == [2, 4]


@pytest.mark.parametrize("name", BAGS)
def test_what_reads_a_bag_learns_two_tastes_and_recognises_them_in_somebody_new(name: str) -> None:
    rng = np.random.default_rng(0)
    histories = [(rng.permutation(10)[:9] + 10 * (user % 2)).tolist() for user in range(100)]
    model = learnt(name, {"hidden": [32, 16]}, histories, 20)
    for history, liked in (([1, 4, 7], range(10)), ([12, 15], range(10, 20))):
        best = model.score(ragged(history), torch.tensor([-1])).topk(10).indices[0]
        assert len({*best.tolist()} & {*liked}) >= 8


# What they are shown.


@pytest.mark.parametrize("name", NAMES)
def test_no_position_sees_its_target_or_what_comes_after_it(name: str) -> None:
    model = some_model(name)
    assert isinstance(model, Predictor)
    one = model.predictions(batch_of([1, 2, 3, 4, 5], [7, 8])).queries
    other = model.predictions(batch_of([1, 2, 9, 0, 0], [7, 8])).queries
    assert torch.allclose(one[[0, 1, 2, 5, 6]], other[[0, 1, 2, 5, 6]], rtol=1e-4)
    assert not torch.allclose(one[3], other[3], rtol=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_a_position_of_training_is_asked_what_a_user_with_that_history_is(name: str) -> None:
    model = some_model(name)
    assert isinstance(model, Predictor)
    asked = model.predictions(batch_of([1, 2, 3], [5])).queries
    assert torch.allclose(asked, model.encode(ragged([], [1], [1, 2], [])), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_a_history_matters_to_those_that_read_it(name: str) -> None:
    model = some_model(name)
    forwards, backwards = model.score(ragged([1, 2, 3])), model.score(ragged([3, 2, 1]))
    assert torch.allclose(forwards, backwards, rtol=1e-3) == (name in BAGS)


@pytest.mark.parametrize("name", NAMES)
def test_a_history_a_thousand_times_the_usual_and_one_of_nothing_but_duplicates_get_scores(name: str) -> None:
    scores = some_model(name).score(ragged([4, 2] * 5000, [3] * 10_000, []))
    assert scores.shape == (3, 12)
    assert scores.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_catalogue_of_one_and_users_of_one_event_can_be_learnt_from(name: str) -> None:
    model = learnt(name, {}, [[0, 0, 0], [0, 0], [0, 0, 0, 0]], 1, epochs=1)
    assert model.score(ragged([], [0])).isfinite().all()


# What they are made of.


def test_packing_gives_back_every_token_where_it_stood() -> None:
    tokens = ragged([1, 2], [3], [4, 5, 6])
    packed = Packing(tokens).pack(tokens.values.float()[:, None])
    assert packed.data[:, 0].tolist() == [4, 1, 3, 5, 2, 6]
    assert packed.batch_sizes.tolist() == [3, 2, 1]
    assert Packing(tokens).unpack(packed)[:, 0].tolist() == [1, 2, 3, 4, 5, 6]


def test_a_window_holds_the_last_tokens_of_its_own_sequence_and_the_start_before_them() -> None:
    assert windows(ragged([1, 2, 3, 4], [5]), 3, start=9).tolist() == [
        [9, 9, 1],
        [9, 1, 2],
        [1, 2, 3],
        [2, 3, 4],
        [9, 9, 5],
    ]


def test_caser_looks_at_nothing_older_than_its_window() -> None:
    model = some_model("caser")
    assert torch.equal(model.score(ragged([7, 8, 1, 2, 3])), model.score(ragged([1, 2, 3])))
    assert not torch.equal(model.score(ragged([1, 2, 3])), model.score(ragged([2, 3])))


def test_a_bag_is_the_sum_of_what_came_in_its_own_sequence() -> None:
    tokens = RaggedTensor(torch.arange(6), torch.tensor([0, 1, 6]))
    assert bags(torch.tensor([5.0, 1, 2, 3, 4, 5])[:, None], tokens)[:, 0].tolist() == [5, 1, 3, 6, 10, 15]


def test_the_perceptrons_first_layer_is_that_of_ones_and_zeros_over_the_catalogue() -> None:
    model = some_model("mlp")
    weights = model.state_dict()
    shown = torch.zeros(12)
    shown[[3, 7, 1]] = 1
    x = (8**0.5 * (shown @ weights["items.weight"][:12] + weights["items.weight"][12])).relu()
    x = (weights["layers.2.weight"] @ x + weights["layers.2.bias"]).relu()
    wanted = weights["output.weight"] @ x + weights["output.bias"]
    assert torch.allclose(model.score(ragged([3, 7, 1]))[0], wanted, rtol=1e-4, atol=1e-4)


def test_the_widths_of_the_perceptron_are_those_asked_for() -> None:
    model = build("mlp", {"hidden": [7, 5, 3]}, catalogue_size=4, user_count=1, max_history=5)
    shapes = [tuple(tensor.shape) for key, tensor in model.state_dict().items() if key.endswith("weight")]
    assert shapes == [(5, 7), *[(after, before) for before, after in pairwise((7, 5, 3))], (4, 3)]


def test_neumf_adds_a_product_of_factors_and_a_perceptron_over_both() -> None:
    model = some_model("neumf")
    assert isinstance(model, Neumf)
    weights = model.state_dict()
    user, item = model.encode(ragged([2, 5]))[0], weights["candidates.weight"][8]
    x = (user[4:] + item[4:]).relu()
    x = (weights["perceptron.1.weight"] @ x + weights["perceptron.1.bias"]).relu()
    wanted = user[:4] @ item[:4] + weights["perceptron.3.weight"][0] @ x + weights["perceptron.3.bias"][0]
    assert model.score(ragged([2, 5]))[0, 8].item() == pytest.approx(wanted.item(), rel=1e-4)


def test_neumf_scores_the_same_in_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, histories = some_model("neumf"), ragged([1], [2, 3], [], [4], [5])
    at_once = model.score(histories)
    monkeypatch.setattr("recloop.models.neumf.PAIRS", 24)
    assert torch.allclose(model.score(histories), at_once, atol=1e-6)


def test_neumf_scores_each_pair_as_in_the_whole_table() -> None:
    model = some_model("neumf")
    assert isinstance(model, Neumf)
    queries, items = model.encode(ragged([1], [2, 3], [4])), model.item_vectors(torch.tensor([5, 0, 7]))
    assert torch.allclose(model.match_each(queries, items), model.match(queries, items).diagonal(), atol=1e-5)


def test_neumf_is_not_trained_over_the_whole_catalogue() -> None:
    with pytest.raises(
        ConfigError, match=r"neumf cannot be trained with cross_entropy.*\n.*models\.neumf\.train\.loss"
    ):
        learnt("neumf", {"train": {"loss": {"kind": "cross_entropy"}}}, walks(users=20, items=9, length=6), 9, epochs=1)


@pytest.mark.parametrize("name", ["mlp", "neumf"])
def test_an_event_that_is_not_shown_adds_nothing_to_a_bag(name: str) -> None:
    model = some_model(name)
    assert isinstance(model, SequenceModel)
    hidden = model.hidden(ragged([12, 1, 12, 12, 5]))
    without = model.hidden(ragged([12, 1, 5]))
    root = (3 / 5) ** 0.5 if name == "neumf" else 1.0  # its bag is taken for as long as the history is
    assert torch.allclose(hidden[-1], without[-1] * root, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("rnn", {"layers": 0}, r"models\.rnn: layers: .*greater than or equal to 1"),
        ("gru4rec", {"dropuot": 0.1}, r"models\.gru4rec: dropuot: unknown key; did you mean `dropout`\?"),
        ("caser", {"window": 0}, r"models\.caser: window: .*greater than or equal to 1"),
        ("mlp", {"hidden": []}, r"models\.mlp: hidden: must have at least 1 item"),
        ("mlp", {"activation": "relo"}, r"models\.mlp: activation: .*'relu', 'gelu' or 'tanh'"),
        ("neumf", {"hidden": [8, 0]}, r"models\.neumf: hidden\.1: .*greater than or equal to 1"),
    ],
)
def test_a_wrong_hyper_parameter_is_refused_by_name(name: str, params: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model_config(name, params)
