"""From a request's bytes to its type, or to one message that tells of every fault in it."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from recloop.config import describe_fault
from recloop.serving.schemas import Limits, Request

R = TypeVar("R", bound=Request)

SHOWN_FAULTS = 5


class RefusedError(Exception):
    """A request that is refused.

    Args:
        status: of HTTP, 4xx.
        message, remedy: why, and how to put it right.
        retry_after: seconds after which it may be sent again.
        header: one more for the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        remedy: str,
        *,
        retry_after: float | None = None,
        header: tuple[bytes, bytes] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.remedy = status, message, remedy
        self.retry_after, self.header = retry_after, header


def parse(model: type[R], body: bytes, limits: Limits) -> R:
    """`body` as a `model`.

    Raises:
        RefusedError: it is not JSON (400), or not such a request (422).
    """
    try:
        return model.model_validate_json(body, context=limits)
    except ValidationError as error:
        faults = error.errors(include_url=False)
    if faults[0]["type"] == "json_invalid":
        raise RefusedError(400, f"the body is not JSON: {faults[0]['ctx']['error']}", "send a JSON object in UTF-8")
    if not faults[0]["loc"] and faults[0]["type"] == "model_type":
        raise RefusedError(422, "the body is no JSON object", "send one, as `/docs.json` describes it")
    for fault in faults:
        if fault["type"] == "string_pattern_mismatch":  # of an Id; the pattern says nothing to a person
            fault["msg"] = "should hold no control characters"
    lines = [describe_fault(model, fault) for fault in faults[:SHOWN_FAULTS]]
    if len(faults) > SHOWN_FAULTS:
        lines.append(f"and {len(faults) - SHOWN_FAULTS} more")
    raise RefusedError(422, "; ".join(lines), "correct the request; `/docs.json` describes it")
