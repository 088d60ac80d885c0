"""Does the monitor cry wolf, and does it see the wolf? Windows of real traffic, with and without an injected drift.

    python -m benchmarks.monitoring --data FOLDER/ml-latest-small
    python -m benchmarks.monitoring --table

`--data` is a folder with MovieLens' ratings.csv and movies.csv. The visits of its second half are put in an order of
their own, drawn at random, so that nothing drifts in them: a visit keeps its user and what it rates, and begins when
another one did. A model is taken to know what comes before a moment; the visits after it are the period that windows
are drawn from, visit by visit, with replacement. What is judged goes through the monitor's own functions, with the
policy of `params.yaml`'s defaults.

Every visit of a window also has lists, made by item-kNN on the way through it, of what the model knows and of what the
visit has had; one was taken if an item of it comes later. The lists of a stale model are those of other visits.

A drift comes in three sizes. It is detected where the verdict of its first window says so; `delay` is in how many
windows, one after the other, it was.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp  # type: ignore[import-untyped]
from rich.console import Console
from rich.table import Table

from benchmarks.report import machine, read, write
from monitoring.compare import find
from monitoring.features import PAUSE_SECONDS, event_features, sampled
from monitoring.known import Known, Vocabulary
from monitoring.policy import Judgement, judge
from monitoring.reference import as_it_went
from monitoring.signals import EVENT_SIGNALS
from recloop.config import Gate, Monitoring

POLICY = Monitoring()
PERIODS = 5
"""Orders of the visits that are drawn"""
VISITS = 200
"""In a window"""
WINDOWS = 3
"""That a drift lasts"""
LISTS = 2
"""Windows' worth of earlier lists, which a window's are compared with"""
LISTED, READ, SHOWN = 20, 20, 4
"""Items of a list, those of a user's that it is made from, and lists of a visit"""
DAY = 86_400_000_000
ROWS = ["user_id", "item_id", "event", "value", "timestamp"]


@dataclass
class Period:
    """What a model knows, and the visits that come after it."""

    reference: pd.DataFrame
    known: Known
    vocabulary: Vocabulary
    visits: list[pd.DataFrame]
    earlier: list[int]
    """Of each visit's user, when it begins"""
    tail: np.ndarray
    """Items that the least popular half of the events went to"""
    by_category: dict[str, np.ndarray]
    """Category → the items of it, as often as they occur"""
    lists: list[list[frozenset[str]]]
    """Of each visit, made on the way through it"""
    wanted: list[list[frozenset[str]]]
    """Of each list: the items that come later"""
    earlier_lists: pd.DataFrame
    """As `of_lists` has them, of visits that are in no window"""


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--data", type=Path, help="a folder with ratings.csv and movies.csv")
    told.add_argument("--windows", type=int, default=200, help="without drift")
    told.add_argument("--repeats", type=int, default=50, help="of every drift and size")
    told.add_argument("--table", action="store_true", help="print what was measured last")
    given = told.parse_args()
    if not given.table:
        if given.data is None:
            told.error("--data is needed: a folder with MovieLens' ratings.csv and movies.csv")
        write("monitoring", measure(given.data, given.windows, given.repeats))
    show(read("monitoring"))


