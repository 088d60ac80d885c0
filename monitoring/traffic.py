"""Served traffic beside its reference: what is read, sampled and handed to Evidently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection

from monitoring.compare import Comparison, compare
from monitoring.fall import fall
from monitoring.features import arrivals, event_features, list_features, sampled
from monitoring.known import Known
from monitoring.live import LiveModel
from monitoring.pace import Pace, rate, volume
from monitoring.quality import record_of
from monitoring.reference import Reference, reference
from monitoring.refused import compare_refused
from monitoring.seen import Seen
from monitoring.signals import ARRIVAL_SIGNALS, EVENT_SIGNALS, LIST_SIGNALS, Finding
from monitoring.window import Window, count_lists, read_earlier, read_lists, step_of
from recloop.config import Monitoring, Params

if TYPE_CHECKING:
    import pandas as pd
    from ibis.backends.duckdb import Backend
    from ibis.expr.types import Table

Sides = tuple["pd.DataFrame", "pd.DataFrame", tuple[str, ...]]
"""What was before, what is current, and which columns are signals: a row an event, or a list, in order of time"""

LIST_WEIGHT = 10
"""A list is so many rows: an item each"""


class Lists(NamedTuple):
    """Which lists."""

    window: Window
    version: int


@dataclass(frozen=True)
class Traffic:
    """What a window had, compared with its reference."""

    pages: dict[str, Comparison]
    """`report`: events; `arrival`: how they came in, and `lists`: served lists, where there is something to compare
    them with"""
    others: tuple[Finding, ...]
    """What is no comparison of rows: `volume`, `fields`, `quality`; but those of which nobody knows what is usual"""
    learnt: int
    """Events that the live model knows"""
    notes: tuple[str, ...]
    """For people: what the reference is, and what was left out, and why"""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Of all signals."""
        return (*chain.from_iterable(page.findings for page in self.pages.values()), *self.others)


def compare_traffic(
    backend: Backend,
    connection: Connection,
    gated: Path,
    seen: Seen,
    live: LiveModel,
    params: Params,
    paces: Sequence[Pace],
) -> Traffic:
    """Compare what came in, and what was served, in a window with its reference.

    Events are compared with the last stretch of what `live` knows. How they came in, and served lists, are compared
    with what the same version had before the window. One that has just gone live has nothing to compare with, but for
    the share of fallbacks: with that of the version before it.

    Args:
        backend: an Ibis DuckDB backend, with the tables of what was seen.
        connection: to the database of the endpoint.
        gated: folder of the gated tables.
        seen: what is judged.
        live: the model that is served.
        params: `params.yaml`.
        paces: of the windows that were judged before.

    Raises:
        StageError: the gated data is missing or damaged.
    """
    took = span(seen.received["timestamp"])
    learnt = reference(backend, gated, live, params.monitoring.reference_share, took)
    return traffic_of(connection, seen, learnt, live, params, paces)


def traffic_of(
    connection: Connection,
    seen: Seen,
    learnt: Reference,
    live: LiveModel,
    params: Params,
    paces: Sequence[Pace],
) -> Traffic:
    """The same, with a reference that is at hand.

    Args:
        connection, seen, live, params, paces: as `compare_traffic` has them.
        learnt: what events are compared with; its tables are where Ibis works at present.
    """
    policy, k = params.monitoring, params.serving.default_k
    notes = [_reference_note(learnt, policy)]
    sides = {"report": _events(connection, seen, learnt, live)}
    if seen.count_before >= policy.min_events:
        sides["arrival"] = (
            *(_frame(arrivals(seen.log_of(part))) for part in (seen.before, seen.window)),
            ARRIVAL_SIGNALS,
        )
    now, then = Lists(seen.shown, live.version), Lists(seen.shown_before, live.version)
    fell = None
    if count_lists(connection, *then) < policy.min_events and live.previous is not None:
        long = seen.shown.end - seen.shown.start
        then = Lists(Window(live.since - long, live.since), live.previous)
    fewest = min(count_lists(connection, *each) for each in (now, then))
    if fewest >= policy.min_events:
        *both, signals = _lists(connection, learnt.known, (then, now))
        if then.version == live.version:
            ours, theirs = (record_of(seen.tallies, *each) for each in (now, then))
            fell = fall(ours, theirs, k, policy.min_events / seen.feedback.step, policy.false_alarms)
            whose = "this version"
        else:  # scores are of another scale, and lists of another taste
            signals, whose = ("strategy",), f"version {then.version}, which was live before it,"
        sides["lists"] = (*both, signals)
        notes.append(
            f"Served lists are compared with what {whose} served before; they are those whose time for "
            f"feedback, {policy.attribution_hours:g} h, ended in the window."
        )
    else:
        notes.append(
            f"Served lists were not compared: one side has {fewest:,}, and monitoring.min_events is "
            f"{policy.min_events:,}. Their reference is what this version served before, or else the one before it."
        )
    pages = {name: compare(*each, policy.signals, policy.false_alarms) for name, each in sides.items()}
    for page in pages.values():
        if page.left_out:
            notes.append(f"Not compared, for one side has no values: {', '.join(page.left_out)}.")
    came = volume(Pace(seen.window, rate(seen.count, seen.window)), paces)
    refused = compare_refused(connection, seen.window, policy)
    others = tuple(each for each in (came, refused, fell) if each is not None)
    return Traffic(pages, others, learnt.learnt, tuple(notes))


def _reference_note(learnt: Reference, policy: Monitoring) -> str:
    return (
        f"Reference: {learnt.events:,} events, {learnt.since:%Y-%m-%d} to {learnt.until:%Y-%m-%d}: "
        f"the last {policy.reference_share:.0%} of what the model knows."
    )


def _events(connection: Connection, seen: Seen, learnt: Reference, live: LiveModel) -> Sides:
    import ibis

    earlier = ibis.memtable(read_earlier(connection, seen.window, live, seen.step))
    current = event_features(ibis.memtable(seen.received), learnt.known.with_earlier(earlier), learnt.vocabulary)
    return _frame(learnt.features), _frame(current), EVENT_SIGNALS


def _lists(connection: Connection, known: Known, parts: tuple[Lists, Lists]) -> Sides:
    import ibis

    sides = []
    for part in parts:
        step = step_of(LIST_WEIGHT * count_lists(connection, *part))
        sides.append(read_lists(connection, *part, step))
    scores = sides[0]["top_score"].drop_null().to_numpy()
    edges = np.unique(np.quantile(scores, np.arange(1, 10) / 10)).tolist() if len(scores) else [0.0]
    before, current = (_frame(list_features(ibis.memtable(lists), known, edges)) for lists in sides)
    return before, current, LIST_SIGNALS


def _frame(features: Table) -> pd.DataFrame:
    made = features.cache()  # counted, and then read: not made twice
    rows: pd.DataFrame = sampled(made).order_by(["timestamp", "user_id"]).to_pandas()
    return rows


def span(times: pa.ChunkedArray) -> int:
    """How long the middle half of some moments took, as though all had come at their pace; in µs.

    Not by our clock: traffic that is played back is as long as it says. Of what is handed in late there may be some.
    """
    first, last = np.quantile(times.cast(pa.int64()).to_numpy(), [0.25, 0.75])
    return int((last - first) / 0.5)
