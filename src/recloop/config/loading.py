"""Reading `params.yaml`, merging settings, and validating what was read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from recloop.config.faults import describe_fault
from recloop.config.params import Params
from recloop.errors import ConfigError

S = TypeVar("S", bound=BaseModel)
REMEDY = "mend it, or `git checkout params.yaml` to have the last committed one back"


def load_params(path: Path) -> Params:
    """Read and validate `params.yaml`.

    Raises:
        ConfigError: the file is missing, is not YAML, or a key or value is wrong; every fault is named.
    """
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is missing", remedy=REMEDY) from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}", remedy=REMEDY) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no mapping of sections", remedy=REMEDY)
    return validated(Params, content, where=path.name)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with what `over` has in its place, section by section down to single values."""
    both = {
        key: merged(base[key], value) if isinstance(value, Mapping) and isinstance(base.get(key), Mapping) else value
        for key, value in over.items()
    }
    return dict(base) | both


def validated(model: type[S], content: Any, *, where: str) -> S:
    """`content` as a `model`; faults become one ConfigError that names every key and the nearest right one."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = [describe_fault(model, fault) for fault in error.errors(include_url=False)]
        raise ConfigError(f"{where}: " + f"\n{where}: ".join(lines), remedy="correct the key or the value") from None
