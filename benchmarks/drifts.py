"""Drifts to inject into a window of traffic, each in three sizes. Each takes a window and gives another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from benchmarks.visits import SECOND, Period, Stretch, of_others

SIZES = ("small", "middle", "large")
Inject = Callable[[Stretch, float, Period, np.random.Generator], Stretch]


@dataclass(frozen=True)
class Drift:
    """How, and what share in the three sizes: of visits, events or lists, and of bots for each visit."""

    inject: Inject
    shares: tuple[float, float, float]


def popularity(came: Stretch, share: float, period: Period, rng: np.random.Generator) -> Stretch:
    """Some visitors take items off the beaten track."""
    drawn = pd.Series(rng.choice(period.tail, len(came.events)))
    return _changed(came, item_id=came.events.item_id.mask(_of_visits(came, share, rng), drawn))


def new_items(came: Stretch, share: float, _: Period, rng: np.random.Generator) -> Stretch:
    """Some events go to items that nobody knew."""
    these = rng.random(len(came.events)) < share
    names = pd.Series([f"new {number}" for number in rng.integers(50, size=len(came.events))])
    return _changed(came, item_id=came.events.item_id.mask(these, names))


def user_mix(came: Stretch, share: float, _: Period, rng: np.random.Generator) -> Stretch:
    """Some visitors come for the first time."""
    these = _of_visits(came, share, rng)
    new = "somebody new " + came.events.visit.astype(str)
    users = came.users | {visit: f"somebody new {visit}" for visit in came.events.visit[these].unique()}
    return replace(_changed(came, user_id=came.events.user_id.mask(these, new)), users=users)


def category(came: Stretch, share: float, period: Period, rng: np.random.Generator) -> Stretch:
    """Some visitors take items of one category only, those that are liked there."""
    name = max(period.by_category, key=lambda name: (name == "Horror", len(period.by_category[name])))
    liked = pd.Series(rng.choice(period.by_category[name], len(came.events)))
    return _changed(came, item_id=came.events.item_id.mask(_of_visits(came, share, rng), liked))


def broken_field(came: Stretch, share: float, _: Period, rng: np.random.Generator) -> Stretch:
    """Of some visits the ratings come without their value, and are refused."""
    these = _of_visits(came, share, rng)
    refused = came.events.loc[these, ["received_at"]].assign(reason="value: missing")
    return replace(came, events=came.events[~these].reset_index(drop=True), refused=refused)


def duplicates(came: Stretch, share: float, _: Period, rng: np.random.Generator) -> Stretch:
    """Some events come twice, each under an id of its own."""
    again = came.events[rng.random(len(came.events)) < share]
    later = {name: again[name] + SECOND for name in ("timestamp", "received_at")}
    return replace(came, events=pd.concat([came.events, again.assign(**later)], ignore_index=True))


def bots(came: Stretch, share: float, period: Period, rng: np.random.Generator) -> Stretch:
    """Further visitors push one item among a hundred others; so many for each real one."""
    target = rng.choice(period.tail)
    fakes = []
    for number in range(max(1, round(share * came.events.visit.nunique()))):
        begin = came.events.timestamp.iloc[rng.integers(len(came.events))]
        at = begin + 2 * SECOND * np.arange(100)
        fakes.append(
            pd.DataFrame(
                {
                    "visit": -number - 1,
                    "user_id": f"bot {number}",
                    "item_id": np.append(rng.choice(came.events.item_id.to_numpy(), 99), target),
                    "event": "rating",
                    "value": np.float32(5.0),
                    "timestamp": at,
                    "received_at": at + SECOND,
                }
            )
        )
    return replace(came, events=pd.concat([came.events, *fakes], ignore_index=True))


def stale(came: Stretch, share: float, _: Period, rng: np.random.Generator) -> Stretch:
    """Some visitors are shown the lists of others, as from a model that has lost touch."""
    visits = np.array(sorted(came.users))
    others = np.where(rng.random(len(visits)) < share, rng.permutation(visits), visits)
    return of_others(came, dict(zip(visits.tolist(), others.tolist(), strict=True)))


def _of_visits(came: Stretch, share: float, rng: np.random.Generator) -> pd.Series:
    """bool [events]: whether an event is of one of the chosen visits, so many of all."""
    visits = came.events.visit.unique()
    return came.events.visit.isin(visits[rng.random(len(visits)) < share])


def _changed(came: Stretch, **columns: pd.Series) -> Stretch:
    return replace(came, events=came.events.assign(**columns))


DRIFTS: dict[str, Drift] = {
    "popularity shift": Drift(popularity, (0.2, 0.5, 0.8)),
    "new-item flood": Drift(new_items, (0.03, 0.1, 0.3)),
    "user-mix shift": Drift(user_mix, (0.15, 0.4, 0.8)),
    "category shift": Drift(category, (0.1, 0.3, 0.6)),
    "broken field": Drift(broken_field, (0.03, 0.1, 0.3)),
    "duplicate events": Drift(duplicates, (0.03, 0.1, 0.3)),
    "bots": Drift(bots, (0.05, 0.2, 0.5)),
    "stale model": Drift(stale, (0.4, 0.8, 1.0)),
}
