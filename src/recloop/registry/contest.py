"""Challenger against champion, on the same users and the same cases.

Both are asked what comes next in the challenger's test period. The champion may be older than that data:
items are matched by `item_id` and users by `user_id`, an item it does not know is passed over in a history,
and a target it does not know is a miss, for that is what its users would have met.

Of the items that are shown, those of the challenger's data count for coverage: what is not there any more cannot be
lost. (Shares of each one's own catalogue would not do: the more items there are now, the smaller the challenger's.)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from recloop.config import Evaluate, Promotion
from recloop.data.prepared import Prepared, Ragged
from recloop.evaluation.bootstrap import Interval, paired
from recloop.evaluation.metrics import case_metrics, user_means
from recloop.evaluation.questions import Questions
from recloop.evaluation.ranking import rank
from recloop.registry.package import Package

K = 10
LATENCY_USERS = 100


@dataclass(frozen=True)
class Answers:
    """What a package answered to the cases of the test period."""

    ndcg: np.ndarray
    """float64 [users that have cases], by ascending code of the challenger's data: NDCG@10"""
    items_shown: int
    """Different items in anybody's first ten, of those that the challenger's data has."""
    unknown_targets: int
    """Cases whose target the package does not know."""


@dataclass(frozen=True)
class Contest:
    """The numbers that decide."""

    users: int
    cases: int
    challenger_ndcg: float
    champion_ndcg: float
    gain: Interval
    """Challenger minus champion in NDCG@10, over users."""
    challenger_items: int
    """Different items in anybody's first ten, of those that the challenger's data has."""
    champion_items: int
    champion_unknown_targets: int
    """Cases whose target the champion does not know: misses."""
    latency_ms: float
    """Median time of the challenger to answer one user."""

    def objections(self, rules: Promotion) -> tuple[str, ...]:
        """Why the challenger is not to become champion; nothing, if it is."""
        found = []
        if self.users < rules.min_users:
            found.append(f"only {self.users} users to judge by, {rules.min_users} are wanted (promotion.min_users)")
        if not self.gain.low > rules.min_gain:
            found.append(
                f"the gain in NDCG@10 is not surely above {rules.min_gain:g}: {self.gain.mean:+.4f}, "
                f"between {self.gain.low:+.4f} and {self.gain.high:+.4f} (promotion.min_gain)"
            )
        if self.challenger_items < (1 - rules.max_coverage_loss) * self.champion_items:
            found.append(
                f"it recommends {self.challenger_items:,} items, the champion {self.champion_items:,} of the same "
                "catalogue "
                f"(promotion.max_coverage_loss {rules.max_coverage_loss:g})"
            )
        if self.latency_ms > rules.max_latency_ms:
            found.append(
                f"it takes {self.latency_ms:.1f} ms a user, {rules.max_latency_ms:g} are allowed "
                "(promotion.max_latency_ms)"
            )
        return tuple(found)

    def numbers(self) -> dict[str, Any]:
        """For the version's tags and the history."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"NDCG@10 {self.challenger_ndcg:.4f} against {self.champion_ndcg:.4f}, a gain of "
            f"{self.gain.mean:+.4f} [{self.gain.low:+.4f}, {self.gain.high:+.4f}] over {self.users:,} users"
        )


def compete(
    challenger: Package,
    champion: Package,
    prepared: Prepared,
    rules: Promotion,
    evaluate: Evaluate,
    latency_ms: float,
) -> Contest:
    """Put the test cases of `prepared` to both.

    Args:
        challenger: built from `prepared`.
        champion: of any age.
        prepared: the data whose test period decides.
        rules: confidence of the interval.
        evaluate: what is asked, and how the bootstrap draws.
        latency_ms: of the challenger.

    Raises:
        ModelError: a model cannot be loaded or gives no numbers.
    """
    new, old = (answers(package, prepared, evaluate) for package in (challenger, champion))
    return Contest(
        users=len(new.ndcg),
        cases=len(prepared.cases["test"]),
        challenger_ndcg=float(new.ndcg.mean()),
        champion_ndcg=float(old.ndcg.mean()),
        gain=paired(new.ndcg, old.ndcg, samples=evaluate.bootstrap, confidence=rules.confidence, seed=evaluate.seed),
        challenger_items=new.items_shown,
        champion_items=old.items_shown,
        champion_unknown_targets=old.unknown_targets,
        latency_ms=latency_ms,
    )


def answers(package: Package, prepared: Prepared, evaluate: Evaluate) -> Answers:
    """Put the test cases of `prepared` to the model of `package`, in the package's own item and user
    codes."""
    from recloop.models.catalogue import load_model

    parcel = package.parcel
    item_of = _mapping(prepared.item_ids, parcel.item_ids)
    user_of = _mapping(prepared.user_ids, parcel.user_ids)
    asked = Questions.of(prepared, "test", evaluate.targets, parcel.info.max_history)
    seen = _known(asked.seen, item_of)
    shown = Ragged.slices(
        seen.values,
        np.maximum(seen.offsets[:-1], seen.offsets[1:] - parcel.info.max_history),
        seen.offsets[1:],
        seen.times,
    )
    targets = item_of[asked.targets.values]
    unknown = targets < 0
    ranking = rank(
        load_model(package.folder),
        shown,
        user_of[asked.users],
        targets=Ragged(np.where(unknown, 0, targets).astype(np.int32), asked.targets.offsets),
        k=K,
        exclude_seen=evaluate.exclude_seen,
        seen=seen,
    )
    ranks = np.where(unknown, max(len(parcel.item_ids), K) + 1, ranking.ranks)
    metrics = case_metrics(ranks, (K,), asked.targets.offsets)
    lists = np.unique(ranking.lists)
    there = np.isin(lists, item_of) & (lists >= 0)
    return Answers(
        ndcg=user_means(metrics[f"ndcg_at_{K}"], asked.users),
        items_shown=int(there.sum()),
        unknown_targets=int(unknown.sum()),
    )


def latency_ms(package: Package, clock: Callable[[], float] = time.perf_counter) -> float:
    """Median time the endpoint's engine takes to answer one user, over up to a hundred users spread over all.

    Raises:
        ServingError: the package cannot be served.
        ModelError: the model in it cannot be loaded.
    """
    from recloop.serving.engine import Engine, Query

    engine = Engine.load(package.folder)
    users = package.parcel.user_ids
    times = []
    for user_id in users[:: max(1, len(users) // LATENCY_USERS)][:LATENCY_USERS]:
        user = engine.user(user_id)
        history, when = engine.known(user)
        if not history:
            continue  # gets what is popular, and asks no model
        start = clock()
        engine.rank([Query(history, when, user, history)], K)
        times.append(clock() - start)
    return 1000 * float(np.median(times)) if times else 0.0


def _mapping(theirs: list[str], ours: list[str]) -> np.ndarray:
    """int32 [theirs]: the place of each in `ours`; -1 where it is not there."""
    places = {name: place for place, name in enumerate(ours)}
    return np.fromiter((places.get(name, -1) for name in theirs), np.int32, len(theirs))


def _known(histories: Ragged, item_of: np.ndarray) -> Ragged:
    """The histories in the package's item codes, without the items it does not know."""
    values = item_of[histories.values]
    kept = np.concatenate([[0], np.cumsum(values >= 0)])
    times = None if histories.times is None else histories.times[values >= 0]
    return Ragged(values[values >= 0], kept[histories.offsets].astype(np.int64), times)
