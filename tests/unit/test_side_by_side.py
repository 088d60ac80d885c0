"""The query in docs/serving.md that says what came of a challenger's lists: on both databases, counted by hand."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from sqlalchemy import insert, text

from recloop.serving.events import events
from recloop.serving.impressions import impressions
from recloop.serving.traffic import Split, SplitStore
from recloop.storage import connect, now_us
from tests.conftest import ROOT

HOUR = 3_600_000_000


def shown(request_id: str, user_id: str | None, variant: str, at: int) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "user_id": user_id,
        "served_at": at,
        "version": 1 if variant == "champion" else 2,
        "variant": variant,
        "strategy": "model",
        "items": ["a"],
        "scores": [1.0],
        "history_length": 1,
    }


def done(request_id: str | None, user_id: str, event: str, number: int, at: int) -> dict[str, Any]:
    return {
        "event_id": f"{number}",
        "user_id": user_id,
        "item_id": "a",
        "event": event,
        "value": 1.0,
        "timestamp": at,
        "received_at": at,
        "request_id": request_id,
    }


def test_the_query_of_the_docs_counts_what_users_did_with_each_versions_lists(database_url: str) -> None:
    (query,) = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "serving.md").read_text(encoding="utf-8"), re.DOTALL)
    database, before = connect(database_url), now_us() - HOUR
    SplitStore(database).write(Split(0.5), "a person")
    after = now_us() + 1
    lists = [
        shown("old", "ann", "champion", before),
        shown("r1", "ann", "champion", after),
        shown("r2", "ann", "champion", after),
        shown("r3", "bob", "champion", after),
        shown("r4", "cid", "challenger", after),
        shown("r5", "cid", "challenger", after),
        shown("r1", "ann", "shadow", after),
        shown("r6", None, "champion", after),
    ]
    acts = [
        ("old", "ann", "click"),
        ("r1", "ann", "click"),
        ("r1", "ann", "click"),
        ("r1", "ann", "purchase"),
        ("r3", "bob", "view"),
        ("r4", "cid", "click"),
        ("r6", "dan", "click"),
        (None, "bob", "click"),
    ]
    with database.begin() as connection:
        connection.execute(insert(impressions), lists)
        connection.execute(insert(events), [done(*act, number, after) for number, act in enumerate(acts)])
        found = [dict(row) for row in connection.execute(text(query)).mappings()]
    database.dispose()

    columns = ["version", "variant", "users", "users_who_did", "lists", "clicks", "purchases", "percent"]
    assert list(found[0]) == columns
    rows = [[Decimal(str(value)) if type(value) is not str else value for value in row.values()] for row in found]
    assert rows == [
        [1, "champion", 2, 1, 3, 2, 1, Decimal("33.33")],
        [2, "challenger", 1, 1, 2, 1, 0, Decimal(50)],
    ]
