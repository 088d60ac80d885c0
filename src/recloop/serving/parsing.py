"""From a request's bytes to its type, or to one message that tells of every fault in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json

from recloop.config import describe_fault
from recloop.serving.schemas import Limits, Request

R = TypeVar("R", bound=Request)

SHOWN_FAULTS = 5
MOST_NAMES = 32
"""No object of a request has so many: each unknown one would be a fault to be written down"""


class RefusedError(Exception):
    """A request that is refused.

    Args:
        status: of HTTP, 4xx or 503.
        message, remedy: why, and how to put it right.
        retry_after: seconds after which it may be sent again.
        header: one more for the answer.
        faults: all that pydantic found wrong, where it did.
        content: what they are in, where it is JSON.
    """

    def __init__(
        self,
        status: int,
        message: str,
        remedy: str,
        *,
        retry_after: float | None = None,
        header: tuple[bytes, bytes] | None = None,
        faults: Sequence[ErrorDetails] = (),
        content: Any = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.remedy = status, message, remedy
        self.retry_after, self.header = retry_after, header
        self.faults, self.content = faults, content


def parse(model: type[R], body: bytes, limits: Limits) -> R:
    """`body` as a `model`.

    Raises:
        RefusedError: it is not JSON (400), or not such a request (422).
    """
    try:
        content = from_json(body)
    except ValueError as error:
        raise RefusedError(400, f"the body is not JSON: {error}", "send a JSON object in UTF-8") from None
    if (names := _most_names(content)) > MOST_NAMES:
        raise RefusedError(422, f"an object in the body has {names:,} names", f"send at most {MOST_NAMES} in each")
    try:
        return model.model_validate(content, context=limits)
    except ValidationError as error:
        faults = error.errors(include_url=False)
    if not faults[0]["loc"] and faults[0]["type"] == "model_type":
        raise RefusedError(422, "the body is no JSON object", "send one, as `/docs.json` describes it")
    for fault in faults:
        if fault["type"] == "string_pattern_mismatch":  # of an Id; the pattern says nothing to a person
            fault["msg"] = "should hold no control characters"
    lines = [describe_fault(model, fault) for fault in faults[:SHOWN_FAULTS]]
    if len(faults) > SHOWN_FAULTS:
        lines.append(f"and {len(faults) - SHOWN_FAULTS} more")
    raise RefusedError(
        422, "; ".join(lines), "correct the request; `/docs.json` describes it", faults=faults, content=content
    )


def _most_names(content: Any) -> int:
    """How many names the largest object in it has."""
    if isinstance(content, dict):
        return max(len(content), max(map(_most_names, content.values()), default=0))
    return max(map(_most_names, content), default=0) if isinstance(content, list) else 0
