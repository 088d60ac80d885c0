"""What a replay found, as figures: quality of every policy, what is left of it, and what it cost.

Quality is the mean over all played events; intervals are over users, who are drawn again with all their events, for
all policies at once, so that what users differ in cancels out of differences and ratios.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from recloop.config.section import Section
from recloop.replay.policies import EVERY, NEVER

SAMPLES = 2000
CONFIDENCE = 0.95


class Between(Section):
    """A figure, and between which values it lies."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


class Retraining(Section):
    """One training of a policy, after the first one that all share."""

    seed: int
    after_window: int
    """From 1"""
    events: int
    """That the version knows"""
    seconds: float
    reason: str


class PolicyFacts(Section):
    """What came of one policy."""

    quality: float
    """NDCG@10, the mean over all played events"""
    quality_interval: Between
    hit_rate: float
    """Share of the events whose item stood in the list of ten"""
    quality_kept: float
    """Of what retraining after every window has"""
    quality_kept_interval: Between
    over_never: Between
    """NDCG@10 above that of never retraining"""
    trainings: float
    """A seed, as the seconds are"""
    training_seconds: float
    training_share: float
    """Of the seconds of retraining after every window"""
    gain_per_training: float | None
    """`over_never` by the number of trainings; None where there was none"""
    ndcg_by_window: list[float]
    retrainings: list[Retraining]


class ReplayReport(Section):
    """`replay.json`."""

    model: str
    seeds: list[int]
    """Of the trainings; quality is the mean over them"""
    events: int
    """Played"""
    learnt: int
    """Events that the first version knows"""
    users: int
    """Of the played events"""
    new_user_share: float
    """Share of the played events by users that the first version does not know"""
    new_item_share: float
    """Share of the played events on items that the first version does not know"""
    windows: list[str]
    """When each began, and when the last one ended"""
    events_by_window: list[int]
    seconds_by_window: list[float]
    """Of asking and monitoring, all policies together, a seed"""
    first_training_seconds: float
    """A seed"""
    policies: dict[str, PolicyFacts]


@dataclass(frozen=True)
class Course:
    """How one policy went: float64 [events] each, and its trainings."""

    ndcg: np.ndarray
    hits: np.ndarray
    retrainings: Sequence[Retraining]

    @classmethod
    def mean(cls, courses: Sequence[Course]) -> Course:
        """Of courses over the same events with other seeds: the mean of their figures, and all their trainings."""
        return cls(
            np.mean([each.ndcg for each in courses], axis=0),
            np.mean([each.hits for each in courses], axis=0),
            [retraining for each in courses for retraining in each.retrainings],
        )


def discounted(places: np.ndarray) -> np.ndarray:
    """NDCG of lists with one right answer: 1 / log2(1 + place); 0 where the place is 0, which is none."""
    found: np.ndarray = np.where(places > 0, 1 / np.log2(1 + np.maximum(places, 1)), 0.0)
    return found


def facts(
    courses: Mapping[str, Course], users: np.ndarray, bounds: Sequence[int], *, seeds: int = 1
) -> dict[str, PolicyFacts]:
    """Set every policy against never retraining, and against retraining after every window.

    Args:
        courses: by policy; both of these are among them.
        users: int [events]: user codes from 0, whose each event was.
        bounds: window `i` has the events from `bounds[i]` to before `bounds[i + 1]`.
        seeds: how many the courses are the mean of.
    """
    counts = np.bincount(users)
    sums = np.stack([np.bincount(users, course.ndcg, minlength=len(counts)) for course in courses.values()], 1)
    people = len(counts)
    draws = np.random.default_rng(0).multinomial(people, np.full(people, 1 / people), size=SAMPLES).astype(float)
    means = dict(zip(courses, ((draws @ sums) / (draws @ counts)[:, None]).T, strict=True))
    every_seconds = _seconds(courses[EVERY])
    quality = {name: float(course.ndcg.mean()) for name, course in courses.items()}

    def kept(name: str) -> float:
        return quality[name] / quality[EVERY] if quality[EVERY] else 0.0

    found = {}
    for name, course in courses.items():
        gain = quality[name] - quality[NEVER]
        found[name] = PolicyFacts(
            quality=quality[name],
            quality_interval=_between(quality[name], means[name]),
            hit_rate=float(course.hits.mean()),
            quality_kept=kept(name),
            quality_kept_interval=_between(kept(name), means[name] / np.maximum(means[EVERY], 1e-12)),
            over_never=_between(gain, means[name] - means[NEVER]),
            trainings=len(course.retrainings) / seeds,
            training_seconds=_seconds(course) / seeds,
            training_share=_seconds(course) / every_seconds if every_seconds else 0.0,
            gain_per_training=gain * seeds / len(course.retrainings) if course.retrainings else None,
            ndcg_by_window=[float(course.ndcg[start:end].mean()) for start, end in pairwise(bounds)],
            retrainings=list(course.retrainings),
        )
    return found


def _between(mean: float, drawn: np.ndarray) -> Between:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Between(mean=mean, low=float(low), high=float(high))


def _seconds(course: Course) -> float:
    return float(sum(retraining.seconds for retraining in course.retrainings))
