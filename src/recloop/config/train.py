"""`train`: how models are trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from recloop.config.section import Positive, Section, Seed, Share

LossName = Literal["cross_entropy", "sampled_softmax", "bce", "gbce", "bpr"]
OptimizerName = Literal["adamw", "adam", "sgd"]
ScheduleName = Literal["constant", "linear", "cosine"]


class Loss(Section):
    """What is made small in training."""

    kind: LossName = "cross_entropy"
    """`cross_entropy` is exact, over the whole catalogue; the others are over `negatives`."""
    negatives: Positive = 256
    """How many items a batch is shown that are wrong; all its events share them."""
    popularity: float = Field(default=0.0, ge=0, le=1)
    """What negatives are drawn by: their events in training to this power. 0: all items alike."""
    calibration: float = Field(default=0.75, ge=0, le=1)
    """`gbce`: 0 is bce; 1 gives scores that are probabilities."""


class Augment(Section):
    """What is done to histories before they are learnt from: for sparse data. Each is a probability, 0 is off."""

    crop: float = Field(default=0.0, ge=0, le=1)
    """That a history is cut down to a stretch of it, at least half as long."""
    mask: float = Field(default=0.0, ge=0, lt=1)
    """That an event is not shown to the model (it is still to be predicted)."""
    reorder: float = Field(default=0.0, ge=0, le=1)
    """That a stretch of a history, a quarter as long, is put into another order."""
    substitute: float = Field(default=0.0, ge=0, lt=1)
    """That an event is shown as a similar item: one of those that most often occur near it."""

    @property
    def active(self) -> bool:
        """Whether anything is done at all."""
        return any((self.crop, self.mask, self.reorder, self.substitute))


class Train(Section):
    """How models are trained. What a model is lies in its own section under `models`."""

    loss: Loss = Loss()
    optimizer: OptimizerName = "adamw"
    lr: float = Field(default=2e-3, gt=0)
    schedule: ScheduleName = "constant"
    """What becomes of the learning rate after the warm-up: it stays, or falls to 0 over `epochs`."""
    warmup: Share = 0.0
    """The first share of all steps, in which the learning rate rises from 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float | None = Field(default=None, gt=0)
    """The longest a step's gradient may be; null: as long as it is."""
    average: float = Field(default=0.99, ge=0, lt=1)
    """Judge and keep a running mean of the weights, of which so much stays at each step; 0: the weights as they are."""
    augment: Augment = Augment()
    warm_start: bool = True
    """Begin from the weights of the champion that the last snapshot took, where they fit; else from nothing."""
    epochs: Positive = 20
    patience: Positive = 4
    """Stop after this many epochs without a better validation NDCG@10, and keep the best epoch."""
    batch_tokens: Positive = 2048
    """Events in a batch: histories of any length, packed without padding between batches."""
    max_history: Positive = 50
    """A user's last events that a model looks at, in training and in serving."""
    seed: Seed = 42
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32"] = "auto"
    """`auto`: on a GPU that has bf16 a model's layers compute in it; weights and the loss stay float32."""
    threads: int = Field(default=2, ge=1, le=1024)
    """Threads on a CPU. Fixed, because the order of a sum, and so its last bits, depends on it."""

    @model_validator(mode="after")
    def _a_history_fits(self) -> Train:
        if self.batch_tokens <= self.max_history:
            raise ValueError(
                f"batch_tokens must be above max_history ({self.max_history}): a batch holds the longest history "
                f"and what follows it (got {self.batch_tokens})"
            )
        return self
