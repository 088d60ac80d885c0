"""The window: the traffic that is judged. By the time we received it, which no client's clock can shift.

Windows stand end to end, from the moment the live model went live: traffic that another model answered must not accuse
this one, and what was judged once is not judged again, for each look would be another chance of a false alarm. What
users made of a list is known later than what they did; so the lists of a window are those whose time for that ended in
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from sqlalchemy import BigInteger, Column, ColumnElement, Connection, Select, Text, cast, func, select

from monitoring.live import LiveModel
from recloop.config import Monitoring
from recloop.data.schema import INTERACTIONS
from recloop.serving.events import events
from recloop.serving.impressions import impressions

if TYPE_CHECKING:
    from sqlalchemy import Row

HOUR = 3_600_000_000
BATCH = 10_000
BEFORE = 1_000_000
"""So many events before a window are enough to know what is usual"""
READ = 1_000_000
"""About so many events are read; of more than that, those of some users"""
RECEIVED = pa.schema([("seq", pa.int64()), *INTERACTIONS, ("received_at", pa.int64()), ("request_id", pa.string())])
COUNTS: dict[str, pa.DataType] = {"user_id": pa.string(), "earlier": pa.int64()}
LISTS: dict[str, pa.DataType] = {
    "seq": pa.int64(),
    "user_id": pa.string(),
    "served_at": pa.timestamp("us", tz="UTC"),
    "strategy": pa.string(),
    "items": pa.list_(pa.string()),
    "top_score": pa.float64(),
}


@dataclass(frozen=True)
class Window:
    """From `start` (included) to `end` (not included): µs since 1970, UTC."""

    start: int
    end: int

    @classmethod
    def after(cls, judged: int | None, now: int, live: LiveModel) -> Window:
        """What came in since the last window was judged.

        Args:
            judged: the end of the last judged window of this version; None: there was none.
            now: the end of this one.
            live: what is served, and since when.
        """
        return cls(min(max(judged or 0, live.since), now), now)

    def shown(self, live: LiveModel, attribution: int) -> Window:
        """When the lists were shown that events in this window are the last to count for.

        Args:
            live: what showed them.
            attribution: for how long an event counts for a list, in µs.
        """
        start = max(live.since, self.start - attribution)
        return Window(start, max(start, self.end - attribution))


def attribution_of(policy: Monitoring) -> int:
    """For how long an event counts for a list: µs."""
    return round(policy.attribution_hours * HOUR)


def count_events(connection: Connection, window: Window) -> int:
    """How many events were received in `window`."""
    query = select(func.count()).select_from(events).where(_received(window))
    return int(connection.execute(query).scalar_one())


def before(connection: Connection, window: Window, live: LiveModel, count: int) -> Window:
    """What `live` answered before a window: back to the BEFORE-th event before it, or to as many as it has itself.

    Args:
        connection: to the database of the endpoint.
        window: what is judged.
        live: what answered.
        count: events in the window.
    """
    at = events.c.received_at
    earlier = select(at).where(_received(Window(min(live.since, window.start), window.start))).order_by(at.desc())
    first = connection.execute(earlier.limit(1).offset(max(BEFORE, count) - 1)).scalar_one_or_none()
    return Window(min(live.since if first is None else int(first), window.start), window.start)


def newest_event(connection: Connection) -> int | None:
    """When the last event was received, in µs since 1970; None: there is none."""
    newest = connection.execute(select(func.max(events.c.received_at))).scalar_one()
    return None if newest is None else int(newest)


def step_of(rows: int) -> int:
    """Every how manieth user is looked at, where there are so many rows."""
    return max(1, round(rows / READ))


def read_events(connection: Connection, window: Window, step: int = 1) -> pa.Table:
    """The events received in `window`, in order of arrival, of every `step`-th user: canonical interactions, and when
    and for which request they came in."""
    query = (
        select(*(events.c[name] for name in RECEIVED.names))
        .where(_received(window), *every_user(step, events.c.user_id))
        .order_by(events.c.seq)
    )
    return _read(connection, query, RECEIVED)


def count_new(connection: Connection, live: LiveModel, since: int = 0) -> int:
    """How many events came in since the data of `live` ends, and since a moment, in µs since 1970."""
    fresh = (events.c.seq > live.feedback_watermark, events.c.received_at >= since)
    query = select(func.count()).select_from(events).where(*fresh)
    return int(connection.execute(query).scalar_one())


def read_earlier(connection: Connection, window: Window, live: LiveModel, step: int = 1) -> pa.Table:
    """How many events every `step`-th user had that came in before `window`, but that `live` does not know."""
    # By number, which the index of users has: by time of receipt every row would have to be looked up.
    inside = select(events.c.seq).where(events.c.received_at >= window.start).order_by(events.c.received_at).limit(1)
    first = connection.execute(inside).scalar_one_or_none()
    before = () if first is None else (events.c.seq < first,)
    query = (
        select(events.c.user_id, func.count())
        .where(events.c.seq > live.feedback_watermark, *before)
        .group_by(events.c.user_id)
        .having(*every_user(step, events.c.user_id))
    )
    return _read(connection, query, pa.schema(COUNTS))


def count_lists(connection: Connection, window: Window, version: int) -> int:
    """How many lists a version served in `window`."""
    query = select(func.count()).select_from(impressions).where(*_served(window, version))
    return int(connection.execute(query).scalar_one())


def read_lists(connection: Connection, window: Window, version: int, step: int = 1) -> pa.Table:
    """The lists a version served in `window` to every `step`-th user; of those for nobody every `step`-th."""
    query = (
        select(
            impressions.c.seq,
            impressions.c.user_id,
            impressions.c.served_at,
            impressions.c.strategy,
            impressions.c["items"],
            impressions.c.scores,
        )
        .where(*_served(window, version), *every_user(step, impressions.c.user_id, impressions.c.seq))
        .order_by(impressions.c.seq)
    )

    def top_first(row: Row[Any]) -> Sequence[Any]:
        top = row.scores[0] if row.scores else None
        return row.seq, row.user_id, row.served_at, row.strategy, row.items, top

    return _read(connection, query, pa.schema(LISTS), top_first)


def every_user(step: int, user_id: Column[Any], seq: Column[Any] | None = None) -> tuple[ColumnElement[bool], ...]:
    """Lets through every `step`-th user, the same ones each time, so that of each there is all; and of rows for nobody
    as many, by their `seq`; by its hash, for every other one may be of one kind."""
    if step == 1:
        return ()
    drawn = user_id if seq is None else func.coalesce(user_id, cast(seq, Text))
    return (func.abs(cast(func.hashtext(drawn), BigInteger)) % step == 0,)


def _received(window: Window) -> ColumnElement[bool]:
    return (events.c.received_at >= window.start) & (events.c.received_at < window.end)


def _served(window: Window, version: int) -> tuple[ColumnElement[bool], ...]:
    shown_at = impressions.c.served_at
    return impressions.c.version == version, shown_at >= window.start, shown_at < window.end


def _read(connection: Connection, query: Select[Any], schema: pa.Schema, row_of: Any = tuple) -> pa.Table:
    """The rows of `query` as an Arrow table, read in pieces."""
    batches = []
    for rows in connection.execution_options(yield_per=BATCH).execute(query).partitions():
        columns = zip(*map(row_of, rows), strict=True)
        batches.append(
            pa.record_batch([_array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
        )
    return pa.Table.from_batches(batches, schema)


def _array(values: Sequence[Any], kind: pa.DataType) -> Any:
    if pa.types.is_timestamp(kind):
        return pa.array(values, pa.int64()).cast(kind)
    return pa.array(values, kind)
