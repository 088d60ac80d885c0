"""From bytes to a request: a filter that is none is told what it may be, once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recloop.config import Serving
from recloop.serving.parsing import RefusedError, parse
from recloop.serving.schemas import Between, Limits, RecommendRequest

LIMITS = Limits.of(Serving())


def filtered(condition: Any) -> Any:
    body = json.dumps({"filters": {"release_year": condition}}).encode()
    return parse(RecommendRequest, body, LIMITS).filters["release_year"]


@pytest.mark.parametrize("condition", ["Acme", 1990, 1.5, True, ["Drama", 3, False], []])
def test_a_filter_is_a_value_or_a_list(condition: Any) -> None:
    assert filtered(condition) == condition


@pytest.mark.parametrize(
    ("condition", "low", "high"), [({"min": 1990}, 1990, None), ({"min": "2020-01-01", "max": 5.5}, "2020-01-01", 5.5)]
)
def test_or_a_range(condition: Any, low: Any, high: Any) -> None:
    assert filtered(condition) == Between(min=low, max=high)


@pytest.mark.parametrize(
    "condition",
    [
        {"gte": 300},
        {"min": 1, "gte": 300},
        {"min": [1]},
        None,
        [[1]],
        ["a"] * 101,
        "a" * 257,
        float("inf"),
        {"max": float("nan")},
    ],
)
def test_what_is_none_is_told_what_a_filter_may_be(condition: Any) -> None:
    with pytest.raises(RefusedError) as caught:
        filtered(condition)
    said, given = caught.value.message.split(" (got ")
    assert said == (
        'filters.release_year: should be a value, a list of at most 100 values, or {"min": …, "max": …}; '
        "a value is text of at most 256 characters, a number, true or false"
    )
    assert given[:3] == repr(condition)[:3]
    assert caught.value.status == 422
