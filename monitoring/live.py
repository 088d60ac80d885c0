"""The live model, as the monitor sees it: which version, since when, and what it knows of the world."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from monitoring.moments import to_micros
from recloop.errors import RegistryError
from recloop.files import read_json

M = TypeVar("M", bound=BaseModel)

REMEDY = "`recloop promote` makes a trained model champion; `recloop deploy` puts the champion there"


@dataclass(frozen=True)
class LiveModel:
    """A version that is being served."""

    version: int
    since: int
    """When it went live: µs since 1970, UTC. Older traffic is not its own."""
    newest: int | None
    """Time of the newest event it knows, µs; None where the data has no times."""
    feedback_watermark: int
    """The last event of the endpoint that it knows: a sequence number of the database."""
    previous: int | None = None
    """The version that was live before it"""
    rolled_back: bool = False
    """Whether it came back in the place of that one, which was rolled back"""


class _Pointer(BaseModel):
    version: int
    folder: str
    since: datetime
    previous: int | None = None
    rolled_back: bool = False


class _Package(BaseModel):
    newest: datetime | None
    feedback_watermark: int


def live_model(folder: Path) -> LiveModel:
    """Read `champion.json` and the package it points to.

    Args:
        folder: `var/live`.

    Raises:
        RegistryError: there is no live model, or its files say something else than they should.
        StageError: a file of the package is missing or is not JSON.
    """
    pointer_file = folder / "champion.json"
    if not pointer_file.is_file():
        raise RegistryError(f"no model is live: {pointer_file} is missing", remedy=REMEDY)
    pointer = _read(_Pointer, pointer_file)
    package = _read(_Package, folder / pointer.folder / "package.json")
    return LiveModel(
        version=pointer.version,
        since=to_micros(pointer.since),
        newest=None if package.newest is None else to_micros(package.newest),
        feedback_watermark=package.feedback_watermark,
        previous=pointer.previous,
        rolled_back=pointer.rolled_back,
    )


def _read(kind: type[M], path: Path) -> M:
    content = read_json(path, remedy=REMEDY)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in error.errors())
        raise RegistryError(f"{path} is damaged: {faults}", remedy=REMEDY) from error
