"""Purchases that are made up, with something to learn in them: every user has a taste, and every item is to one.

Item i is of the taste i modulo `tastes`, user u of the taste u modulo `tastes`. A user buys an item at most once, most
of them of the own taste, and inside a taste the first items far more often than the last (the n-th in proportion to
1 / n^skew). Moments are spread evenly over a year. The same settings give the same tables.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa

from recloop.config import Synthetic
from recloop.data.schema import TIMESTAMP
from recloop.data.sources.canonical import Stream, Tables, raw_schema

START = 1_704_067_200_000_000
"""2024-01-01, in microseconds since 1970."""
YEAR = 366 * 86_400_000_000
ELSEWHERE = 0.2
"""The share of purchases outside the own taste, as long as there is as much to choose from."""


def read_synthetic(source: Synthetic) -> Tables:
    """The purchases that these settings describe, as canonical tables."""
    return Tables(
        interactions=Stream.of(_interactions(source)),
        items=Stream.of(_items(source)),
        users=Stream.of(_users(source)),
        notes=("the data is made up",),
    )


def _interactions(source: Synthetic) -> pa.Table:
    rng = np.random.default_rng(source.seed)
    # As many draws as there are events, without replacement, from all that could be bought: exact, and never too many.
    rows = np.full(source.users, source.items)
    counts = rng.multivariate_hypergeometric(rows, source.events, method="marginals")
    liking = np.log(_likings(source))
    bought = []
    for user, count in enumerate(counts.tolist()):
        # The largest of logarithms plus Gumbel noise: a draw without replacement in proportion to the liking.
        keys = liking[user % source.tastes] + rng.gumbel(size=source.items)
        bought.append(rng.permutation(np.argsort(-keys, kind="stable")[:count]))
    times = np.sort(rng.integers(0, YEAR, size=source.events)) + START
    users = rng.permutation(np.repeat(np.arange(source.users), counts))
    items = np.empty(source.events, np.int64)
    items[np.argsort(users, kind="stable")] = np.concatenate(bought)
    return _until(users, items, times, source.until)


def _likings(source: Synthetic) -> np.ndarray:
    """float64 [tastes, items]: how likely somebody of each taste is to buy each item first; rows add up to 1."""
    items = np.arange(source.items)
    share = 1.0 / (1 + items // source.tastes) ** source.skew
    own = share * (items % source.tastes == np.arange(source.tastes)[:, None])
    likings: np.ndarray = (1 - ELSEWHERE) * own / own.sum(1, keepdims=True) + ELSEWHERE * share / share.sum()
    return likings


def _until(users: np.ndarray, items: np.ndarray, times: np.ndarray, until: datetime | None) -> pa.Table:
    count = len(times) if until is None else int(np.searchsorted(times, int(until.timestamp() * 1_000_000)))
    columns = [
        pa.array(users[:count]).cast(pa.string()),
        pa.array(items[:count]).cast(pa.string()),
        pa.repeat("purchase", count),
        pa.repeat(pa.scalar(1.0, pa.float32()), count),
        pa.array(times[:count]).cast(TIMESTAMP),
    ]
    return pa.table(columns, schema=raw_schema("interactions"))


def _items(source: Synthetic) -> pa.Table:
    codes = range(source.items)
    columns = [
        [str(code) for code in codes],
        [f"item {code}" for code in codes],
        [[f"taste {code % source.tastes}"] for code in codes],
    ]
    return pa.table([pa.array(c) for c in columns], schema=raw_schema("items"))


def _users(source: Synthetic) -> pa.Table:
    codes = range(source.users)
    schema = raw_schema("users").append(pa.field("taste", pa.int64()))
    return pa.table(
        [pa.array([str(code) for code in codes]), pa.array([code % source.tastes for code in codes])], schema=schema
    )
