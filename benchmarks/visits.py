"""MovieLens' visits as the traffic of an endpoint, in an order drawn at random: what `benchmarks.monitoring` judges.

A visit is what a user rates without a pause of half an hour. Before its events item-kNN makes a list of what the model
knows, for what the user has had; SHOWN of them are kept, evenly spread.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp  # type: ignore[import-untyped]
from sqlalchemy import Connection, insert

from monitoring.features import PAUSE_SECONDS
from monitoring.live import LiveModel
from monitoring.window import HOUR
from recloop.data.schema import INTERACTIONS
from recloop.serving.events import events as events_table
from recloop.serving.impressions import impressions
from recloop.serving.refusals import ADD

VISITS = 350
"""In a window"""
EARLIER, WINDOWS = 3, 3
"""Windows that the live version had before those that are judged, and these"""
LISTED, READ, SHOWN = 10, 20, 8
"""Items of a list, those of a user's that it is made from, and lists of a visit, at most"""
LIVE = LiveModel(version=1, since=0, newest=None, feedback_watermark=0)
SECOND = 1_000_000


@dataclass(frozen=True)
class Stretch:
    """What comes in during one window."""

    events: pd.DataFrame
    """visit, user_id, item_id, event, value, timestamp and received_at (int64 µs since 1970)"""
    lists: pd.DataFrame
    """visit, served_at, items, scores, history_length"""
    users: dict[int, str]
    """Visit → whose it is"""
    refused: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["reason", "received_at"]))
    """reason, received_at: events that the endpoint does not take, a request each"""


@dataclass(frozen=True)
class Period:
    """What a model knows, and the visits that come after it."""

    learnt: pd.DataFrame
    items: pd.DataFrame
    ends: list[int]
    """When the first window begins, and when each ends; the first EARLIER of them are judged by nobody"""
    came: Stretch
    """All of it"""
    window_of: dict[int, int]
    """Visit → its window, from -EARLIER"""
    tail: np.ndarray
    """Items that the least popular half of the events went to"""
    by_category: dict[str, np.ndarray]
    """Category → the items of it, as often as they occur"""

    def window(self, number: int) -> Stretch:
        """The visits that begin in one window."""
        came = self.came
        inside = {visit for visit, window in self.window_of.items() if window == number}
        return Stretch(
            came.events[came.events.visit.isin(inside)].reset_index(drop=True),
            came.lists[came.lists.visit.isin(inside)].reset_index(drop=True),
            {visit: came.users[visit] for visit in inside},
        )

    def write_gated(self, folder: Path) -> None:
        """As the gate leaves what the model has learnt from."""
        folder.mkdir()
        rows = pa.table(
            {name: pa.array(self.learnt[name]).cast(INTERACTIONS.field(name).type) for name in INTERACTIONS.names}
        )
        rows = rows.append_column("feedback_seq", pa.nulls(len(rows), pa.int64()))
        pq.write_table(rows, folder / "interactions.parquet")
        pq.write_table(pa.Table.from_pandas(self.items, preserve_index=False), folder / "items.parquet")


