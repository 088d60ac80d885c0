"""Requests and answers as the page of the API shows them, of films in MovieLens-100K."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recloop.serving.schemas import (
    Answer,
    BatchAnswer,
    BatchRequest,
    EventsAnswer,
    EventsRequest,
    ExplainedAnswer,
    ForgottenAnswer,
    ModelAnswer,
    RecommendAnswer,
    RecommendRequest,
    ReloadAnswer,
    ReloadRequest,
    Request,
    RollbackAnswer,
    RollbackRequest,
    SimilarAnswer,
    SimilarRequest,
    SplitAnswer,
    SplitRequest,
    UserAnswer,
)

Named = Mapping[str, Mapping[str, Any]]
"""What it is an example of → what is sent"""

_LIST = {"request_id": "9b0d4a6e1c7f4f0e8a53d1b2c6e7f801", "model_version": 3, "variant": "champion"}
_FOUND: list[dict[str, Any]] = [
    {"item_id": "172", "title": "Empire Strikes Back, The (1980)", "score": 7.31},
    {"item_id": "174", "title": "Raiders of the Lost Ark (1981)", "score": 7.02},
]
_RECOMMENDED: dict[str, Any] = _LIST | {"strategy": "model", "items": _FOUND, "unknown_items": []}
_METRICS = {"ndcg_at_10": 0.12, "recall_at_10": 0.21}
_SPLIT = {"challenger": 0.1, "shadow": False}

EXAMPLES: Mapping[type[Request] | type[Answer], Named] = {
    RecommendRequest: {
        "A user": {"user_id": "30", "k": 5},
        "Somebody who is known by what they did": {"history": ["50", "181"], "exclude": ["174"]},
        "Some items only, and why": {"user_id": "30", "filters": {"categories": ["Drama", "Crime"]}, "explain": True},
        "A newcomer": {"context": {"country": "DE"}},
    },
    BatchRequest: {"Two lists": {"requests": [{"user_id": "30", "k": 5}, {"history": ["50", "181"], "k": 5}]}},
    SimilarRequest: {"Items like one": {"item_id": "50", "k": 5}},
    EventsRequest: {
        "A click": {
            "events": [{"event_id": "2f1c9a", "user_id": "30", "item_id": "50", "event": "click", "request_id": "9b"}]
        },
        "A rating, told later": {
            "events": [
                {
                    "event_id": "2f1c9b",
                    "user_id": "30",
                    "item_id": "181",
                    "event": "rating",
                    "value": 4.5,
                    "timestamp": "2026-01-31T12:00:00Z",
                }
            ]
        },
        "An item never to be shown again": {
            "events": [{"event_id": "2f1c9c", "user_id": "30", "item_id": "174", "event": "dismiss"}]
        },
    },
    ReloadRequest: {"Look": {}},
    RollbackRequest: {"Back": {"reason": "clicks fell by a third since this morning"}},
    SplitRequest: {
        "A tenth for the challenger": {"challenger": 0.1},
        "The challenger unseen": {"challenger": 0, "shadow": True},
        "All for the champion": {"challenger": 0},
    },
    RecommendAnswer: {"A list": _RECOMMENDED},
    ExplainedAnswer: {
        "With `explain`": _RECOMMENDED
        | {
            "items": [
                _FOUND[0]
                | {"reason": {"because_of": ["50"], "model_rank": 2, "moved_by": ["diversity"], "propensity": None}}
            ],
            "explanation": {"left_out": {"at_most": 3}, "candidates": 100},
        }
    },
    BatchAnswer: {"A list each": {"answers": [_RECOMMENDED]}},
    SimilarAnswer: {"Items like one": {"model_version": 3, "items": _FOUND, "unknown_items": []}},
    EventsAnswer: {
        "New": {"stored": 1, "duplicates": []},
        "Sent again": {"stored": 0, "duplicates": ["2f1c9a"]},
    },
    ModelAnswer: {
        "What is live": {
            "version": 3,
            "since": "2026-01-31T12:00:00.000000+00:00",
            "reason": "nightly",
            "model": "sasrec",
            "newest": "1998-04-22T23:10:38+00:00",
            "data_sha256": "5e1f0c…",
            "model_sha256": "a9d277…",
            "feedback_watermark": 1204,
            "items": 1682,
            "users": 943,
            "metrics": _METRICS,
            "refused": None,
            "challenger": {"version": 4, "model": "hstu", "metrics": _METRICS},
            "split": _SPLIT,
        }
    },
    UserAnswer: {
        "A person": {
            "user_id": "30",
            "in_model": True,
            "history": [
                {"item_id": "181", "event": None, "at": "1997-12-04T15:55:49+00:00"},
                {"item_id": "50", "event": "click", "at": "2026-01-31T12:00:00+00:00"},
            ],
            "dismissed": ["174"],
            "stored_events": 2,
            "impressions": 9,
        }
    },
    ForgottenAnswer: {"Forgotten": {"user_id": "30", "events": 2, "impressions": 9}},
    ReloadAnswer: {"All as before": {"version": 3, "changed": False, "refused": None}},
    RollbackAnswer: {"Back": {"done": "v2 (bpr_mf) is champion again, in v3's place", "version": 2}},
    SplitAnswer: {"Shared": _SPLIT},
}

FAILED: Mapping[str, tuple[str, str]] = {
    "400": ("the body is not JSON: EOF while parsing an object at line 1 column 15", "send a JSON object in UTF-8"),
    "401": (
        "no key, or one that does not work (any more)",
        "send `Authorization: Bearer <key>`; `recloop keys create` makes one",
    ),
    "403": (
        "key 7f3a9c01 (shop) is good for recommend, not for admin",
        "`recloop keys create NAME --scope admin` makes one that is",
    ),
    "404": ("version 3 knows no item '99999'", "items come in with the data that a version is trained on"),
    "408": ("the body did not come in 10 s", "send it whole"),
    "409": (
        "the registry did not roll back: there is no earlier champion to go back to",
        "mend that, and ask again",
    ),
    "413": ("the body is longer than 4,161,536 bytes", "send fewer events, or a shorter history"),
    "422": ("k: should be at most 100 (serving.max_k) (got 1000)", "correct the request; `/docs.json` describes it"),
    "429": (
        "key 7f3a9c01 asks for more than it may (serving.requests_per_second, serving.burst)",
        "send it again in 1 s",
    ),
    "503": (
        "no champion is live yet",
        "`make train` makes one, `recloop deploy` puts it here; it is served within seconds",
    ),
}
"""Status → `error` and `remedy`, as they are then"""
