"""How good the lists were that were shown, by what users then did with them. Figures with intervals.

hit rate   the share of lists of which the user took an item among the first k
NDCG, MRR  of lists, as `evaluation.metrics` defines them: what the user took are the right answers. A list of which
           nothing was taken counts as 0
rates      the share of lists with a click, with a purchase, and so on
take rate  the share of the items in the first k places that were taken; `corrected`: of those that would have been, had
           every place been looked at like the first (`positions.py`)

Intervals are of users drawn again (`evaluation.bootstrap`): one who visits often is one user. Of lists made in shadow,
which nobody saw, there are only the first three: whether the user took what would have been in them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from monitoring.draws import Draws, interval, ratio
from monitoring.feedback import SHADOW
from monitoring.positions import corrected, looked_at, too_few, too_rare
from monitoring.tallies import PLACED, RANKED, Tallies, Tally
from monitoring.window import Window
from recloop.evaluation.bootstrap import Interval

FEWEST_USERS = 50


@dataclass(frozen=True)
class Figures:
    """Of some lists."""

    lists: int
    users: int
    ndcg: Interval
    hit_rate: Interval
    mrr: Interval
    rates: dict[str, Interval]
    """Kind of event → share of lists with one; empty for lists that were not shown"""
    take_rate: Interval | None
    """None for lists that were not shown, or that are all empty"""
    corrected: Interval | None
    """None, too, where chance placed too few items to correct by, or some places are hardly looked at"""


@dataclass(frozen=True)
class VersionFigures:
    """Of one version's lists in one role."""

    version: int
    variant: str
    """`champion`, `challenger` or `shadow`"""
    figures: Figures


@dataclass(frozen=True)
class Quality:
    """Of the lists of one window."""

    start: int
    end: int
    """From when (included) to when (not included): µs since 1970, UTC"""
    attribution: int
    """For so long an event counts for a list: µs"""
    k: int
    overall: Figures | None
    """Of all lists that were shown; None where there were none"""
    versions: tuple[VersionFigures, ...]
    groups: dict[str, Figures]
    """`newcomers`, `few`, `many` → of the lists shown to users with no, less than ten, or more events known"""
    looked_at: tuple[float, ...] | None
    """How often each place is looked at, the first being 1; None where nothing is corrected"""
    notes: tuple[str, ...]
    """For people: what could not be said, and why"""


@dataclass(frozen=True)
class Record:
    """What users did with the lists of one version in one window, user by user."""

    version: int
    tally: Tally


@dataclass(frozen=True)
class Difference:
    """How much higher a figure of the live version is than the same of the version before it."""

    metric: str
    live: float
    before: float
    difference: Interval

    @property
    def worse(self) -> bool:
        """Whether the live version does worse, beyond what chance would do."""
        return self.difference.high < 0


def quality_of(tallies: Tallies, window: Window, attribution: int, clip: float, seed: int = 0) -> Quality:
    """Judge the lists that were shown in `window`.

    Args:
        tallies: of feedback that has them.
        window: one that is closed: it ended at least `attribution` ago.
        attribution: for so long an event counts for a list: µs.
        clip: the highest weight of an item in a place that is rarely looked at; at least 1.
        seed: of the users drawn for the intervals.
    """
    by = partial(tallies.by, window)
    everything, groups, versions = by(), by("group"), by("version", "variant")
    judge = _Judge({**everything, **groups, **versions}, tallies.k, clip, seed) if versions else None
    return Quality(
        start=window.start,
        end=window.end,
        attribution=attribution,
        k=tallies.k,
        overall=judge.figures(()) if judge and everything else None,
        versions=tuple(
            VersionFigures(int(str(version)), str(variant), judge.figures((version, variant), shown=variant != SHADOW))
            for version, variant in versions
            if judge
        ),
        groups={str(name): judge.figures((name,)) for (name,) in groups if judge},
        looked_at=judge.looked_at if judge else None,
        notes=_notes(tallies.step, judge),
    )


def _notes(step: int, judge: _Judge | None) -> tuple[str, ...]:
    why = judge.uncorrected if judge else None
    part = f"The lists are those of one user in {step}: there were too many to read them all." if step > 1 else None
    return tuple(note for note in (part, why) if note)


