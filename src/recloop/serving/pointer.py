"""The files that say which version is live, and which is tried beside it. Deploying writes them, the endpoint watches
them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recloop.errors import ServingError
from recloop.files import replacing

Role = Literal["champion", "challenger"]
CHAMPION = "champion.json"
CHALLENGER = "challenger.json"
POINTERS: dict[Role, str] = {"champion": CHAMPION, "challenger": CHALLENGER}


class Pointer(BaseModel):
    """A pointer's content: which version is meant."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int
    folder: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    """The package, beside the pointer."""
    package_sha256: str
    """`package_sha256` of that package: two registries may both have a version of this number."""
    since: str
    previous: int | None
    """The version whose place it took"""
    rolled_back: bool = False
    """Whether it came back, in the place of one that was rolled back"""
    reason: str

    @property
    def identity(self) -> tuple[int, str]:
        return self.version, self.package_sha256


def read_pointer(live: Path, name: str = CHAMPION) -> Pointer | None:
    """What a pointer in `live` says; None where there is none.

    Raises:
        ServingError: it is damaged.
    """
    path = live / name
    try:
        return Pointer.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in fault["loc"]) or "content"
        raise ServingError(
            f"{path} is damaged: {place}: {fault['msg']}", remedy="`recloop deploy` writes it anew"
        ) from error


def pack_only(live: Path, folder: str) -> None:
    """Let `bentoml build` take `folder` alone of the versions in `live`, by a `.bentoignore` beside them."""
    with replacing(live / ".bentoignore") as part:
        part.write_text(f"# Written when a version goes live: a Bento takes that one alone.\n/v*/\n!/{folder}/\n")
