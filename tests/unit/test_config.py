"""params.yaml: the file of the project is valid, and every fault in it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from recloop.config import Table, load_params, validated
from recloop.errors import ConfigError
from recloop.models.catalogue import model_config
from recloop.training.settings import check_models
from tests.conftest import ROOT


def faulty(tmp_path: Path, old: str, new: str) -> Path:
    text = (ROOT / "params.yaml").read_text()
    assert old in text
    path = tmp_path / "params.yaml"
    path.write_text(text.replace(old, new, 1))
    return path


def test_the_projects_own_params_are_valid_models_included() -> None:
    check_models(load_params(ROOT / "params.yaml"))


def test_a_models_defaults_are_what_the_file_says() -> None:
    params = load_params(ROOT / "params.yaml")
    for name in params.zoo:
        assert model_config(name, params.models[name]) == model_config(name, {}), name


def test_every_default_in_code_is_the_one_in_the_file() -> None:
    """A section left out must mean the same as the file we ship."""
    from recloop import config

    params = load_params(ROOT / "params.yaml")
    for section, cls in (("prepare", config.Prepare), ("split", config.Split), ("evaluate", config.Evaluate)):
        assert getattr(params, section) == cls(), section
    for section, cls in (("gate", config.Gate), ("promotion", config.Promotion), ("serving", config.Serving)):
        assert getattr(params, section) == cls(), section
    assert params.monitoring == config.Monitoring()
    assert params.train == config.Train()
    assert params.storage == config.Storage()
    assert params.platform == config.Platform()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("patience:", "patiense:", r"train\.patiense: unknown key; did you mean `patience`\?"),
        ("seed: 42", "seed: -1", r"train\.seed: .*greater than or equal to 0"),
        ("lr: 0.002", "lr: .inf", r"train\.lr: .*finite number"),
        ("threads: 2", "threads: 99999999999", r"train\.threads: .*less than or equal to 1024"),
        ("max_age_days: null", "max_age_days: 1e12", r"gate\.max_age_days: "),
        ("window_hours: 24.0", "window_hours: .inf", r"monitoring\.window_hours: "),
        ("volume: {", "volume: {test: psi, ", r"monitoring\.signals\.volume: .* leave `test: psi` out"),
        ("quality: {", "quality: {test: hellinger, ", r"monitoring\.signals\.quality: .* leave `test: hellinger` out"),
        ("bootstrap: 2000", "bootstrap: 100000000000", r"evaluate\.bootstrap: "),
        ("purchase: 1.0, rating: 1.0}", "purchase: -1.0}", r"prepare\.events\.purchase: "),
        (
            "events: {view: 0.2, click: 0.5, purchase: 1.0, rating: 1.0}",
            "events: {}",
            r"prepare\.events: at least one event is to weigh more than 0",
        ),
        (
            "events: {view: 0.2, click: 0.5, purchase: 1.0, rating: 1.0}",
            "events: {veiw: 1}",
            r"none of the events that may occur \(gate\.events: view, click, purchase, rating, dismiss\)",
        ),
        ("zoo: [popularity, mf, sasrec]", "zoo: [mf, mf]", r"zoo names 'mf' more than once"),
        ("mlflow_port: 5000", "mlflow_port: 4200", r"port 4200 is given to two of"),
        ("threads: 2", "threads: 0", r"train\.threads: .*greater than or equal to 1 \(got 0\)"),
        ("lr: 0.002", "lr: fast", r"train\.lr: .*number.*\(got 'fast'\)"),
        ("kind: temporal", "kind: random", r"split\.kind: .*'temporal' or 'leave_one_out'"),
        (
            "kind: movielens-100k",
            "kind: movielens-100m",
            r"source\.kind: there is no 'movielens-100m'; did you mean `movielens-100k`\?\n",
        ),
        (
            "kind: movielens-100k",
            "kind: csv",
            r"source\.kind: there is no 'csv'; there are: movielens-100k, synthetic, ",
        ),
        ("  kind: movielens-100k", "  kid: table", r"source\.kind: is missing; there are: movielens-100k, synthetic, "),
        ("epochs: 20", "port: 20", r"train\.port: unknown key\n"),  # `serving` has it
        (
            "zoo: [popularity, mf, sasrec]",
            "zoo: [popularity, sasrek]",
            r"zoo names 'sasrek', but models has no section 'sasrek'; did you mean `sasrec`\?",
        ),
        ("zoo: [popularity, mf, sasrec]", "zoo: []", r"zoo: must have at least 1 item \(got \[\]\)"),
        ("valid_share: 0.1", "valid_share: 0.95", r"split: valid_share \+ test_share must be below 1"),
        ("k: [5, 10, 20]", "k: [5, 20]", r"evaluate: k must include 10"),
    ],
)
def test_a_fault_is_named_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_params(faulty(tmp_path, old, new))


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    path = faulty(tmp_path, "patience:", "patiense:")
    path.write_text(path.read_text().replace("seed: 42", "seed: x"))
    with pytest.raises(ConfigError) as caught:
        load_params(path)
    assert "train.patiense: unknown key" in str(caught.value)
    assert "train.seed: " in str(caught.value)


def test_a_models_hyper_parameter_is_checked_too(tmp_path: Path) -> None:
    path = faulty(tmp_path, "blocks: ", "bloks: ")
    params = load_params(path)  # without torch, model sections are not looked into
    with pytest.raises(ConfigError, match=r"bloks: unknown key; did you mean `blocks`\?"):
        check_models(params)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "mlp: {hidden: [100, 100],",
            "mlp: {hidden: [100, 100], train: {batch_tokens: 50},",
            "models.mlp.train: batch_tokens",
        ),
        (
            "kind: sampled_softmax, negatives: 256}}",
            "kind: cross_entropy}}",
            "neumf cannot be trained with cross_entropy",
        ),
    ],
)
def test_what_a_model_would_train_with_is_checked_too(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_models(load_params(faulty(tmp_path, old, new)))


def test_a_sequences_file_has_no_times_to_cut_at(tmp_path: Path) -> None:
    path = faulty(tmp_path, "  kind: movielens-100k", "  kind: sequences\n  path: x.txt\n#")
    with pytest.raises(ConfigError, match=r"set split\.kind to leave_one_out"):
        load_params(path)
    path.write_text(path.read_text().replace("until: null", "until: 2026-01-01", 1))
    with pytest.raises(ConfigError, match=r"source\.until: a `sequences` source has an order but no times to cut at"):
        load_params(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("timestamp_unit: ms", r"source\.timestamp_unit: a `sequences` source has no such key\n"),
        ("pth: log.txt", r"source\.pth: a `sequences` source has no such key; did you mean `path`\?"),
    ],
)
def test_a_key_of_another_kind_of_source_is_named_with_the_kind(tmp_path: Path, line: str, message: str) -> None:
    """Never a key that only another kind has, and so never the one that is refused."""
    with pytest.raises(ConfigError, match=message):
        load_params(faulty(tmp_path, "  kind: movielens-100k", f"  kind: sequences\n  {line}\n  path: x.txt\n#"))


def test_a_file_of_sequences_takes_the_place_of_the_shipped_source(tmp_path: Path) -> None:
    path = faulty(tmp_path, "kind: movielens-100k", "kind: sequences\n  path: log.txt\n#")
    path.write_text(path.read_text().replace("kind: temporal", "kind: leave_one_out"))
    assert load_params(path).source.kind == "sequences"


def test_a_missing_file_and_broken_yaml_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"params\.yaml is missing"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("train: [1, 2\nzoo: {")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("- a list\n")
    with pytest.raises(ConfigError, match="no mapping of sections"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("path", ["/data/log.csv", "../log.csv"])
def test_a_file_that_dvc_would_not_watch_is_refused(path: str) -> None:
    log = {"path": path, "columns": {}, "constants": {}}
    with pytest.raises(ConfigError, match=r"interactions\.path: must be below source\.folder"):
        validated(Table, {"kind": "table", "folder": ".", "interactions": log}, where="source")
