"""What every request and every answer is made of, and the answer where there is none."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Id = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Context = Annotated[dict[Name, Annotated[str, StringConstraints(max_length=256)]], Field(max_length=8)]


class Request(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())


class Answer(BaseModel):
    """The body of an answer."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


class Failure(Answer):
    """Why there is no answer, and what to do about it."""

    error: str
    remedy: str | None
