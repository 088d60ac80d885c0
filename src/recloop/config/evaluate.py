"""`evaluate` and `promotion`: how models are judged, and what it takes to become champion."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from recloop.config.section import Positive, Section, Seed, Share

TargetKind = Literal["each", "together"]


class Evaluate(Section):
    """How models are judged: over the whole catalogue, never over sampled items."""

    k: tuple[Positive, ...] = (5, 10, 20)
    targets: TargetKind = "each"
    """`each`: every event to predict by itself, from all before it; `together`: a user's events of the period are one
    set to be found, from those before the first of them."""
    exclude_seen: bool = True
    """Items of a user's history are not recommended again; false where repeats count."""
    warm_from: Positive = 10
    """A user with so many events before the first to predict is warm; with fewer, cold."""
    head_share: float = Field(default=0.5, gt=0, lt=1)
    """The most popular items that make up this share of the training events are the head."""
    group_by: str | None = None
    """A column of the users' table: every group of users in it is judged by itself, too."""
    bootstrap: int = Field(default=2000, ge=1, le=100_000)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    seed: Seed = 7

    @model_validator(mode="after")
    def _judges_at_ten(self) -> Evaluate:
        if 10 not in self.k:
            raise ValueError("k must include 10: models are chosen and promoted by NDCG@10")
        return self


class Promotion(Section):
    """When a challenger becomes champion: a paired bootstrap on the same users, and guardrails."""

    model_name: str = Field(default="recloop", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Name in the registry, and of MLflow's experiment."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    min_gain: float = 0.0
    """The lower end of the interval of (challenger - champion) in NDCG@10 must exceed this. Below 0 it lets a
    challenger through that is surely not worse than by so much, and brings newer data along."""
    min_users: Positive = 30
    max_coverage_loss: Share = 0.5
    """Share that the challenger may lose of the items which the champion shows, of those there are now."""
    max_latency_ms: float = Field(default=50.0, gt=0)
    """Median time to score one user."""