def measure(folder: Path, windows: int, repeats: int) -> dict[str, Any]:
    """All windows."""
    import ibis

    log, items = load(folder)
    alarms = 0
    detected: dict[str, dict[str, list[int | None]]] = {kind: {size: [] for size in SIZES} for kind in DRIFTS}
    seen_by: dict[str, Counter[str]] = {kind: Counter() for kind in ("none", *DRIFTS)}
    for number in range(windows):  # of one order they would all see the same luck
        part = number % WINDOWS
        if part == 0:
            ibis.set_backend(ibis.duckdb.connect())
            period = period_of(log, items, np.random.default_rng(1000 + number))
        chosen = np.arange(part * VISITS, (part + 1) * VISITS)
        judgement = judged(period, of_visits(period, chosen), of_lists(period, chosen))
        alarms += judgement.outcome == "drift"
        seen_by["none"].update(signal.name for signal in judgement.signals if signal.drifted)
        print(f"{number + 1} windows without drift, {alarms} alarms", flush=True)
    for seed in range(PERIODS):
        rng = np.random.default_rng(seed)
        ibis.set_backend(ibis.duckdb.connect())
        period = period_of(log, items, rng)
        for kind, (inject, shares) in DRIFTS.items():
            for size, share in zip(SIZES, shares, strict=True):
                for _ in range(repeats // PERIODS):
                    delay = None
                    for number in range(WINDOWS):
                        chosen = rng.integers(WINDOWS * VISITS, size=VISITS)
                        drawn, lists = of_visits(period, chosen), of_lists(period, chosen)
                        if inject is None:
                            lists = stale(period, chosen, share, rng)
                        else:
                            drawn = inject(drawn, share, period, rng)
                        judgement = judged(period, drawn, lists)
                        if number == 0 and size == "middle":
                            seen_by[kind].update(signal.name for signal in judgement.signals if signal.drifted)
                        if judgement.outcome == "drift":
                            delay = number + 1
                            break
                    detected[kind][size].append(delay)
            print(seed, kind, detected[kind], flush=True)
    rates = {
        kind: {size: float(np.mean([delay == 1 for delay in found])) for size, found in sizes.items()}
        for kind, sizes in detected.items()
    }
    return {
        "data": folder.name,
        "settings": {"visits": VISITS, "windows": windows, "repeats": repeats, "policy": POLICY.model_dump()},
        "false_alarm_rate": alarms / windows,
        "detection_rate": rates,
        "detection_rate_middle": float(np.mean([sizes["middle"] for sizes in rates.values()])),
        "delay_windows": {
            kind: {size: [Counter(found)[number] for number in (1, 2, 3, None)] for size, found in sizes.items()}
            for kind, sizes in detected.items()
        },
        "seen_by": {kind: dict(found.most_common()) for kind, found in seen_by.items()},
        "sizes": {kind: dict(zip(SIZES, shares, strict=True)) for kind, (_, shares) in DRIFTS.items()},
    }


def load(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Interactions in order of time, and items with their categories."""
    ratings, movies = pd.read_csv(folder / "ratings.csv"), pd.read_csv(folder / "movies.csv")
    log = pd.DataFrame(
        {
            "user_id": ratings.userId.astype(str),
            "item_id": ratings.movieId.astype(str),
            "event": "rating",
            "value": ratings.rating.astype("float32"),
            "timestamp": pd.to_datetime(ratings.timestamp, unit="s", utc=True),
        }
    )
    categories = movies.genres.replace("(no genres listed)", "").str.split("|")
    items = pd.DataFrame({"item_id": movies.movieId.astype(str), "categories": categories})
    return log.sort_values(["timestamp", "user_id", "item_id"], ignore_index=True), items


def period_of(log: pd.DataFrame, items: pd.DataFrame, rng: np.random.Generator) -> Period:
    """The second half of `log` with its visits in a drawn order; of that a model knows the first two thirds."""
    import ibis

    by_user = log.sort_values(["user_id", "timestamp"], kind="stable")
    pause = by_user.groupby("user_id").timestamp.diff().dt.total_seconds()
    visit = ((pause > PAUSE_SECONDS) | pause.isna()).cumsum().reindex(log.index)
    begins = log.groupby(visit).timestamp.transform("min")
    half = begins >= log.timestamp.quantile(0.5)
    late, visits = log[half].copy(), visit[half]
    starts = late.groupby(visits).timestamp.min()
    drawn = starts.iloc[rng.permutation(len(starts))].set_axis(starts.index)
    late["timestamp"] += visits.map(drawn - starts)
    order = drawn.sort_values(kind="stable").index
    cut = 2 * len(order) // 3
    ends = cut + (WINDOWS + LISTS) * VISITS
    after = order[cut:ends]  # what comes later still is left out
    late, visits = (each[~visits.isin(order[ends:])] for each in (late, visits))
    learnt = pd.concat([log[~half], late[~visits.isin(after)]]).sort_values("timestamp", ignore_index=True)
    backend = ibis.get_backend()
    events, table = backend.create_table("events", learnt), backend.create_table("items", items)
    vocabulary = Vocabulary.of(events, table, Gate().events)
    reference = as_it_went(events, learnt.timestamp.quantile(1 - POLICY.reference_share), vocabulary, 0)
    groups = dict(list(late[visits.isin(after)].groupby(visits)))
    pool = [groups[visit].sort_values("timestamp") for visit in after]
    whole = pd.concat([learnt, *pool])
    counts = whole.item_id.value_counts()
    shares = counts.cumsum() / counts.sum()
    first = items.assign(first=items.categories.str[0]).set_index("item_id")["first"]
    categories = learnt.item_id.map(first)
    times = {user: np.sort(at.to_numpy(np.int64)) for user, at in whole.groupby("user_id").timestamp}
    lists, wanted = listed(learnt, pool)
    found = Period(
        reference=frame(reference),
        known=Known.before(events),
        vocabulary=vocabulary,
        visits=pool,
        earlier=[
            int(np.searchsorted(times[visit.user_id.iloc[0]], visit.timestamp.to_numpy(np.int64)[0])) for visit in pool
        ],
        tail=shares[shares > 0.5].index.to_numpy(),
        by_category={name: group.to_numpy() for name, group in learnt.item_id.groupby(categories)},
        lists=lists,
        wanted=wanted,
        earlier_lists=pd.DataFrame(),
    )
    found.earlier_lists = of_lists(found, np.arange(WINDOWS * VISITS, len(pool)))
    return found


def listed(
    learnt: pd.DataFrame, visits: list[pd.DataFrame]
) -> tuple[list[list[frozenset[str]]], list[list[frozenset[str]]]]:
    """Of each visit, the lists that item-kNN makes on the way through it, and what came after each."""
    users, items = (pd.factorize(learnt[column]) for column in ("user_id", "item_id"))
    taken = sp.csr_matrix((np.ones(len(learnt), np.float32), (users[0], items[0])))
    taken = taken @ sp.diags(1 / np.sqrt(np.asarray(taken.sum(0)).ravel()))
    code = {item: number for number, item in enumerate(items[1])}
    known = learnt.groupby("user_id").item_id.agg(list)
    lists, wanted = [], []
    for visit in visits:
        lists.append([])
        wanted.append([])
        for place in sorted({part * len(visit) // SHOWN for part in range(SHOWN)}):
            seen = [*known.get(visit.user_id.iloc[0], []), *visit.item_id[:place]]
            codes = [code[item] for item in seen[-READ:] if item in code]
            scores = np.asarray(taken.T @ taken[:, codes].sum(1)).ravel()
            scores[[code[item] for item in seen if item in code]] = -1
            lists[-1].append(frozenset(items[1][np.argsort(-scores, kind="stable")[:LISTED]]))
            wanted[-1].append(frozenset(visit.item_id[place:]))
    return lists, wanted


def of_lists(period: Period, chosen: np.ndarray, shown: np.ndarray | None = None) -> pd.DataFrame:
    """A row a list of the chosen visits: whether it was taken.

    Args:
        period: where they are from.
        chosen: int [lists]: visits.
        shown: int [lists]: whose lists each visit was shown; None: its own.
    """
    rows = [
        (number, "something" if list_ & wanted else "nothing")
        for number, (visit, other) in enumerate(zip(chosen, chosen if shown is None else shown, strict=True))
        for list_, wanted in zip(cycle(period.lists[other]), period.wanted[visit], strict=False)
    ]
    return pd.DataFrame(rows, columns=["user_id", "taken"]).assign(session=0)


def of_visits(period: Period, chosen: np.ndarray) -> pd.DataFrame:
    """Their events; `earlier` is what a user had done before. Every visit is a user of its own."""
    return pd.concat(
        [
            period.visits[visit].assign(user_id=f"visitor {number}", earlier=period.earlier[visit])
            for number, visit in enumerate(chosen)
        ],
        ignore_index=True,
    )


def judged(period: Period, events: pd.DataFrame, lists: pd.DataFrame) -> Judgement:
    """What the monitor says of a window's events and lists."""
    import ibis

    earlier = events.groupby("user_id", as_index=False).earlier.first()
    known = period.known.with_earlier(ibis.memtable(earlier))
    current = frame(event_features(ibis.memtable(events[ROWS]), known, period.vocabulary))
    findings = find(period.reference, current, EVENT_SIGNALS, POLICY.false_alarms)
    return judge([*findings, *find(period.earlier_lists, lists, ("taken",), POLICY.false_alarms)], POLICY.signals)


def frame(features: Any) -> pd.DataFrame:
    """As the monitor hands features over."""
    rows: pd.DataFrame = sampled(features).order_by(["timestamp", "user_id"]).to_pandas()
    return rows


# The drifts. Each takes a window's events and gives others.


def visits_of(events: pd.DataFrame, share: float, rng: np.random.Generator) -> pd.Series:
    """bool [events]: whether an event is of one of the chosen visits, so many of all."""
    users = events.user_id.unique()
    chosen = rng.random(len(users)) < share
    return events.user_id.isin(users[chosen])


def popularity(events: pd.DataFrame, share: float, period: Period, rng: np.random.Generator) -> pd.DataFrame:
    """Some visitors take items off the beaten track."""
    these = visits_of(events, share, rng)
    return events.assign(item_id=events.item_id.mask(these, pd.Series(rng.choice(period.tail, len(events)))))


def new_items(events: pd.DataFrame, share: float, _: Period, rng: np.random.Generator) -> pd.DataFrame:
    """Some events go to items that nobody knew."""
    these = rng.random(len(events)) < share
    names = pd.Series([f"new {number}" for number in rng.integers(50, size=len(events))])
    return events.assign(item_id=events.item_id.mask(these, names))


def user_mix(events: pd.DataFrame, share: float, _: Period, rng: np.random.Generator) -> pd.DataFrame:
    """Some visitors come for the first time."""
    return events.assign(earlier=events.earlier.mask(visits_of(events, share, rng), 0))


def category(events: pd.DataFrame, share: float, period: Period, rng: np.random.Generator) -> pd.DataFrame:
    """Some visitors take items of one category only, those that are liked there."""
    these = visits_of(events, share, rng)
    name = max(period.by_category, key=lambda name: (name == "Horror", len(period.by_category[name])))
    liked = pd.Series(rng.choice(period.by_category[name], len(events)))
    return events.assign(item_id=events.item_id.mask(these, liked))


def broken_field(events: pd.DataFrame, share: float, _: Period, rng: np.random.Generator) -> pd.DataFrame:
    """Some events have lost their value."""
    these = visits_of(events, share, rng)
    return events.assign(value=events.value.mask(these, 0.0).astype("float32"))


def duplicates(events: pd.DataFrame, share: float, _: Period, rng: np.random.Generator) -> pd.DataFrame:
    """Some events come twice, each under an id of its own."""
    again = events[rng.random(len(events)) < share]
    return pd.concat([events, again.assign(timestamp=again.timestamp + pd.Timedelta(seconds=1))], ignore_index=True)


def bots(events: pd.DataFrame, share: float, period: Period, rng: np.random.Generator) -> pd.DataFrame:
    """Further visitors push one item among a hundred others; so many for each real one."""
    target = rng.choice(period.tail)
    fakes = []
    for number in range(max(1, round(share * events.user_id.nunique()))):
        taken = np.append(rng.choice(events.item_id.to_numpy(), 99), target)
        begin = events.timestamp.iloc[rng.integers(len(events))]
        fakes.append(
            pd.DataFrame(
                {
                    "user_id": f"bot {number}",
                    "item_id": taken,
                    "event": "rating",
                    "value": np.float32(5.0),
                    "timestamp": begin + pd.to_timedelta(np.arange(100) * 2, unit="s"),
                    "earlier": 0,
                }
            )
        )
    return pd.concat([events, *fakes], ignore_index=True)


def stale(period: Period, chosen: np.ndarray, share: float, rng: np.random.Generator) -> pd.DataFrame:
    """Some lists are those of other visits, as from a model that has lost touch."""
    others = np.where(rng.random(len(chosen)) < share, rng.permutation(chosen), chosen)
    return of_lists(period, chosen, others)


SIZES = ("small", "middle", "large")
Inject = Callable[[pd.DataFrame, float, Period, np.random.Generator], pd.DataFrame]
DRIFTS: dict[str, tuple[Inject | None, Sequence[float]]] = {
    "popularity shift": (popularity, (0.2, 0.5, 0.8)),
    "new-item flood": (new_items, (0.03, 0.1, 0.3)),
    "user-mix shift": (user_mix, (0.15, 0.4, 0.8)),
    "category shift": (category, (0.1, 0.3, 0.6)),
    "broken field": (broken_field, (0.03, 0.1, 0.3)),
    "duplicate events": (duplicates, (0.03, 0.1, 0.3)),
    "bots": (bots, (0.05, 0.2, 0.5)),
    "stale model": (None, (0.4, 0.8, 1.0)),  # not of the events: of the lists
}
"""Kind → how, and what share in the three sizes"""


def show(found: dict[str, Any]) -> None:
    """A table for people."""
    table = Table("drift", *(f"{size}: detected at once" for size in SIZES), "seen by, at the middle size")
    table.title = (
        f"{found['data']}, {found['settings']['visits']} visits a window; false alarms {found['false_alarm_rate']:.1%} "
        f"of {found['settings']['windows']}; {machine()['cores']} cores"
    )
    for kind, rates in found["detection_rate"].items():
        seen = ", ".join(f"{name} {count}" for name, count in found["seen_by"][kind].items())
        sizes = found["sizes"][kind]
        table.add_row(kind, *(f"{rates[size]:.0%} (at {sizes[size]:.0%})" for size in SIZES), seen)
    console = Console(width=150)
    console.print(table)
    console.print(json.dumps(found["seen_by"]["none"]))


if __name__ == "__main__":
    main()
