"""Several models as one: each learns by itself from the same batches, and an item's score is the sum of theirs.

Trainings that differ only in their first weights make different mistakes, and their sum is better than any of them
(Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles, Lakshminarayanan et al., 2017, arXiv
1612.01474). Of members that score by products, the vectors put end to end have the sum as their product: to all that
serves and judges, it is one more model.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import field_validator
from torch import Tensor, nn

from recloop.data.batches import Batch, RaggedTensor
from recloop.data.prepared import Prepared
from recloop.errors import ConfigError
from recloop.models.base import Criterion, Learner, LearnerConfig


class EnsembleConfig(LearnerConfig):
    """Which members: each a model's name, as `model`, and its hyper-parameters."""

    members: tuple[dict[str, Any], ...] = ({"model": "sasrec"}, {"model": "bsarec"})

    @field_validator("members")
    @classmethod
    def _are_learners(cls, members: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        """Each member with all its hyper-parameters, so that a change of a default changes no saved model."""
        from recloop.models.catalogue import model_class, model_config

        if len(members) < 2:
            raise ValueError("an ensemble has at least two members, e.g. [{model: sasrec}, {model: bsarec}]")
        whole = []
        for place, member in enumerate(members):
            own = {key: value for key, value in member.items() if key != "model"}
            try:
                kind = model_class(str(member.get("model")))
                config = model_config(str(member.get("model")), own)
            except ConfigError as error:
                raise ValueError(f"member {place}: {error}") from error
            if not issubclass(kind, Learner) or not kind.by_product or issubclass(kind, Ensemble):
                raise ValueError(f"member {place}: {kind.name} is not a model that learns vectors by gradients")
            if "train" in own:
                raise ValueError(f"member {place}: all members train alike; set models.ensemble.train instead")
            whole.append({"model": kind.name} | config.model_dump(mode="json", exclude={"train"}))
        return tuple(whole)


class Ensemble(Learner):
    """Members, side by side."""

    Config = EnsembleConfig
    name = "ensemble"
    config: EnsembleConfig

    def __init__(self, config: EnsembleConfig, *, catalogue_size: int, user_count: int, max_history: int) -> None:
        from recloop.models.catalogue import build

        super().__init__(config, catalogue_size=catalogue_size, user_count=user_count, max_history=max_history)
        sizes = {"catalogue_size": catalogue_size, "user_count": user_count, "max_history": max_history}
        self.members = nn.ModuleList(
            build(member["model"], {key: value for key, value in member.items() if key != "model"}, **sizes)
            for member in config.members
        )

    @property
    def _members(self) -> list[Learner]:
        return [member for member in self.members if isinstance(member, Learner)]

    @property
    def reads_times(self) -> bool:
        return any(member.reads_times for member in self._members)

    @property
    def reads_shown(self) -> bool:
        return any(member.reads_shown for member in self._members)

    @property
    def item_rows(self) -> tuple[str, ...]:
        return tuple(f"members.{place}.{name}" for place, each in enumerate(self._members) for name in each.item_rows)

    @property
    def user_rows(self) -> tuple[str, ...]:
        return tuple(f"members.{place}.{name}" for place, each in enumerate(self._members) for name in each.user_rows)

    def item_vectors(self, codes: Tensor) -> Tensor:
        return torch.cat([member.item_vectors(codes) for member in self._members], 1)

    def encode(self, histories: RaggedTensor, users: Tensor | None = None) -> Tensor:
        """The members' vectors, end to end."""
        return torch.cat([member.encode(histories, users) for member in self._members], 1)

    def item_matrix(self) -> Tensor:
        return torch.cat([member.item_matrix() for member in self._members], 1)

    def begin(self, prepared: Prepared) -> None:
        for member in self._members:
            member.begin(prepared)

    def loss(self, batch: Batch, criterion: Criterion) -> Tensor:
        """The sum of the members' losses: none feels the others, unless `train.clip_norm` cuts them together."""
        return torch.stack([member.loss(batch, criterion) for member in self._members]).sum()
