"""What pydantic found wrong, as lines that name the key where it stands, and the nearest right one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel

from recloop.errors import did_you_mean


def describe_fault(model: type[BaseModel], fault: Any) -> str:
    """One of pydantic's `errors()` for `model` as a line: the key, what is wrong, and the nearest right key."""
    place, sections, kind = _located(model, fault["loc"])
    key = ".".join(place)
    if fault["type"] == "extra_forbidden":
        what = f"a `{kind}` {place[-2]} has no such key" if kind else "unknown key"
        return f"{key}: {what}{did_you_mean(place[-1], _keys(sections))}"
    if fault["type"] == "missing":
        return f"{key}: is missing"
    if fault["type"] == "union_tag_not_found":
        return f"{key}.kind: is missing; there are: {', '.join(_kinds(sections))}"
    if fault["type"] == "union_tag_invalid":
        given, known = fault["ctx"]["tag"], _kinds(sections)
        hint = did_you_mean(given, known) or f"; there are: {', '.join(known)}"
        return f"{key}.kind: there is no {given!r}{hint}"
    message: str = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "too_short":
        message = f"must have at least {fault['ctx']['min_length']} item"
    if not key:
        return message
    shown = repr(fault["input"])
    return f"{key}: {message} (got {shown if len(shown) < 60 else shown[:57] + '…'})"


def _located(model: type[BaseModel], loc: Iterable[str | int]) -> tuple[list[str], list[type[BaseModel]], str]:
    """The place of a fault as it stands in the file, the sections that may stand there, and which kind of section it
    is where there are several: pydantic puts that into the place."""
    place, sections, kind = [], [model], ""
    for part in loc:
        fields = [section.model_fields[part] for section in sections if part in section.model_fields]
        chosen = [section for section in sections if part in _kinds([section])]
        if not fields and chosen and len(sections) > 1:
            sections, kind = chosen, str(part)
            continue
        place.append(str(part))
        if fields:
            sections, kind = [inner for field in fields for inner in _sections(field.annotation)], ""
    return place, sections, kind


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a field of this type may hold, in a list or by name as well as by itself."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections(part)]


def _keys(sections: Iterable[type[BaseModel]]) -> list[str]:
    return [field.alias or name for section in sections for name, field in section.model_fields.items()]


def _kinds(sections: Iterable[type[BaseModel]]) -> list[str]:
    """What `kind` may be in sections that are told apart by it."""
    fields = [section.model_fields["kind"] for section in sections if "kind" in section.model_fields]
    return [kind for field in fields for kind in get_args(field.annotation)]
