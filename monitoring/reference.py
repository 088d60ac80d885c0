"""The reference: the last stretch of the events that the live model knows, and what was known before it.

It is read from `data/gated`, whose rows look like live events: preparation has not filtered them yet. Only
events that the live model's data held are taken, even where a later training has brought in newer ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitoring.features import Fresh, event_features
from monitoring.known import Known, Vocabulary
from monitoring.live import LiveModel
from monitoring.moments import from_micros
from recloop.errors import StageError

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend
    from ibis.expr.types import Table

REMEDY = "`dvc pull` or `dvc repro gate` brings it back"
PIECES = 10
COLUMNS = ("user_id", "item_id", "event", "value", "timestamp")


@dataclass(frozen=True)
class Reference:
    """What current traffic is compared with."""

    features: Table
    """Of the reference stretch, by what was known before it"""
    known: Known
    """All that the live model knows: what was known before current traffic"""
    vocabulary: Vocabulary
    learnt: int
    """Events that the live model knows"""
    events: int
    """Of the reference"""
    since: datetime
    until: datetime


def reference(
    connection: Backend,
    gated: Path,
    live: LiveModel,
    share: float,
    fresh_micros: int,
) -> Reference:
    """The last `share` of the events that `live` knows.

    Args:
        connection: an Ibis DuckDB backend.
        gated: folder of the gated tables.
        live: the model that is served.
        share: between 0 and 1.
        fresh_micros: an item counts as unknown for so long after it was first seen.

    Raises:
        StageError: a table is missing or damaged, or holds too little to cut a reference from.
    """
    events, items = learnt(connection, gated, live)
    count = int(events.count().execute())
    if not count:
        raise StageError(f"{gated} holds no event that model version {live.version} knows", remedy=REMEDY)
    cut = events.timestamp.quantile(1 - share).execute()
    before, stretch = events.filter(events.timestamp < cut), events.filter(events.timestamp >= cut)
    if not int(before.count().execute()):
        raise StageError(
            f"{gated}: all that model version {live.version} knows happened at one and the same time",
            remedy="take a source whose events have times",
        )
    vocabulary = Vocabulary.of(events, items)
    return Reference(
        features=as_it_went(events, cut, vocabulary, fresh_micros),
        known=Known.before(events),
        vocabulary=vocabulary,
        learnt=count,
        events=int(stretch.count().execute()),
        since=_moment(stretch.timestamp.min().execute()),
        until=_moment(stretch.timestamp.max().execute()),
    )


def learnt(connection: Backend, gated: Path, live: LiveModel) -> tuple[Table, Table]:
    """The events that `live` knows, and the items.

    Raises:
        StageError: a table is missing or damaged.
    """
    log = _table(connection, gated / "interactions.parquet", (*COLUMNS, "feedback_seq"))
    items = _table(connection, gated / "items.parquet", ("item_id", "categories"))
    return _learnt(log, live), items


def as_it_went(events: Table, cut: Any, vocabulary: Vocabulary, fresh_micros: int) -> Table:
    """The features of the events since `cut`, piece by piece, each by what was known just before it.

    So a live model knows its traffic, too; by what was known at `cut` the last of them would look odd.

    Args:
        events: all that the live model knows.
        cut: a time.
        vocabulary: of both sides.
        fresh_micros: an item counts as unknown for so long after it was first seen.
    """
    import ibis
    from ibis.util import gen_name

    backend = events.get_backend()
    stretch = events.filter(events.timestamp >= cut)
    first_events = events.group_by("item_id").aggregate(first=lambda t: t.timestamp.min())
    fresh = Fresh(backend.create_table(gen_name("first_events"), first_events, temp=True), fresh_micros)
    edges = stretch.timestamp.quantile([piece / PIECES for piece in range(PIECES)]).execute()
    begins = sorted({_moment(moment) for moment in edges})
    pieces = []
    for begin, end in pairwise([*begins, None]):
        piece = stretch.filter(stretch.timestamp >= begin)
        if end is not None:
            piece = piece.filter(piece.timestamp < end)
        known = Known.before(events.filter(events.timestamp < begin))
        features = event_features(piece, known, vocabulary, fresh)
        pieces.append(backend.create_table(gen_name("piece"), features, temp=True))
    return ibis.union(*pieces) if len(pieces) > 1 else pieces[0]


def _learnt(interactions: Table, live: LiveModel) -> Table:
    import ibis

    taken = interactions.feedback_seq.isnull() | (interactions.feedback_seq <= live.feedback_watermark)
    if live.newest is not None:
        taken &= interactions.timestamp <= ibis.literal(from_micros(live.newest))
    return interactions.filter(taken).select(*COLUMNS)


def _table(connection: Backend, path: Path, columns: tuple[str, ...]) -> Table:
    import duckdb

    if not path.is_file():
        raise StageError(f"{path} is missing", remedy=REMEDY)
    try:
        table = connection.read_parquet(str(path))
    except duckdb.Error as error:
        raise StageError(f"{path} is damaged: {error}", remedy=REMEDY) from error
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise StageError(f"{path} has no column {', '.join(missing)}", remedy=REMEDY)
    return table


def _moment(timestamp: Any) -> datetime:
    """A pandas timestamp as Python's own."""
    moment: datetime = timestamp.to_pydatetime()
    return moment.astimezone(UTC)
