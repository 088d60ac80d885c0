"""What is judged, and what was before it: read once from the endpoint's database, for all that looks at it.

Of very much traffic, the events and lists of every so manieth user are read, the same users throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection

from monitoring.feedback import Feedback, feedback_of
from monitoring.live import LiveModel
from monitoring.tallies import Tallies
from monitoring.window import Window, attribution_of, before, count_events, read_events, step_of
from recloop.config import Params
from recloop.data.schema import INTERACTIONS

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend


@dataclass(frozen=True)
class Seen:
    """The traffic of a window, and that before it."""

    window: Window
    count: int
    """Events in it, of all users"""
    before: Window
    """What is known of how events come in is from then"""
    count_before: int
    shown: Window
    """Lists of which no feedback can come any more since the window"""
    shown_before: Window
    """The lists that they are compared with"""
    log: pa.Table
    """The events of all that time: `window.RECEIVED`"""
    step: int
    """Every how manieth user's they are"""
    feedback: Feedback
    """On the lists of `shown_before` and `shown`"""
    tallies: Tallies
    """Of that"""

    @property
    def received(self) -> pa.Table:
        """The window's events: canonical interactions."""
        return self.log_of(self.window).select(INTERACTIONS.names)

    def log_of(self, window: Window) -> pa.Table:
        """The events that came in then."""
        at = self.log["received_at"]
        return self.log.filter(pc.and_(pc.greater_equal(at, window.start), pc.less(at, window.end)))


def look(backend: Backend, connection: Connection, window: Window, live: LiveModel, params: Params) -> Seen:
    """Read what `window` is judged by.

    Args:
        backend: an Ibis DuckDB backend; the feedback is in it.
        connection: to the database of the endpoint.
        window: what is judged.
        live: the model that is served.
        params: `params.yaml`.
    """
    attribution = attribution_of(params.monitoring)
    count = count_events(connection, window)
    shown = window.shown(live, attribution)
    earlier, shown_before = (before(connection, part, live, count) for part in (window, shown))
    everything = Window(min(earlier.start, shown_before.start), window.end)
    step = step_of(count_events(connection, everything))
    log = read_events(connection, everything, step)
    if step > 1 and not pc.any(pc.greater_equal(log["received_at"], window.start)).as_py():  # few users, all left out
        step, log = 1, read_events(connection, everything)
    lists = Window(shown_before.start, shown.end)
    feedback = feedback_of(backend, connection, log, step, lists, attribution)
    return Seen(
        window=window,
        count=count,
        before=earlier,
        count_before=count_events(connection, earlier),
        shown=shown,
        shown_before=shown_before,
        log=log,
        step=step,
        feedback=feedback,
        tallies=Tallies(backend, feedback, params.serving.default_k),
    )
