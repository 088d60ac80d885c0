"""What a model trains with: the `train` section, with what the model's own section sets in its place."""

from __future__ import annotations

from recloop.config import Params, Train, merged, validated
from recloop.errors import ConfigError
from recloop.models.base import DualEncoder, LearnerConfig
from recloop.models.catalogue import model_class, model_config


def effective(name: str, train: Train, config: LearnerConfig) -> Train:
    """`train`, with what `config` sets under `train` in its place, single value by single value.

    Raises:
        ConfigError: the values do not go together, or not with the model.
    """
    own = config.train.model_dump(exclude_unset=True, exclude_none=True)
    settings = validated(Train, merged(train.model_dump(), own), where=f"models.{name}.train")
    kind = model_class(name)
    if settings.loss.kind == "cross_entropy" and issubclass(kind, DualEncoder) and not kind.by_product:
        raise ConfigError(
            f"{name} cannot be trained with cross_entropy: its score is no product of vectors, and the whole "
            "catalogue at every event is out of reach",
            remedy=f"set models.{name}.train.loss.kind to sampled_softmax, bce, gbce or bpr",
        )
    return settings


def check_models(params: Params) -> None:
    """Validate every model's section of `params.yaml` and what it would train with, whether or not it is in the zoo.

    Raises:
        ConfigError: a key or a value is wrong, or does not go with others; every fault of a section is named.
    """
    for name, section in params.models.items():
        config = model_config(name, section)
        if isinstance(config, LearnerConfig):
            effective(name, params.train, config)
