"""Which events are kept to learn from. Ibis expressions.

In this order:
    1. events that are not in `prepare.events`, then values below `prepare.min_value`, are dropped;
    2. of events alike in user, item, event and time one is kept, with the highest value;
    3. unless `prepare.keep_repeats`, of a user's events on an item only the first is kept;
    4. users and items with too few events are dropped, over and over until all that are left have enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from recloop.config import Prepare

if TYPE_CHECKING:
    from ibis.expr.types import Table


@dataclass(frozen=True)
class Step:
    """One step of cleaning."""

    name: str
    """What it drops, in words."""
    key: str
    """What in params.yaml decides about it; empty where nothing does."""
    dropped: int
    left: int


@dataclass(frozen=True)
class Cleaned:
    """What is left, and what each step dropped. A step that is switched off is not among them."""

    log: Table
    """Columns user_id, item_id, event, value, timestamp; in no order."""
    steps: tuple[Step, ...]


def clean(log: Table, how: Prepare) -> Cleaned:
    """Clean gated interactions."""
    log = log.select("user_id", "item_id", "event", "value", "timestamp")
    rows = count(log)
    steps: list[Step] = []

    def note(name: str, key: str, left: int) -> None:
        nonlocal rows
        steps.append(Step(name, key, rows - left, left))
        rows = left

    log = log.filter(log["event"].isin(list(how.events)))
    note("of other events", "prepare.events", count(log))
    if how.min_value is not None:
        log = log.filter(log["value"] >= how.min_value)
        note("of too low a value", "prepare.min_value", count(log))
    log = settled(_without_duplicates(log))
    note("duplicates", "", count(log))
    if not how.keep_repeats:
        log = settled(_first_of_repeats(log), instead_of=log)
        note("repeats", "prepare.keep_repeats", count(log))
    log, by_users, by_items = _with_enough_events(log, rows, how.min_user_events, how.min_item_events)
    note("of users with too few events", "prepare.min_user_events", rows - by_users)
    note("of items with too few events", "prepare.min_item_events", rows - by_items)
    return Cleaned(log, tuple(steps))


def count(table: Table) -> int:
    """Rows of a table."""
    rows: int = table.count().to_pyarrow().as_py()
    return rows


def settled(table: Table, *, instead_of: Table | None = None) -> Table:
    """The same rows, computed now and once: a table of the connection's, gone when it closes.

    Args:
        table: what to compute.
        instead_of: a settled table that is not needed any more, and is given up for the memory.
    """
    from ibis.util import gen_name

    backend = table.get_backend()
    computed = backend.create_table(gen_name("settled"), table, temp=True)
    if instead_of is not None:
        # Not `backend.drop_table`: with sqlglot from 30.18 on, ibis 12 writes `DROP TABLE` without the name.
        backend.raw_sql(f"DROP TABLE {instead_of.get_name()}")
    return computed


def _without_duplicates(log: Table) -> Table:
    return log.group_by("user_id", "item_id", "event", "timestamp").agg(value=log["value"].max())


def _first_of_repeats(log: Table) -> Table:
    import ibis

    nth = ibis.row_number().over(group_by=["user_id", "item_id"], order_by=["timestamp", "event"])
    return log.mutate(nth=nth).filter(ibis._["nth"] == 0).drop("nth")


def _with_enough_events(log: Table, rows: int, user_least: int, item_least: int) -> tuple[Table, int, int]:
    """The log in which each user has `user_least` events and each item `item_least`; rows dropped for either.

    Dropping a user takes events from items, and the other way round, so it goes on until nothing changes.
    What is left is the same whichever goes first.
    """
    demands = [(column, least) for column, least in (("user_id", user_least), ("item_id", item_least)) if least > 1]
    dropped = {"user_id": 0, "item_id": 0}
    changed = True
    while changed:
        changed = False
        for column, least in demands:
            counts = log.group_by(column).agg(events=log.count())
            enough = counts.filter(counts["events"] >= least)
            left = enough["events"].sum().to_pyarrow().as_py() or 0
            if left < rows:
                log = settled(log.semi_join(enough, column), instead_of=log)
                dropped[column] += rows - left
                changed, rows = True, left
    return log, dropped["user_id"], dropped["item_id"]
