"""What every request and every answer is made of, and the answer where there is none."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
"""No control characters: they break lines of logs, and PostgreSQL takes no NUL"""


def short(most: int) -> BeforeValidator:
    """Refuse an object with more names than `most` before what they stand for is looked at.

    pydantic counts them afterwards, when it has written down what is wrong with every single one.
    """

    def check(given: Any) -> Any:
        if isinstance(given, dict) and len(given) > most:
            raise ValueError(f"should hold at most {most} names, not {len(given)}")
        return given

    return BeforeValidator(check)


Id = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=PRINTABLE)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Context = Annotated[dict[Name, Annotated[str, StringConstraints(max_length=256)]], Field(max_length=8), short(8)]


class Request(BaseModel):
    """The body of a request. What stands under a field is on the page of the API."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, protected_namespaces=(), use_attribute_docstrings=True
    )


class Answer(BaseModel):
    """The body of an answer."""

    model_config = ConfigDict(frozen=True, protected_namespaces=(), use_attribute_docstrings=True)


class Failure(Answer):
    """Why there is no answer, and what to do about it."""

    error: str
    """What is wrong, in a line; every fault of a request is named."""
    remedy: str | None
    """What puts it right, where that is known."""