def load(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Interactions in order of time (int64 µs since 1970), and items with their categories."""
    ratings, movies = pd.read_csv(folder / "ratings.csv"), pd.read_csv(folder / "movies.csv")
    log = pd.DataFrame(
        {
            "user_id": ratings.userId.astype(str),
            "item_id": ratings.movieId.astype(str),
            "event": "rating",
            "value": ratings.rating.astype("float32"),
            "timestamp": ratings.timestamp.astype("int64") * SECOND,
        }
    )
    categories = movies.genres.replace("(no genres listed)", "").str.split("|")
    items = pd.DataFrame({"item_id": movies.movieId.astype(str), "categories": categories})
    return log.sort_values(["timestamp", "user_id", "item_id"], ignore_index=True), items


def period_of(log: pd.DataFrame, items: pd.DataFrame, rng: np.random.Generator) -> Period:
    """`log` with its visits in a drawn order; what comes before its last windows is known."""
    by_user = log.sort_values(["user_id", "timestamp"], kind="stable")
    pause = by_user.groupby("user_id").timestamp.diff()
    log = log.assign(visit=((pause > PAUSE_SECONDS * SECOND) | pause.isna()).cumsum().reindex(log.index))
    starts = log.groupby("visit").timestamp.min()
    drawn = pd.Series(rng.permutation(starts.to_numpy()), index=starts.index)
    moved = log.timestamp + log.visit.map(drawn - starts)
    log = log.assign(timestamp=moved).sort_values(["timestamp", "user_id", "item_id"], ignore_index=True)
    order = drawn.sort_values(kind="stable")
    order = order.iloc[: len(order) // VISITS * VISITS]  # what comes later still is left out
    count = (EARLIER + WINDOWS) * VISITS
    judged = order.iloc[-count:]
    ends = [int(judged.iloc[place]) for place in range(0, count, VISITS)] + [int(judged.iloc[-1]) + 1]
    learnt = log[~log.visit.isin(judged.index) & (log.timestamp < ends[0])].reset_index(drop=True)
    came = log[log.visit.isin(judged.index)].reset_index(drop=True)
    came = came.assign(received_at=came.timestamp + came.visit.map(_lateness(judged.index, rng)))
    counts = log.item_id.value_counts()
    shares = counts.cumsum() / counts.sum()
    first = items.assign(first=items.categories.str[0]).set_index("item_id")["first"]
    return Period(
        learnt=learnt,
        items=items,
        ends=ends,
        came=Stretch(came, _lists(learnt, came), came.groupby("visit").user_id.first().to_dict()),
        window_of={visit: place // VISITS - EARLIER for place, visit in enumerate(judged.index)},
        tail=shares[shares > 0.5].index.to_numpy(),
        by_category={name: group.to_numpy() for name, group in learnt.item_id.groupby(learnt.item_id.map(first))},
    )


def _lateness(visits: pd.Index, rng: np.random.Generator) -> dict[int, int]:
    """How late each visit's events come in, in µs: most within seconds, some within an hour, few later."""
    kind = rng.choice(3, len(visits), p=[0.95, 0.04, 0.01])
    seconds = rng.exponential([2, 600, 6000], (len(visits), 3))[np.arange(len(visits)), kind]
    return dict(zip(visits.tolist(), (seconds * SECOND).astype(np.int64).tolist(), strict=True))


def _lists(learnt: pd.DataFrame, came: pd.DataFrame) -> pd.DataFrame:
    """What item-kNN shows on the way through each visit, just before an event of it comes in."""
    users, items = (pd.factorize(learnt[column]) for column in ("user_id", "item_id"))
    taken = sp.csr_matrix((np.ones(len(learnt), np.float32), (users[0], items[0])))
    taken = taken @ sp.diags(1 / np.sqrt(np.asarray(taken.sum(0)).ravel()))
    alike = (taken.T @ taken).tocsr()
    popular = np.asarray(taken.sum(0)).ravel()
    code = {item: number for number, item in enumerate(items[1])}
    known: dict[str, list[str]] = learnt.groupby("user_id").item_id.agg(list).to_dict()
    rows = []
    for visit, events in came.groupby("visit", sort=False):
        user = events.user_id.iloc[0]
        taken_now, times = events.item_id.to_list(), events.received_at.to_list()
        for place in sorted({part * len(events) // SHOWN for part in range(SHOWN)}):
            seen = [*known.get(user, []), *taken_now[:place]]
            codes = [code[item] for item in seen if item in code]
            scores = np.asarray(alike[codes[-READ:]].sum(0)).ravel() if codes else popular.copy()
            scores[codes] = -1
            top = np.argpartition(-scores, LISTED)[:LISTED]
            top = top[np.argsort(-scores[top], kind="stable")]
            rows.append((visit, times[place] - 1, items[1][top].tolist(), scores[top].tolist(), len(seen)))
        known[user] = [*known.get(user, []), *taken_now]
    return pd.DataFrame(rows, columns=["visit", "served_at", "items", "scores", "history_length"])


def store(connection: Connection, came: Stretch) -> None:
    """Write a stretch down, as the endpoint does."""
    events, lists = came.events, came.lists
    rows = events.drop(columns=["visit"]).to_dict("records")
    done = [
        row | {"event_id": f"{row['user_id']} {row['item_id']} {row['timestamp']} {number} {row['received_at']}"}
        for number, row in enumerate(rows)
    ]
    shown = [
        {
            "request_id": f"{visit} {served_at} {number}",
            "user_id": came.users[visit],
            "served_at": served_at,
            "version": LIVE.version,
            "variant": "champion",
            "strategy": "model" if known else "popular",
            "items": items,
            "scores": scores,
            "history_length": known,
        }
        for number, (visit, served_at, items, scores, known) in enumerate(lists.itertuples(index=False))
    ]
    connection.execute(insert(events_table), done)
    connection.execute(insert(impressions), shown)
    refused = came.refused.assign(hour=came.refused.received_at // HOUR * HOUR)
    counts = refused.groupby(["hour", "reason"]).size().rename("events").reset_index()
    if len(counts):
        connection.execute(ADD, counts.assign(requests=counts.events).to_dict("records"))


def of_others(came: Stretch, others: dict[int, int]) -> Stretch:
    """The same, but that some visits are shown the lists of others: visit → whose lists it is shown."""
    mine = came.lists.groupby("visit").indices
    lists = came.lists.copy()
    columns = ["items", "scores"]
    values = came.lists[columns].to_numpy(dtype=object)
    changed = values.copy()
    for visit, other in others.items():
        if visit != other and visit in mine and other in mine:
            theirs = np.resize(mine[other], len(mine[visit]))
            changed[mine[visit]] = values[theirs]
    lists["items"], lists["scores"] = changed[:, 0], changed[:, 1]
    return replace(came, lists=lists)
