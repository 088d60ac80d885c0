"""The state of a training after an epoch: what it takes to go on as if nothing had happened.

One safetensors file, with everything that is no tensor as JSON in its header; no pickle. It says which training it
is of, and is not taken for another one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from recloop.errors import ModelError
from recloop.files import replacing
from recloop.models.base import Learner
from recloop.models.tensors import save_tensors
from recloop.training.result import Epoch
from recloop.training.step import Stepper

FORMAT = 2


@dataclass(frozen=True)
class Checkpoint:
    """A training as it was after an epoch."""

    identity: Mapping[str, Any]
    """Which training: its data, settings and machinery, by name"""
    curve: tuple[Epoch, ...]
    """The epochs so far"""
    best: Mapping[str, Tensor]
    """The weights of the best epoch"""
    weights: Mapping[str, Tensor]
    """Those of the last epoch"""
    average: Mapping[str, Tensor]
    """Their running mean, where there is one"""
    optimizer: Mapping[str, Tensor]
    """What the optimiser remembers of each parameter, as `number.name`"""
    pieces: int
    """In how many a batch was learnt from, for want of memory"""

    def save(self, path: Path) -> None:
        """Write it; what was there is replaced when all of it is on the disk."""
        parts = {
            "best": self.best,
            "weights": self.weights,
            "average": self.average,
            "optimizer": self.optimizer,
        }
        tensors = {f"{part}.{name}": tensor for part, held in parts.items() for name, tensor in held.items()}
        told = {
            "format": FORMAT,
            "identity": dict(self.identity),
            "curve": [asdict(epoch) | {"valid": dict(epoch.valid)} for epoch in self.curve],
            "pieces": self.pieces,
        }
        with replacing(path) as part:
            save_tensors(part, tensors, {"recloop": json.dumps(told)})

    @classmethod
    def load(cls, path: Path, identity: Mapping[str, Any]) -> Checkpoint:
        """The checkpoint at `path`.

        Args:
            identity: of the training that is to go on from it.

        Raises:
            ModelError: it is damaged, or of another training; what differs is named.
        """
        remedy = f"remove {path} to begin anew"
        try:
            with safe_open(path, "pt") as file:
                told = json.loads((file.metadata() or {}).get("recloop", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 – no mapping
        except (SafetensorError, OSError, ValueError) as error:
            raise ModelError(f"the checkpoint {path} is damaged: {error}", remedy=remedy) from error
        if told.get("format") != FORMAT:
            raise ModelError(f"the checkpoint {path} is of format {told.get('format')!r}, not {FORMAT}", remedy=remedy)
        different = [
            f"{name} was {_short(told['identity'].get(name))} and is {_short(identity.get(name))}"
            for name in sorted(told["identity"].keys() | identity.keys())
            if told["identity"].get(name) != identity.get(name)
        ]
        if different:
            raise ModelError(f"the checkpoint {path} is of another training: {'; '.join(different)}", remedy=remedy)

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}

        return cls(
            identity=identity,
            curve=tuple(Epoch(**epoch) for epoch in told["curve"]),
            best=part("best."),
            weights=part("weights."),
            average=part("average."),
            optimizer=part("optimizer."),
            pieces=told["pieces"],
        )

    @classmethod
    def of(
        cls,
        identity: Mapping[str, Any],
        curve: list[Epoch],
        best: Mapping[str, Tensor],
        model: Learner,
        average: Mapping[str, Tensor],
        stepper: Stepper,
    ) -> Checkpoint:
        """Of a training that stands after an epoch."""
        remembered = {
            f"{number}.{name}": value
            for number, state in stepper.optimizer.state_dict()["state"].items()
            for name, value in state.items()
            if isinstance(value, Tensor)
        }
        return cls(identity, tuple(curve), best, model.state_dict(), average, remembered, stepper.pieces)

    def restore(self, model: Learner, stepper: Stepper) -> None:
        """Put the model and what takes its steps back to where they were."""
        model.load_state_dict(dict(self.weights))
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in self.optimizer.items():
            number, _, name = key.partition(".")
            state.setdefault(int(number), {})[name] = value
        groups = stepper.optimizer.state_dict()["param_groups"]
        stepper.optimizer.load_state_dict({"state": state, "param_groups": groups})
        stepper.pieces = self.pieces


def _short(value: Any) -> str:
    return "not there" if value is None else str(value)
