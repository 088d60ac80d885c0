"""The models there are, by name. A new one is one file, one line here and one section in `params.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from recloop.config import validated
from recloop.errors import ConfigError, ModelError, StageError, did_you_mean
from recloop.files import read_json
from recloop.models.base import DESCRIPTION, FORMAT, WEIGHTS, ModelConfig, Recommender

CATALOGUE = {
    "popularity": "recloop.models.popularity:Popularity",
    "item_knn": "recloop.models.item_knn:ItemKnn",
    "ease": "recloop.models.ease:Ease",
    "ials": "recloop.models.ials:Ials",
    "bpr_mf": "recloop.models.bpr_mf:BprMf",
    "mf": "recloop.models.mf:MatrixFactorisation",
    "sasrec": "recloop.models.sasrec:Sasrec",
    "bert4rec": "recloop.models.bert4rec:Bert4Rec",
    "esasrec": "recloop.models.esasrec:ESasrec",
    "bsarec": "recloop.models.bsarec:Bsarec",
    "hstu": "recloop.models.hstu:Hstu",
    "ensemble": "recloop.models.ensemble:Ensemble",
    "rnn": "recloop.models.recurrent:Rnn",
    "lstm": "recloop.models.recurrent:Lstm",
    "gru4rec": "recloop.models.recurrent:Gru4Rec",
    "caser": "recloop.models.caser:Caser",
    "mlp": "recloop.models.mlp:Mlp",
    "neumf": "recloop.models.neumf:Neumf",
}
"""Name → class, imported when it is asked for."""

REMEDY = "`dvc repro` trains it anew, `dvc pull` fetches it, `recloop deploy` copies a live one again"


def model_class(name: str) -> type[Recommender]:
    """The class called `name`.

    Raises:
        ConfigError: no model is called that; known names and the nearest are given.
    """
    if name not in CATALOGUE:
        raise ConfigError(
            f"no model is called {name!r}{did_you_mean(name, CATALOGUE)}",
            remedy=f"known models: {', '.join(CATALOGUE)}",
        )
    module, _, attribute = CATALOGUE[name].partition(":")
    found: type[Recommender] = getattr(import_module(module), attribute)
    return found


def model_config(name: str, params: Mapping[str, Any]) -> ModelConfig:
    """`params`, the section `models.<name>` of `params.yaml`, as that model's configuration.

    Raises:
        ConfigError: no model is called `name`, or a key or value is wrong; every fault is named.
    """
    return validated(model_class(name).Config, dict(params), where=f"models.{name}")


def build(
    name: str, params: Mapping[str, Any], *, catalogue_size: int, user_count: int, max_history: int
) -> Recommender:
    """An untrained model; its first weights are drawn from torch's random generator.

    Raises:
        ConfigError: as `model_config`.
    """
    return model_class(name)(
        model_config(name, params),
        catalogue_size=catalogue_size,
        user_count=user_count,
        max_history=max_history,
    )


def load_model(folder: Path, *, remedy: str = REMEDY) -> Recommender:
    """The model saved in `folder`, on the CPU, ready to score. Its scores are those of the saved one, bit for bit.

    Args:
        folder: of a trained model, or of a package with one.
        remedy: what mends it where it cannot be loaded.

    Raises:
        ModelError: a file is missing, truncated or damaged, is of another format, or does not hold this model.
    """
    try:
        told = read_json(folder / DESCRIPTION, remedy=remedy)
    except StageError as error:
        raise ModelError(error.message, remedy=remedy) from error
    path = folder / DESCRIPTION
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        found = told.get("format") if isinstance(told, dict) else None
        raise ModelError(f"{path}: format {found!r} is not known; this version reads format {FORMAT}", remedy=remedy)
    try:
        model = build(
            told["name"],
            told["config"],
            catalogue_size=told["catalogue_size"],
            user_count=told["user_count"],
            max_history=told["max_history"],
        )
    except (KeyError, TypeError, ConfigError) as error:
        raise ModelError(f"{path} does not describe a model: {error}", remedy=remedy) from error
    _fill(model, folder / WEIGHTS, remedy)
    return model.eval()


def _fill(model: Recommender, path: Path, remedy: str) -> None:
    """Put the tensors of a safetensors file into `model`, all of them and no others."""
    try:
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing", remedy=remedy) from error
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is truncated or damaged: {error}", remedy=remedy) from error
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    faults = [
        f"{name} is {found.get(name, 'missing')}, not {wanted.get(name, 'part of the model')}"
        for name in sorted(wanted.keys() | found.keys())
        if wanted.get(name) != found.get(name)
    ]
    if faults:
        raise ModelError(f"{path} does not fit {DESCRIPTION}: {'; '.join(faults)}", remedy=remedy)
    model.load_state_dict(tensors)