def record_of(tallies: Tallies, window: Window, version: int) -> Record | None:
    """What users did with the lists of `version` that were shown in `window`; None where there were none.

    Args:
        tallies: of feedback that has them.
        window: one that is closed.
        version: of the model that made them.
    """
    tally = tallies.by(window, version=version).get(())
    return None if tally is None else Record(version, tally)


def compare_versions(live: Record, before: Record, metric: str, seed: int = 0) -> Difference:
    """How much better `live` does than the version before it did.

    Users are drawn for both windows together: what one is like who is in both cancels out.

    Args:
        live: of the live version's last window.
        before: of the last window of the version before it.
        metric: `ndcg`, `hit_rate`, `mrr` or a kind of event; of one that does not occur the rate is 0.
        seed: of the draws.
    """
    draws = drawn_together({"live": live, "before": before}, metric, seed)
    ours, theirs = (ratio(draws[side, metric], draws[side, "lists"]) for side in ("live", "before"))
    return Difference(metric, float(ours[0]), float(theirs[0]), interval(ours - theirs))


def drawn_together(sides: Mapping[str, Record], metric: str, seed: int = 0) -> Draws:
    """Sums (side, metric) and (side, "lists"), users drawn for all sides at once; of what does not occur they are 0."""
    columns: dict[Hashable, np.ndarray] = {}
    for side, record in sides.items():
        sums = record.tally.sums
        columns |= {(side, name): sums.get(name, np.zeros_like(sums["lists"])) for name in (metric, "lists")}
    return Draws(columns, seed)


def shown_to_enough(record: Record) -> int:
    """How many lists it has; 0 where that was to so few users that nothing follows."""
    return int(record.tally.sums["lists"].sum()) if record.tally.users >= FEWEST_USERS else 0


class _Judge:
    """Figures of several parts of the lists, of the same draws of users.

    Args:
        parts: whatever names a part → what its users did; `()` has all lists that were shown, where there are any.
        k: places of a list that count.
        clip: the highest weight of an item.
        seed: of the draws.
    """

    def __init__(self, parts: Mapping[tuple[object, ...], Tally], k: int, clip: float, seed: int) -> None:
        self._parts, self._k, self._clip = parts, k, clip
        columns: dict[Hashable, np.ndarray] = {}
        for key, tally in parts.items():
            columns |= {(key, name): values for name, values in tally.sums.items()}
            names = PLACED if not key else PLACED[:2]
            columns |= {((key, name), place): tally.places[name][:, place] for name in names for place in range(k)}
        self._draws = Draws(columns, seed)
        self._looked: np.ndarray | None = None
        self.uncorrected: str | None = None
        """Why nothing is corrected for places, where nothing is"""
        if () in parts:
            items, _, placed, taken = (self._draws.each(((), name), k) for name in PLACED)
            self.uncorrected = too_few(placed[0].sum(), taken[0].sum())
            if self.uncorrected is None:
                looked = np.stack([looked_at(*row) for row in zip(placed, taken, strict=True)])
                self.uncorrected = too_rare(items[0], looked[0], clip)
                self._looked = looked if self.uncorrected is None else None

    @property
    def looked_at(self) -> tuple[float, ...] | None:
        """How often each place is looked at, the first being 1."""
        return None if self._looked is None else tuple(self._looked[0].tolist())

    def figures(self, key: tuple[object, ...], *, shown: bool = True) -> Figures:
        """Of one part, whose lists were `shown` or not."""
        tally, draws = self._parts[key], self._draws
        lists = draws[key, "lists"]
        rates = {name: interval(ratio(draws[key, name], lists)) for name in tally.sums if name != "lists"}
        items, taken = (draws.each((key, name), self._k) for name in PLACED[:2])
        seen = shown and items[0].any()
        ndcg, hit_rate, mrr = (rates.pop(name) for name in RANKED)
        return Figures(
            lists=int(lists[0]),
            users=tally.users,
            ndcg=ndcg,
            hit_rate=hit_rate,
            mrr=mrr,
            rates=rates if shown else {},
            take_rate=interval(ratio(taken.sum(1), items.sum(1))) if seen else None,
            corrected=interval(corrected(items, taken, self._looked, self._clip))
            if seen and self._looked is not None
            else None,
        )
