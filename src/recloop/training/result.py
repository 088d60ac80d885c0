"""What a training leaves: the model, its curve, and how it did on the validation period."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from recloop.files import replace_folder, replacing, write_json
from recloop.models.base import Recommender
from recloop.training.warm_start import Carried


@dataclass(frozen=True)
class Epoch:
    """One epoch: what was learnt, and how the model did after it."""

    number: int
    """From 1; 0 for a model that is computed at once."""
    loss: float | None
    """Mean over the epoch's events; None for a model without one."""
    valid: Mapping[str, float]
    """`ndcg_at_10` and the like → mean over the users of the validation period"""
    seconds: float
    """Of learning; validation is not counted."""
    events: int
    """Events learnt from"""

    @property
    def ndcg_at_10(self) -> float:
        """What models are chosen by."""
        return self.valid["ndcg_at_10"]

    @property
    def metrics(self) -> dict[str, float]:
        """All its figures by name, the loss and the speed among them."""
        figures = dict(self.valid) | {"events_per_second": self.events / max(self.seconds, 1e-9)}
        return figures if self.loss is None else figures | {"loss": self.loss}

    def __str__(self) -> str:
        loss = "" if self.loss is None else f"loss {self.loss:.4f}, "
        return f"{loss}NDCG@10 {self.ndcg_at_10:.4f}, {self.metrics['events_per_second']:,.0f} events/s"


@dataclass(frozen=True)
class FitResult:
    """A trained model, with the weights of its best epoch, and how it got there."""

    model: Recommender
    best: Epoch
    """The epoch the weights are of"""
    curve: tuple[Epoch, ...]
    padding_share: float
    """Share of places that were empty where sequences had to be padded"""
    device: str
    warm_start: Carried | None = None
    """What was taken over from the champion, where the training began from it"""

    @property
    def best_epoch(self) -> int:
        return self.best.number

    @property
    def epochs(self) -> int:
        """Epochs trained"""
        return self.curve[-1].number

    @property
    def valid(self) -> Mapping[str, float]:
        """How it does on the validation period."""
        return self.best.valid

    @property
    def parameters(self) -> int:
        """Numbers learnt"""
        return self.model.parameter_count

    @property
    def seconds(self) -> float:
        """Of learning, all epochs together"""
        return sum(epoch.seconds for epoch in self.curve)

    def __str__(self) -> str:
        trained = f"best of {self.epochs} epochs: {self.best_epoch}; " if self.epochs else ""
        return (
            f"{self.model.name}: validation NDCG@10 {self.best.ndcg_at_10:.4f}, Recall@10 "
            f"{self.valid['recall_at_10']:.4f}; {trained}{self.parameters:,} parameters, "
            f"{self.seconds:.1f} s of learning on {self.device}"
        )


def save_fit(result: FitResult, folder: Path, reports: Path, name: str) -> None:
    """Write the model into `folder`, and `training/<name>.json` and `curves/<name>.csv` into `reports`.

    Nothing of it depends on how long it took: the same training gives the same bytes.
    """
    begun = {} if result.warm_start is None else {"warm_start": asdict(result.warm_start)}
    replace_folder(folder, result.model.save)
    write_json(
        reports / "training" / f"{name}.json",
        {
            "best_epoch": result.best_epoch,
            "epochs": result.epochs,
            "valid": dict(result.valid),
            "parameters": result.parameters,
            "padding_share": result.padding_share,
            **begun,
        },
    )
    with (
        replacing(reports / "curves" / f"{name}.csv") as part,
        part.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["epoch", "loss", "ndcg_at_10"])
        for epoch in result.curve:
            writer.writerow([epoch.number, "" if epoch.loss is None else repr(epoch.loss), repr(epoch.ndcg_at_10)])
