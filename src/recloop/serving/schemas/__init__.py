"""What the endpoint takes and gives, as strict types. What does not fit is refused by name.

The limits of `params.yaml` travel in pydantic's validation context, so that one message can tell of every
fault in a request; `serving/parsing.py` makes that message. A module is a family of operations.
"""

from recloop.serving.schemas.admin import (
    ChallengerAnswer,
    ModelAnswer,
    Refused,
    ReloadAnswer,
    ReloadRequest,
    RollbackAnswer,
    RollbackRequest,
    SplitAnswer,
    SplitRequest,
)
from recloop.serving.schemas.base import Answer, Context, Failure, Id, Name, Request
from recloop.serving.schemas.events import (
    DAY_US,
    EVENT_NAME,
    EventName,
    EventRequest,
    EventsAnswer,
    EventsRequest,
    Moment,
)
from recloop.serving.schemas.limits import Limits
from recloop.serving.schemas.lists import Between, Filters, ListRequest, RecommendedItem, Value
from recloop.serving.schemas.people import ForgottenAnswer, KnownEvent, UserAnswer
from recloop.serving.schemas.recommend import (
    BatchAnswer,
    BatchRequest,
    ExplainedAnswer,
    ExplainedItem,
    Explanation,
    Reason,
    RecommendAnswer,
    RecommendRequest,
)
from recloop.serving.schemas.similar import SimilarAnswer, SimilarRequest

__all__ = [
    "DAY_US",
    "EVENT_NAME",
    "Answer",
    "BatchAnswer",
    "BatchRequest",
    "Between",
    "ChallengerAnswer",
    "Context",
    "EventName",
    "EventRequest",
    "EventsAnswer",
    "EventsRequest",
    "ExplainedAnswer",
    "ExplainedItem",
    "Explanation",
    "Failure",
    "Filters",
    "ForgottenAnswer",
    "Id",
    "KnownEvent",
    "Limits",
    "ListRequest",
    "ModelAnswer",
    "Moment",
    "Name",
    "Reason",
    "RecommendAnswer",
    "RecommendRequest",
    "RecommendedItem",
    "Refused",
    "ReloadAnswer",
    "ReloadRequest",
    "Request",
    "RollbackAnswer",
    "RollbackRequest",
    "SimilarAnswer",
    "SimilarRequest",
    "SplitAnswer",
    "SplitRequest",
    "UserAnswer",
    "Value",
]
