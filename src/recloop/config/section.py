"""What every section of `params.yaml` is made of: the strict base, and types for what its keys hold."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Limit = Annotated[float, Field(allow_inf_nan=True)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _as_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


Moment = Annotated[datetime, AfterValidator(_as_utc)]


def _as_within(path: Path) -> Path:
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("must be below source.folder, which DVC watches for changes")
    return path


Within = Annotated[Path, AfterValidator(_as_within)]


class Section(BaseModel):
    """A section of `params.yaml`: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)
