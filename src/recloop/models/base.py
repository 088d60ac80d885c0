"""What every model is.

Most are a `DualEncoder`: an encoder `histories → [batch, width]` and an item matrix `[items, width]`; an item's score
is their product. So retrieval, and all that follows from it, is written once. A bias is one more column.

A model learns in one of two ways: `ClosedForm` by one pass over the data, `Learner` by gradients of a loss.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from recloop.config import Augment, Loss, OptimizerName, Positive, ScheduleName, Section, Share, merged
from recloop.data.batches import Batch, RaggedTensor
from recloop.data.prepared import Prepared
from recloop.errors import ModelError
from recloop.files import write_json
from recloop.models.tensors import save_tensors

FORMAT = 1
WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"


class Overrides(Section):
    """What a model trains with instead of the `train` section's value; null means: the same."""

    loss: Loss | None = None
    optimizer: OptimizerName | None = None
    lr: float | None = Field(default=None, gt=0)
    schedule: ScheduleName | None = None
    warmup: Share | None = None
    weight_decay: float | None = Field(default=None, ge=0)
    clip_norm: float | None = Field(default=None, gt=0)
    average: float | None = Field(default=None, ge=0, lt=1)
    augment: Augment | None = None
    epochs: Positive | None = None
    patience: Positive | None = None
    batch_tokens: Positive | None = None


class ModelConfig(Section):
    """Hyper-parameters of a model: its section under `models` in `params.yaml`."""


class LearnerConfig(ModelConfig):
    """Hyper-parameters of a model that learns by gradients."""

    train: Overrides = Overrides()

    @field_validator("train", mode="before")
    @classmethod
    def _over_the_models_own(cls, given: Any) -> Any:
        """What is not given stays as the model has it: a learning rate of one's own changes no loss."""
        own = cls.model_fields["train"].default.model_dump(exclude_unset=True)
        return merged(own, given) if isinstance(given, Mapping) else given


