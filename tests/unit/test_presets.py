"""Presets: what each sets and leaves, how faults are named, and that the textbook's network learns as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from recloop.config import Evaluate, Loss, Synthetic, load_params
from recloop.data.prepare import prepare
from recloop.data.prepared import Prepared
from recloop.data.sources import ingest
from recloop.errors import ConfigError
from recloop.evaluation import evaluate
from recloop.evaluation.bootstrap import interval
from recloop.models.catalogue import model_config
from recloop.models.mlp import MlpConfig
from recloop.presets import apply_preset, presets
from recloop.training import fit
from recloop.training.settings import check_models
from tests.conftest import ROOT
from tests.unit.test_cli import recloop


@pytest.fixture
def params(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    return path


@pytest.mark.parametrize("name", presets())
def test_a_preset_leaves_valid_params_that_it_has_nothing_to_change_in(name: str, params: Path) -> None:
    assert apply_preset(name, params)
    check_models(load_params(params))
    before = params.read_bytes()
    assert apply_preset(name, params) == []
    assert params.read_bytes() == before


def test_the_textbook_is_what_it_says(params: Path) -> None:
    assert "+  kind: synthetic" in apply_preset("textbook", params)
    found = load_params(params)
    assert found.source == Synthetic(kind="synthetic", users=1000, items=1000, events=50_000)
    assert found.zoo == ("popularity", "mlp")
    mlp = model_config("mlp", found.models["mlp"])
    assert isinstance(mlp, MlpConfig)
    assert mlp.hidden == (100, 100)
    assert (mlp.train.optimizer, mlp.train.lr, mlp.train.epochs) == ("sgd", 0.01, 10)
    assert mlp.train.loss == Loss(kind="cross_entropy")


def test_the_textbook_is_trained_by_plain_sgd_whatever_was_set_before(params: Path) -> None:
    apply_preset("textbook", params)
    plain = params.read_text()
    changed = plain.replace("schedule: constant", "schedule: cosine").replace("average: 0.0", "average: 0.995")
    changed = changed.replace("crop: 0.0", "crop: 0.5").replace("max_history: 50", "max_history: 200")
    changed = changed.replace("clip_norm: null", "clip_norm: 1.0").replace("warmup: 0.0", "warmup: 0.1")
    params.write_text(changed)
    apply_preset("textbook", params)
    plainly = {"average": 0.0, "warm_start": False}
    assert load_params(params).train == load_params(ROOT / "params.yaml").train.model_copy(update=plainly)
    check_models(load_params(params))


def test_what_a_preset_does_not_name_stays(params: Path) -> None:
    def rest(text: str) -> list[str]:
        named = ("  popularity:", "  mlp:", "zoo:", "  average:", "  warm_start:")
        return [line for line in text[text.index("gate:") :].splitlines() if not line.startswith(named)]

    before = rest(params.read_text())
    apply_preset("textbook", params)
    assert rest(params.read_text()) == before


def test_a_source_of_another_kind_takes_its_keys_along(params: Path) -> None:
    text = params.read_text()
    own = "source:\n  kind: sequences\n  folder: /logs\n  path: log.txt\n\n"
    params.write_text(own + text[text.index("gate:") :].replace("kind: temporal", "kind: leave_one_out"))
    assert "-  path: log.txt" in apply_preset("textbook", params)
    assert load_params(params).source.kind == "synthetic"


def test_an_unknown_preset_is_refused_with_the_known_ones(params: Path) -> None:
    before = params.read_bytes()
    with pytest.raises(ConfigError, match=r"'textbok'; did you mean `textbook`\?\n.*known presets: textbook"):
        apply_preset("textbok", params)
    assert params.read_bytes() == before


def test_params_that_are_wrong_already_are_not_written_to(params: Path) -> None:
    params.write_text(params.read_text().replace("patience: 4", "patiense: 4"))
    before = params.read_bytes()
    with pytest.raises(ConfigError, match="patiense: unknown key"):
        apply_preset("textbook", params)
    assert params.read_bytes() == before


def test_the_command_lists_presets_and_says_what_it_changed(params: Path) -> None:
    assert "textbook: A perceptron of two hidden layers" in recloop(params.parent, "preset").stdout
    assert "+zoo: [popularity, mlp]" in recloop(params.parent, "preset", "textbook").stdout
    assert "has the settings of textbook already" in recloop(params.parent, "preset", "textbook").stdout
    assert recloop(params.parent, "preset", "nonsense").returncode == 2


def test_the_textbooks_network_beats_popularity_as_it_is_written(params: Path, tmp_path: Path) -> None:
    """On fewer users and items, so that it is quick; all else as the preset has it."""
    apply_preset("textbook", params)
    settings = load_params(params)
    source = settings.source.model_copy(update={"users": 200, "items": 200, "events": 10_000, "tastes": 4})
    ingest(source, tmp_path / "raw", base=tmp_path)
    prepare(tmp_path / "raw", tmp_path / "prepared", settings.prepare, settings.split)
    prepared = Prepared.load(tmp_path / "prepared")
    train = settings.train.model_copy(update={"threads": 1})
    ndcg = {}
    for name in settings.zoo:
        model = fit(name, prepared, train, Evaluate(), settings.models[name], progress=False).model
        ndcg[name] = evaluate(model, prepared, "test", Evaluate(), train.max_history).per_user["ndcg_at_10"]
    gain = interval(ndcg["mlp"] - ndcg["popularity"], samples=2000, confidence=0.95, seed=1)
    assert gain.low > 0
    assert ndcg["mlp"].mean() > 1.5 * ndcg["popularity"].mean()
