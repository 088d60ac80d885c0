"""Made-up purchases: exactly what was asked for, the same every time, with tastes in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recloop.config import Params, Synthetic, validated
from recloop.data.sources import ingest
from recloop.errors import ConfigError, SourceError

SMALL: dict[str, Any] = {"kind": "synthetic", "folder": ".", "users": 40, "items": 60, "events": 800, "tastes": 4}


def tables(tmp_path: Path, **changes: Any) -> dict[str, pa.Table]:
    ingest(Synthetic(**(SMALL | changes)), tmp_path / "raw", base=tmp_path)
    return {name: pq.read_table(tmp_path / "raw" / f"{name}.parquet") for name in ("interactions", "items", "users")}


def test_there_are_as_many_users_items_and_purchases_as_asked_for(tmp_path: Path) -> None:
    made = tables(tmp_path)
    assert {name: table.num_rows for name, table in made.items()} == {"interactions": 800, "items": 60, "users": 40}
    assert set(made["interactions"]["event"].to_pylist()) == {"purchase"}
    assert made["items"]["categories"].to_pylist()[5] == ["taste 1"]
    assert made["users"]["taste"].to_pylist()[7] == 3


def test_nobody_buys_anything_twice_even_where_everything_is_bought(tmp_path: Path) -> None:
    log = tables(tmp_path, events=40 * 60)["interactions"]
    assert len(set(zip(log["user_id"].to_pylist(), log["item_id"].to_pylist(), strict=True))) == 40 * 60


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(tmp_path: Path) -> None:
    files = []
    for seed in (1, 1, 2):
        tables(tmp_path, seed=seed)
        files.append((tmp_path / "raw" / "interactions.parquet").read_bytes())
    assert files[0] == files[1] != files[2]


def test_users_mostly_buy_what_is_to_their_taste_and_its_first_items_most(tmp_path: Path) -> None:
    log = tables(tmp_path, events=200)["interactions"]
    users, items = (np.array(log[name].to_pylist(), np.int64) for name in ("user_id", "item_id"))
    own = users % 4 == items % 4
    assert own.mean() > 0.7
    assert (items[own] < 20).sum() > 2 * (items[own] >= 40).sum()


def test_with_no_skew_an_item_is_as_popular_as_another(tmp_path: Path) -> None:
    log = tables(tmp_path, users=2000, events=8000, tastes=1, skew=0)["interactions"]
    counts = np.bincount(np.array(log["item_id"].to_pylist(), np.int64), minlength=60)
    assert counts.max() < 1.5 * counts.min()


def test_only_what_came_before_until_is_taken(tmp_path: Path) -> None:
    every, some = tables(tmp_path)["interactions"], tables(tmp_path, until="2024-07-01")["interactions"]
    assert some.equals(every.slice(0, some.num_rows))
    assert 300 < some.num_rows < 500
    with pytest.raises(SourceError, match="no interactions before 2023"):
        tables(tmp_path, until="2023-01-01")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tastes": 61}, r"source: tastes must not exceed items: 61 tastes cannot share 60 items"),
        ({"events": 2401}, r"events must not exceed users × items, which is 2,400: nobody buys anything twice"),
        ({"users": 10**8}, r"users × items must not exceed a thousand million \(got 6,000,000,000\)"),
        ({"users": 0}, r"source\.users: .*greater than or equal to 1"),
        ({"skew": -1}, r"source\.skew: .*greater than or equal to 0"),
        ({"taste": 3}, r"source\.taste: a `synthetic` source has no such key; did you mean `tastes`\?"),
    ],
)
def test_what_cannot_be_made_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    content = {"source": SMALL | changes, "zoo": ["mf"], "models": {"mf": {}}}
    with pytest.raises(ConfigError, match=message):
        validated(Params, content, where="params.yaml")