class Recommender(nn.Module, ABC):
    """A model: scores users, given their histories, against the catalogue."""

    Config: ClassVar[type[ModelConfig]]
    name: ClassVar[str]
    """What the catalogue and `params.yaml` call it."""

    def __init__(self, config: ModelConfig, *, catalogue_size: int, user_count: int, max_history: int) -> None:
        """
        Args:
            config: hyper-parameters; an instance of `Config`.
            catalogue_size: number of items; item codes are below it.
            user_count: number of users known when it was trained; user codes are below it.
            max_history: it looks at this many of a history's last events.
        """
        super().__init__()
        self.config = config
        self.catalogue_size = catalogue_size
        self.user_count = user_count
        self.max_history = max_history

    def score(self, histories: RaggedTensor, users: Tensor | None = None, candidates: Tensor | None = None) -> Tensor:
        """How well each item would follow each history; only the order of scores means anything.

        Args:
            histories: item codes, oldest first; a history may be empty.
            users: int64 [batch] user codes; -1, or None for all, where a user is not known.
            candidates: int64 [candidates] item codes to score; None for the whole catalogue.

        Returns:
            float32 [batch, items], or [batch, candidates] in the order of `candidates`.

        Raises:
            ModelError: an item code is not of this catalogue.
        """
        for name, codes in (("histories", histories.values), ("candidates", candidates)):
            if (
                codes is not None
                and codes.numel()
                and not 0 <= int(codes.min()) <= int(codes.max()) < self.catalogue_size
            ):
                raise ModelError(
                    f"{self.name}: {name} hold an item code outside 0 … {self.catalogue_size - 1}",
                    remedy="give it codes of the data it was trained on",
                )
        if not len(histories):
            count = self.catalogue_size if candidates is None else len(candidates)
            return torch.empty(0, count, device=self.device)
        return self._score(histories, users, candidates)

    @abstractmethod
    def _score(self, histories: RaggedTensor, users: Tensor | None, candidates: Tensor | None) -> Tensor:
        """`score`, with codes that are known to be of the catalogue, and at least one history."""

    @property
    def reads_times(self) -> bool:
        """Whether what it says depends on when events were."""
        return False

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        device: torch.device = next(iter(self.state_dict().values())).device
        return device

    @property
    def parameter_count(self) -> int:
        """Numbers it has learnt."""
        return sum(tensor.numel() for tensor in self.state_dict().values())

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` and `model.json` into `folder`. The same model gives the same bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        save_tensors(folder / WEIGHTS, self.state_dict())
        write_json(
            folder / DESCRIPTION,
            {
                "format": FORMAT,
                "name": self.name,
                "config": self.config.model_dump(mode="json"),
                "catalogue_size": self.catalogue_size,
                "user_count": self.user_count,
                "max_history": self.max_history,
            },
        )


class DualEncoder(Recommender):
    """A model that makes a vector of a user and one of an item, and scores them by how they match.

    The match is their product unless a model says otherwise.
    """

    by_product: ClassVar[bool] = True
    """Whether the match is the product: then retrieval, an index and the loss over the catalogue need no more."""

    @abstractmethod
    def encode(self, histories: RaggedTensor, users: Tensor | None = None) -> Tensor:
        """Users as vectors.

        Args:
            histories: item codes, oldest first; a history may be empty.
            users: int64 [batch] user codes; -1, or None for all, where a user is not known.

        Returns:
            float32 [batch, width]
        """

    @abstractmethod
    def item_matrix(self) -> Tensor:
        """Items as vectors: float32 [items, width]."""

    def item_vectors(self, codes: Tensor) -> Tensor:
        """float32 [codes, width]: rows of `item_matrix`, which a model may make without making all of it."""
        return self.item_matrix()[codes]

    def match(self, queries: Tensor, items: Tensor) -> Tensor:
        """Each of `queries` [n, width] with each of `items` [m, width]: [n, m]."""
        return queries @ items.T

    def match_each(self, queries: Tensor, items: Tensor) -> Tensor:
        """Each of `queries` [n, width] with its own of `items` [n, width]: [n]."""
        return (queries * items).sum(1)

    def _score(self, histories: RaggedTensor, users: Tensor | None, candidates: Tensor | None) -> Tensor:
        items = self.item_matrix() if candidates is None else self.item_vectors(candidates)
        return self.match(self.encode(histories, users), items)


class ClosedForm(Recommender):
    """A model that is computed from the data at once."""

    @abstractmethod
    def fit(self, prepared: Prepared) -> None:
        """Learn from the training period of `prepared`."""


@dataclass(frozen=True)
class Predictions:
    """What a model is asked in training: to find each target from its query."""

    queries: Tensor
    """float32 [n, width]"""
    targets: Tensor
    """int64 [n]: item codes"""
    weights: Tensor
    """float32 [n]: how much each counts in the loss"""


class Learner(DualEncoder):
    """A model that learns by gradients of a loss (`training/losses`)."""

    config: LearnerConfig

    @property
    def reads_shown(self) -> bool:
        """Whether it looks at what a batch shows of histories while it learns, and so at how they are augmented."""
        return True

    @property
    def item_rows(self) -> tuple[str, ...]:
        """Names of all its tensors that begin with a row an item, row = item code: a training that begins from another
        model of the kind finds them again by the items' ids."""
        return ("items.weight",)

    @property
    def user_rows(self) -> tuple[str, ...]:
        """Names of all its tensors that begin with a row a user, row = user code."""
        return ()

    def begin(self, prepared: Prepared) -> None:
        """Take from the data what the model begins with, before it learns. Only the training period is looked at."""

    @abstractmethod
    def loss(self, batch: Batch, criterion: Criterion) -> Tensor:
        """What `criterion` says of what is to be learnt from a batch: a scalar to be made small."""


class Predictor(Learner):
    """A model that learns to find targets from queries."""

    @abstractmethod
    def predictions(self, batch: Batch) -> Predictions:
        """What is to be learnt from a batch."""

    def loss(self, batch: Batch, criterion: Criterion) -> Tensor:
        return criterion(self, self.predictions(batch))


Criterion = Callable[[Predictor, Predictions], Tensor]
"""From a model and its predictions to their mean loss, each counting by its weight."""
