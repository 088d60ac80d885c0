"""What is searched: settings of one model, the values each may take, and what they are at present."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from recloop.config import Dimension, Params, Range
from recloop.errors import ConfigError, ModelError
from recloop.models.base import LearnerConfig
from recloop.models.catalogue import model_class, model_config
from recloop.training.settings import effective

if TYPE_CHECKING:
    from optuna import Trial

DIGITS = 3
"""A sampled number has so many significant ones: what is tried is what a person reads, and what is written."""

Settings = Mapping[str, JsonValue]
"""Path inside `models.<name>` → value."""


@dataclass(frozen=True)
class Space:
    """The search space of one model."""

    name: str
    """Of the model"""
    params: Params
    dimensions: Mapping[str, Dimension]
    """Path inside `models.<name>` → what it may be"""
    present: Settings
    """The values that params.yaml has now"""

    @classmethod
    def of(cls, params: Params, name: str) -> Space:
        """The space that params.yaml gives for the model `name`.

        Raises:
            ConfigError: it gives none, or one with a key or a value that the model does not take, or without the
                present values in it.
        """
        model_class(name)
        if name not in params.models:
            raise ConfigError(
                f"params.yaml has no section models.{name}", remedy=f"there are: {', '.join(sorted(params.models))}"
            )
        dimensions = params.tune.models.get(name)
        if not dimensions:
            given = f"; there are spaces for: {', '.join(params.tune.models)}" if params.tune.models else ""
            raise ConfigError(
                f"params.yaml does not say what to search for {name}",
                remedy=f"add tune.models.{name}, e.g. {{train.lr: {{low: 3.0e-4, high: 1.0e-2, log: true}}}}{given}",
            )
        space = cls(name, params, dimensions, {})
        for path, dimension in dimensions.items():
            space._check(path, _ends(dimension))
        now = space._effective(params.models[name])
        return cls(name, params, dimensions, {path: space._present(path, _at(now, path)) for path in dimensions})

    def sample(self, trial: Trial) -> Settings:
        """The values that Optuna chooses for `trial`."""
        return {path: self._suggest(trial, path, dimension) for path, dimension in self.dimensions.items()}

    def encoded(self, settings: Settings) -> dict[str, Any]:
        """`settings` in the words of Optuna, which knows a choice by its JSON: 1, 1.0 and true are three."""
        return {
            path: value if isinstance(self.dimensions[path], Range) else json.dumps(value)
            for path, value in settings.items()
        }

    def section(self, settings: Settings) -> dict[str, Any]:
        """The section `models.<name>`, with `settings` in it where they are not what it says already.

        Nothing else changes: what a section does not set stays as the model, or the shared section, has it.
        """
        section: dict[str, Any] = deepcopy(dict(self.params.models[self.name]))
        for path, value in settings.items():
            if path in self.present and self.present[path] == value:
                continue
            *parents, key = path.split(".")
            inner = section
            for parent in parents:
                if not isinstance(inner.get(parent), dict):
                    inner[parent] = {}
                inner = inner[parent]
            inner[key] = value
        return section

    def accepted(self, settings: Settings) -> dict[str, Any]:
        """`section`, if the model takes it.

        Raises:
            ModelError: each value is one it takes, but not with the others.
        """
        section = self.section(settings)
        try:
            self._effective(section)
        except ConfigError as error:
            raise ModelError(f"these do not go together: {error.message}", remedy="narrow the space") from error
        return section

    def changes(self, settings: Settings) -> dict[str, Any]:
        """What to change in params.yaml, so that the model has `settings`."""
        old, new = self.params.models[self.name], self.section(settings)
        return {f"models.{self.name}.{path}": value for path, value in _differences(old, new)}

    def study(self, data_sha256: str) -> str:
        """The name of the study: of another space, other data or other fixed settings it is another one."""
        fixed = self._effective(self.params.models[self.name])
        for path in self.dimensions:
            *parents, key = path.split(".")
            _at(fixed, ".".join(parents)).pop(key, None)
        told = {
            "space": self.params.tune.model_dump(mode="json")["models"][self.name],
            "fixed": fixed,
            "evaluate": self.params.evaluate.model_dump(mode="json"),
            "data": data_sha256,
        }
        return f"{self.name}-{hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]}"

    def _suggest(self, trial: Trial, path: str, dimension: Dimension) -> JsonValue:
        if not isinstance(dimension, Range):
            value: JsonValue = json.loads(trial.suggest_categorical(path, [json.dumps(each) for each in dimension]))
            return value
        if dimension.whole:
            return trial.suggest_int(path, int(dimension.low), int(dimension.high), log=dimension.log)
        number = trial.suggest_float(path, dimension.low, dimension.high, log=dimension.log)
        if number == self.present[path]:
            return number
        return min(max(float(f"{number:.{DIGITS}g}"), float(dimension.low)), float(dimension.high))

    def _effective(self, section: Mapping[str, Any]) -> dict[str, Any]:
        """All settings of the model with this section, with those it takes from `train`."""
        config = model_config(self.name, section)
        values = config.model_dump(mode="json")
        if isinstance(config, LearnerConfig):
            values["train"] = effective(self.name, self.params.train, config).model_dump(mode="json")
        return values

    def _check(self, path: str, values: tuple[JsonValue, ...]) -> None:
        for value in values:
            try:
                self._effective(self.section({path: value}))
            except ConfigError as error:
                raise ConfigError(
                    f"params.yaml: tune.models.{self.name}.{path}: {json.dumps(value)} is refused: {error.message}",
                    remedy="correct the key or the value",
                ) from error

    def _present(self, path: str, value: Any) -> JsonValue:
        """`value` as the space has it."""
        dimension = self.dimensions[path]
        if isinstance(dimension, Range):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and dimension.low <= value <= dimension.high:
                return int(value) if dimension.whole else float(value)
        else:
            for each in dimension:
                if each == value and isinstance(each, bool) == isinstance(value, bool):
                    return each
        raise ConfigError(
            f"params.yaml: tune.models.{self.name}.{path}: the present value, {json.dumps(value)}, is not in it, "
            "and a gain is told over the present values",
            remedy=f"let it reach that far, or set models.{self.name}.{path} to a value of it",
        )


def _ends(dimension: Dimension) -> tuple[JsonValue, ...]:
    return (dimension.low, dimension.high) if isinstance(dimension, Range) else dimension


def _at(values: Any, path: str) -> Any:
    """The value at a path; None where there is none."""
    for part in filter(None, path.split(".")):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in new.items():
        before = old.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            for path, inner in _differences(before, value):
                yield f"{key}.{path}", inner
        elif key not in old or before != value:
            yield key, value
