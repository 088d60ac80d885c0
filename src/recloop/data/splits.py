"""Which events are learnt from, chosen on and judged on; and which of them are predicted.

`temporal`       the last shares of all events by time are the validation and the test period, for everyone
                 at once, as in production. Events at exactly a cut's time all belong to the later period. Of
                 each user's events in a period the last `targets_per_user` are predicted.
`leave_one_out`  each user's last event is the test, the one before it the validation. A user with fewer than
                 three events is only learnt from.

An event is predicted from the user's events before it, so a user's very first event never is.

The functions build Ibis expressions over the encoded log: columns `user`, `timestamp`, `position` (row of the
long table), and `start` and `end` of the user's rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from recloop.config import Split
from recloop.data.prepared import PERIODS

if TYPE_CHECKING:
    from ibis.expr.types import Table

TRAIN, VALID, TEST = range(len(PERIODS))
LEAST_EVENTS_TO_LEAVE_ONE_OUT = 3


@dataclass(frozen=True)
class Cuts:
    """When the training and the validation period end; the times themselves are later. None: no such time."""

    train_until: datetime | None = None
    valid_until: datetime | None = None


def cuts(log: Table, split: Split, events: int) -> Cuts:
    """Where the periods are cut, so that the shares hold as nearly as ties in time allow.

    Args:
        log: the encoded log.
        split: the section of `params.yaml`.
        events: rows of `log`, at least one.
    """
    if split.kind == "leave_one_out":
        return Cuts()
    train = round((1 - split.valid_share - split.test_share) * events)
    valid = round((1 - split.test_share) * events)
    return Cuts(_time_of(log, train, events), _time_of(log, valid, events))


def _time_of(log: Table, rank: int, events: int) -> datetime | None:
    """Time of the event that has `rank` events before it; None past the last one: then no event is later."""
    if rank >= events:
        return None
    row = log.select("timestamp").order_by("timestamp").limit(1, offset=rank).to_pyarrow()
    moment: datetime = row["timestamp"][0].as_py()
    return moment


def with_periods(log: Table, split: Split, at: Cuts) -> Table:
    """The log with the column `period` (i8), an index into PERIODS."""
    import ibis

    if split.kind == "leave_one_out":
        left_out = log.end - log.start >= LEAST_EVENTS_TO_LEAVE_ONE_OUT
        from_end = log.end - 1 - log.position
        period = ibis.cases((left_out & (from_end == 0), TEST), (left_out & (from_end == 1), VALID), else_=TRAIN)
    else:
        period = ibis.literal(TRAIN)
        if at.train_until is not None:
            period = ibis.cases((log.timestamp >= ibis.literal(at.train_until), VALID), else_=period)
        if at.valid_until is not None:
            period = ibis.cases((log.timestamp >= ibis.literal(at.valid_until), TEST), else_=period)
    return log.mutate(period=period.cast("int8"))


def predicted(log: Table, split: Split) -> Table:
    """What is predicted: `period`, `user`, `position`, in this order, from a log with periods."""
    import ibis

    targets = 1 if split.kind == "leave_one_out" else split.targets_per_user
    later = log.filter(log.period != TRAIN)
    from_end = ibis.row_number().over(group_by=["user", "period"], order_by=ibis.desc("position"))
    later = later.mutate(from_end=from_end)
    chosen = later.filter((later.from_end < targets) & (later.position > later.start))
    return chosen.select("period", "user", "position").order_by("period", "user", "position")
