"""`/similar`: items like one, by the rules that every shown item meets, of the version that says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recloop.config import Gate, Rerank, Serving
from recloop.serving.endpoint import Endpoint
from recloop.serving.engine import Engine
from recloop.serving.metrics import Metrics
from recloop.serving.parsing import parse
from recloop.serving.schemas import Limits, SimilarRequest
from recloop.storage import connect
from tests.packages import COUNTS, point_at, write_package


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """Version 1 has a, b, c, d, e in that order, version 2 backwards. c is out of stock, d is for people of 16."""
    columns = {"in_stock": [True, True, False, True, True], "least_age": [0, 0, 0, 16, None]}
    write_package(tmp_path / "live" / "v1", columns=columns)
    backwards = {item: 6 - count for item, count in COUNTS.items()}
    write_package(tmp_path / "live" / "v2", counts=backwards, columns=columns)
    point_at(tmp_path / "live", 1)
    return tmp_path / "live"


@pytest.fixture
def endpoint(live: Path) -> Iterator[Endpoint]:
    serving = Serving(poll_seconds=3600.0, rerank=Rerank(keep={"in_stock": True}, age_limit="least_age"))
    endpoint = Endpoint(live, connect(f"sqlite:///{live.parent / 'recloop.db'}"), serving, Metrics())
    endpoint.start()
    yield endpoint
    endpoint.stop()


def like(endpoint: Endpoint, item_id: str, **further: Any) -> tuple[int, list[str]]:
    """The version that answers, and its items."""
    body = json.dumps({"item_id": item_id, **further}).encode()
    answer = endpoint.similar(parse(SimilarRequest, body, Limits.of(Serving(), Gate())))
    return answer.model_version, [item.item_id for item in answer.items]


def test_no_item_comes_that_the_rules_leave_out(endpoint: Endpoint) -> None:
    assert like(endpoint, "b") == (1, ["a", "e"])
    assert like(endpoint, "b", age=15) == (1, ["a", "e"])
    assert like(endpoint, "b", age=16) == (1, ["a", "d", "e"])
    assert like(endpoint, "c", age=16, filters={"title": ["Item c", "Item d", "Item e"]}) == (1, ["d", "e"])


def test_a_swap_meanwhile_changes_neither_the_items_nor_the_version_that_is_named(
    endpoint: Endpoint, live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    similar = Engine.similar

    def meanwhile(self: Engine, *asked: Any) -> Any:
        found = similar(self, *asked)
        point_at(live, 2)
        endpoint.follow_versions()
        return found

    monkeypatch.setattr(Engine, "similar", meanwhile)
    assert like(endpoint, "b") == (1, ["a", "e"])
    assert like(endpoint, "b") == (2, ["e", "a"])
