"""The models: what each learns, that they save and load bit-equal, and what they say to wrong input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recloop.config import Evaluate, Train
from recloop.data.batches import RaggedTensor
from recloop.data.prepared import Prepared
from recloop.errors import ConfigError, ModelError
from recloop.models.base import Predictor
from recloop.models.catalogue import CATALOGUE, build, load_model, model_class, model_config
from recloop.models.mf import MatrixFactorisation
from recloop.models.popularity import Popularity
from recloop.training import fit
from tests.histories import DAY, prepared_of, walks
from tests.zoo import batch_of, loss_of, ragged, some_model


def popularity_of(prepared: Prepared, half_life_days: float | None = None) -> Popularity:
    params = {"half_life_days": half_life_days}
    model = build("popularity", params, catalogue_size=prepared.item_count, user_count=1, max_history=5)
    assert isinstance(model, Popularity)
    model.fit(prepared)
    return model


# Popularity.


def test_popularity_counts_the_training_events_by_their_weight() -> None:
    prepared = prepared_of([[0, 1, 1, 2, 2], [1, 0, 2]], items=4, weights=[[1, 0.5, 0.25, 9, 9], [2, 9, 9]])
    assert popularity_of(prepared).counts.tolist() == [1, 2.75, 0, 0]


def test_popularity_halves_an_event_with_every_half_life_before_the_newest_of_training() -> None:
    days = [[0, 10, 20, 99, 100]]
    prepared = prepared_of([[0, 1, 2, 3, 3]], items=4, days=days)
    assert popularity_of(prepared, half_life_days=10).counts.tolist() == [0.25, 0.5, 1, 0]


def test_popularity_says_the_same_to_everybody() -> None:
    model = popularity_of(prepared_of([[2, 2, 1, 0, 0]], items=3))
    assert model.score(ragged([], [0, 1])).tolist() == [[0, 1, 2], [0, 1, 2]]


# What the ones that learn by gradients learn.


@pytest.mark.parametrize("name", ["sasrec", "bert4rec", "esasrec", "bsarec", "hstu", "ensemble"])
def test_a_transformer_learns_that_each_item_is_followed_by_the_next(name: str) -> None:
    # Of all lengths: BERT4Rec learns of a place in the sequence only from sequences that reach it.
    all_lengths = [walk[: 4 + user // 12 % 9] for user, walk in enumerate(walks(users=120, items=12, length=12))]
    prepared = prepared_of(all_lengths, items=12)
    members = [{"model": "sasrec", "dim": 8}, {"model": "mf", "dim": 4}]
    params = {"members": members} if name == "ensemble" else {"dim": 16}
    epochs = 60 if name == "bert4rec" else 25  # it learns only from what is hidden
    train = Train(lr=0.01, epochs=epochs, patience=epochs, batch_tokens=128, max_history=12)
    model = fit(name, prepared, train, Evaluate(exclude_seen=False), params, progress=False).model
    histories = [[(start + step) % 12 for step in range(5)] for start in range(12)]
    following = model.score(ragged(*histories)).argmax(1)
    assert following.tolist() == [(history[-1] + 1) % 12 for history in histories]


def test_mf_learns_two_tastes_and_recognises_them_in_somebody_new() -> None:
    rng = np.random.default_rng(0)
    taste = [rng.permutation(10)[:7] + 10 * (user % 2) for user in range(60)]
    prepared = prepared_of([history.tolist() for history in taste], items=20)
    train = Train(lr=0.03, epochs=30, patience=30, batch_tokens=64, max_history=10)
    model = fit("mf", prepared, train, Evaluate(), {"dim": 4, "ridge": 1.0}, progress=False).model
    for history, liked in (([1, 4, 7], range(10)), ([12, 15], range(10, 20))):
        best = model.score(ragged(history), torch.tensor([-1])).topk(7).indices[0]
        assert set(best.tolist()) <= set(liked)


def test_mf_gives_somebody_without_a_history_what_is_liked_by_itself() -> None:
    model = some_model("mf")
    assert isinstance(model, MatrixFactorisation)
    assert torch.equal(model.score(ragged([])), model.biases.detach()[None])


def test_mf_folds_in_by_the_ridge_regression_it_documents() -> None:
    model = some_model("mf")
    assert isinstance(model, MatrixFactorisation)
    vectors, shares = model.items.weight.detach().double(), model.biases.detach().double().softmax(0)
    mean = shares @ vectors
    covariance = sum(s * torch.outer(v - mean, v - mean) for s, v in zip(shares, vectors, strict=True))
    history = [3, 1, 3]
    left = 3 * covariance + model.config.ridge * torch.eye(4, dtype=torch.float64)
    wanted = torch.linalg.solve(left, 3 * (vectors[history].mean(0) - mean))
    assert torch.allclose(model.encode(ragged(history))[0, :4].double(), wanted, atol=1e-5)


def test_mf_notices_that_its_weights_have_changed_since_it_was_last_asked() -> None:
    model, history = some_model("mf"), ragged([3, 1])
    with torch.inference_mode():
        before = model.encode(history)
    model.load_state_dict({key: 2 * tensor for key, tensor in model.state_dict().items()})
    fresh = some_model("mf")
    fresh.load_state_dict(model.state_dict())
    assert not torch.equal(model.encode(history), before)
    assert torch.equal(model.encode(history), fresh.encode(history))


def test_sasrec_reads_the_order_of_a_history_and_mf_does_not() -> None:
    forwards, backwards = ragged([1, 2, 3]), ragged([3, 2, 1])
    sasrec, mf = some_model("sasrec"), some_model("mf")
    assert not torch.allclose(sasrec.score(forwards), sasrec.score(backwards), atol=1e-3)
    assert torch.allclose(mf.score(forwards), mf.score(backwards), atol=1e-5)


@pytest.mark.parametrize("name", ["sasrec", "esasrec", "bsarec", "hstu"])
def test_a_causal_transformer_does_not_see_what_it_is_to_predict(name: str) -> None:
    """The loss of the first events is the same whatever follows them."""
    model = some_model(name)

    def loss(history: list[int]) -> float:
        return loss_of(model, batch_of(history, weights=[1, 1, 1, 0, 0]))

    assert loss([1, 2, 3, 4, 5]) == pytest.approx(loss([1, 2, 3, 9, 0]), abs=1e-6)
    assert loss([1, 2, 3, 4, 5]) != pytest.approx(loss([1, 2, 7, 4, 5]), abs=1e-3)


MINUTE, MONTH = 1 / 1440, 30.0


def test_hstu_learns_that_a_pause_changes_what_follows() -> None:
    """An item after a month's pause is followed by item 0, one after a minute's by item 1."""
    rng = np.random.default_rng(0)
    histories, days = [], []
    for _ in range(100):
        history, gaps = [], []
        for _ in range(6):
            long = rng.random() < 0.5
            history += [int(rng.integers(2, 12)), 0 if long else 1]
            gaps += [MONTH if long else MINUTE, 1.0]
        histories.append([*history, 2])
        days.append(np.cumsum([*gaps, 1.0]).tolist())
    train = Train(lr=0.003, epochs=60, patience=60, batch_tokens=256, max_history=12)
    prepared = prepared_of(histories, items=12, days=days)
    params = {"dim": 16, "dropout": 0.1}
    model = fit("hstu", prepared, train, Evaluate(exclude_seen=False), params, progress=False).model

    def following(pause: float) -> int:
        times = torch.tensor([0.0, 1.0, 1 + pause], dtype=torch.float64) * DAY
        history = RaggedTensor(torch.tensor([5, 1, 6]), torch.tensor([0, 3]), times.long())
        return int(model.score(history).argmax())

    assert (following(MONTH), following(MINUTE)) == (0, 1)


def test_hstu_does_not_see_when_the_next_event_comes() -> None:
    model = some_model("hstu")
    assert isinstance(model, Predictor)

    def queries(*days: float) -> torch.Tensor:
        batch = batch_of([1, 2, 3])
        times = (torch.tensor(days, dtype=torch.float64) * DAY).long()
        batch = replace(batch, histories=replace(batch.histories, times=times))
        return model.predictions(batch).queries

    assert torch.equal(queries(0, 1, 2), queries(0, 1, 900))
    assert not torch.allclose(queries(0, 1, 2)[2], queries(0, 300, 302)[2], atol=1e-3)
    assert torch.equal(queries(0, 1, 2)[:2], queries(0, 300, 302)[:2])


def test_bert4rec_is_not_shown_what_it_is_to_fill_in() -> None:
    model = some_model("bert4rec")
    assert isinstance(model, Predictor)
    batch = batch_of([1, 2, 3, 4, 5], [6], [7, 8])
    shown: list[torch.Tensor] = []
    model.hidden = lambda tokens: (shown.append(tokens.values), torch.zeros(len(tokens.values), 8))[1]  # type: ignore
    for _ in range(50):
        asked = model.predictions(replace(batch, chances=torch.rand(batch.events)))
        hidden = shown[-1] == 12
        assert asked.targets.equal(batch.histories.values[hidden])
        assert shown[-1][~hidden].equal(batch.histories.values[~hidden])
        assert hidden[5]  # a window's only event
        assert bool(hidden[6:].any())
    assert len({tuple(each.tolist()) for each in shown}) > 5  # others each time


@pytest.mark.parametrize("name", ["mf", "sasrec"])
def test_an_event_counts_in_the_loss_by_its_weight(name: str) -> None:
    model = some_model(name)

    def loss(*weights: float) -> float:
        return loss_of(model, batch_of([1, 2], weights=list(weights)))

    assert loss(3, 1) == pytest.approx(0.75 * loss(1, 0) + 0.25 * loss(0, 1), rel=1e-5)
    assert loss(0, 0) == 0


# What holds for every model.


@pytest.mark.parametrize("name", CATALOGUE)
def test_times_matter_to_those_models_only_that_say_so(name: str) -> None:
    model, history = some_model(name), ragged([1, 2, 3], [4])
    timed = replace(history, times=torch.tensor([0, DAY // 24, 30 * DAY, 0]))
    assert torch.equal(model.score(history), model.score(timed)) != model.reads_times


@pytest.mark.parametrize("name", CATALOGUE)
def test_scores_are_the_same_bits_after_saving_and_loading(name: str, tmp_path: Path) -> None:
    model, histories, users = some_model(name), ragged([], [1, 2, 3], [11] * 9), torch.tensor([0, 4, -1])
    model.save(tmp_path)
    loaded = load_model(tmp_path)
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    assert torch.equal(loaded.score(histories, users), model.score(histories, users))


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_same_model_is_saved_as_the_same_bytes(name: str, tmp_path: Path) -> None:
    some_model(name).save(tmp_path / "a")
    some_model(name).save(tmp_path / "b")
    for file in ("model.safetensors", "model.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_user_gets_the_same_answer_alone_and_among_others(name: str) -> None:
    model = some_model(name)
    sequences = [[], [1], [5, 2, 7, 7, 3], [4, 4], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [2, 9]]
    together = model.score(ragged(*sequences), torch.arange(-1, 5))
    for row, sequence in enumerate(sequences):
        alone = model.score(ragged(sequence), torch.tensor([row - 1]))
        assert torch.allclose(alone[0], together[row], atol=1e-6)


@pytest.mark.parametrize("name", CATALOGUE)
def test_candidates_are_scored_as_in_the_whole_catalogue(name: str) -> None:
    model, histories = some_model(name), ragged([1, 2], [])
    candidates = torch.tensor([7, 0, 3])
    assert torch.allclose(model.score(histories, None, candidates), model.score(histories)[:, candidates], atol=1e-6)


@pytest.mark.parametrize("name", CATALOGUE)
def test_only_the_last_events_of_a_long_history_are_looked_at(name: str) -> None:
    model = some_model(name, max_history=3)
    assert torch.equal(model.score(ragged([9, 9, 8, 1, 2, 3])), model.score(ragged([1, 2, 3])))


@pytest.mark.parametrize("name", CATALOGUE)
def test_nobody_at_all_gets_no_scores(name: str) -> None:
    assert some_model(name).score(ragged()).shape == (0, 12)


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("code", [-1, 12])
def test_an_item_of_another_catalogue_is_refused(name: str, code: int) -> None:
    with pytest.raises(ModelError, match=r"histories hold an item code outside 0 … 11"):
        some_model(name).score(ragged([1, code]))
    with pytest.raises(ModelError, match="candidates hold an item code"):
        some_model(name).score(ragged([1]), None, torch.tensor([code]))


# Configuration.


def test_an_unknown_model_is_refused_with_the_nearest_known_name() -> None:
    with pytest.raises(ConfigError, match=r"'sasrek'; did you mean `sasrec`\?\n.*popularity, .*sasrec"):
        model_config("sasrek", {})


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_model_names_what_is_wrong_in_its_section(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"models\.{name}: nonsense: unknown key"):
        model_config(name, {"nonsense": 1})
    for key in model_class(name).Config.model_fields:
        with pytest.raises(ConfigError, match=rf"models\.{name}: {key}"):
            model_config(name, {key: "much"})


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("sasrec", {"dropuot": 0.1}, r"models\.sasrec: dropuot: unknown key; did you mean `dropout`\?"),
        ("sasrec", {"dropout": 1.5}, r"models\.sasrec: dropout: .*less than 1"),
        ("sasrec", {"dim": 10, "heads": 4}, r"models\.sasrec: dim must be a multiple of heads, and 10 is not one of 4"),
        ("sasrec", {"train": {"seed": 1}}, r"models\.sasrec: train\.seed: unknown key"),
        ("mf", {"dim": 0}, r"models\.mf: dim: .*greater than or equal to 1"),
        ("mf", {"train": {"lr": -1}}, r"models\.mf: train\.lr: .*greater than 0"),
        ("popularity", {"half_life_days": 0}, r"models\.popularity: half_life_days: .*greater than 0"),
    ],
)
def test_a_wrong_hyper_parameter_is_refused_by_name(name: str, params: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model_config(name, params)


# Damaged models.


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    some_model("sasrec").save(tmp_path)
    return tmp_path


@pytest.mark.parametrize("file", ["model.json", "model.safetensors"])
def test_a_missing_file_is_named(saved: Path, file: str) -> None:
    (saved / file).unlink()
    with pytest.raises(ModelError, match=rf"{file} is missing\n.*dvc repro"):
        load_model(saved)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_model_is_refused(saved: Path, kept: int) -> None:
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"model\.safetensors is truncated or damaged"):
        load_model(saved)


def test_a_description_that_is_no_json_is_refused(saved: Path) -> None:
    (saved / "model.json").write_text('{"format": 1, "na')
    with pytest.raises(ModelError, match=r"model\.json is damaged"):
        load_model(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, r"format 2 is not known; this version reads format 1"),
        ({"name": "gru"}, r"does not describe a model: no model is called 'gru'"),
        ({"config": {"width": 3}}, r"does not describe a model: .*width: unknown key"),
        ({"catalogue_size": "many"}, r"does not describe a model"),
        ({"catalogue_size": 13}, r"items\.weight is \(13, 8\), not \(14, 8\)"),
        ({"config": {"dim": 8, "blocks": 1, "heads": 2}}, r"layers\.2\..* not part of the model"),
        ({"config": {"dim": 8, "blocks": 3, "heads": 2}}, r"layers\.4\..* is missing"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(saved: Path, change: dict[str, object], message: str) -> None:
    path = saved / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=message):
        load_model(saved)


def test_a_description_that_lacks_a_key_is_refused(saved: Path) -> None:
    (saved / "model.json").write_text('{"format": 1, "name": "sasrec"}')
    with pytest.raises(ModelError, match="does not describe a model"):
        load_model(saved)
