"""Served traffic beside its reference: what is read, sampled and handed to Evidently."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection

from monitoring.compare import Comparison, compare
from monitoring.features import SAMPLE, event_features, list_features, sampled
from monitoring.known import Known
from monitoring.live import LiveModel
from monitoring.reference import Reference, reference
from monitoring.signals import EVENT_SIGNALS, LIST_SIGNALS, Finding
from monitoring.window import Window, count_lists, read_earlier, read_events, read_lists
from recloop.config import Monitoring

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend
    from ibis.expr.types import Table


@dataclass(frozen=True)
class Compared:
    """What Evidently found, and what it could not look at."""

    pages: dict[str, Comparison]
    """`report`: events; `lists`: served lists, where there is something to compare them with"""
    notes: tuple[str, ...]
    """For people: what the reference is, and what was left out, and why"""

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(finding for page in self.pages.values() for finding in page.findings)


def compare_traffic(
    connection: Connection, gated: Path, window: Window, live: LiveModel, policy: Monitoring
) -> Compared:
    """Compare what came in, and what was served, in `window` with its reference.

    Events are compared with the last stretch of what `live` knows. Served lists are compared with what the
    same version served before the window; so a version that has just gone live has nothing to compare with.

    Raises:
        StageError: the gated data is missing or damaged.
    """
    with _duckdb() as backend:
        received = read_events(connection, window)
        learnt = reference(backend, gated, live, policy.reference_share, span(received["timestamp"]))
        notes = [_reference_note(learnt, policy)]
        pages = {"report": _events(connection, received, learnt, window, live, policy)}
        earlier = window.before(live)
        fewest = min(count_lists(connection, part, live) for part in (earlier, window))
        if fewest >= policy.min_events:
            pages["lists"] = _lists(connection, learnt.known, earlier, window, live, policy)
            notes.append("Served lists are compared with what this version served before the window.")
        else:
            notes.append(
                f"Served lists were not compared: one side has {fewest:,}, and monitoring.min_events is "
                f"{policy.min_events:,}. Their reference is what this version served before the window."
            )
    for page in pages.values():
        if page.left_out:
            notes.append(f"Not compared, for one side has no values: {', '.join(page.left_out)}.")
    return Compared(pages, tuple(notes))


def _reference_note(learnt: Reference, policy: Monitoring) -> str:
    return (
        f"Reference: {learnt.events:,} events, {learnt.since:%Y-%m-%d} to {learnt.until:%Y-%m-%d}: "
        f"the last {policy.reference_share:.0%} of what the model knows."
    )


def _events(
    connection: Connection, received: pa.Table, learnt: Reference, window: Window, live: LiveModel, policy: Monitoring
) -> Comparison:
    import ibis

    earlier = ibis.memtable(read_earlier(connection, window, live))
    current = event_features(ibis.memtable(received), learnt.known.with_earlier(earlier), learnt.vocabulary)
    return _compared(learnt.features, current, EVENT_SIGNALS, policy)


def _lists(
    connection: Connection, known: Known, earlier: Window, window: Window, live: LiveModel, policy: Monitoring
) -> Comparison:
    import ibis

    before, current = (read_lists(connection, part, live, SAMPLE) for part in (earlier, window))
    scores = before["top_score"].drop_null().to_numpy()
    edges = np.unique(np.quantile(scores, np.arange(1, 10) / 10)).tolist() if len(scores) else [0.0]
    reference_rows, rows = (list_features(ibis.memtable(lists), known, edges) for lists in (before, current))
    return _compared(reference_rows, rows, LIST_SIGNALS, policy)


def _compared(before: Table, current: Table, signals: Sequence[str], policy: Monitoring) -> Comparison:
    reference_rows, rows = (sampled(each).order_by(["timestamp", "user_id"]).to_pandas() for each in (before, current))
    return compare(
        reference_rows,
        rows,
        signals,
        policy.thresholds.model_dump(),
        policy.false_alarms,
        policy.min_drifted_signals,
    )


def span(times: pa.ChunkedArray) -> int:
    """How long the middle nine tenths of some moments took, as though all had come at their pace; in µs.

    Not by our clock: traffic that is played back, or handed in late, is as long as it says.
    """
    first, last = np.quantile(times.cast(pa.int64()).to_numpy(), [0.05, 0.95])
    return int((last - first) / 0.9)


@contextmanager
def _duckdb() -> Iterator[Backend]:
    import ibis

    with TemporaryDirectory(prefix="recloop-monitor-") as spill:
        backend = ibis.duckdb.connect(temp_directory=spill)
        try:
            yield backend
        finally:
            backend.disconnect()
