"""`champion.json`: the file that says which version is live. Deploying writes it, the endpoint watches it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recloop.errors import ServingError
from recloop.files import replacing

POINTER = "champion.json"


class Pointer(BaseModel):
    """`champion.json`: which version is to be live."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int
    folder: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    """The package, beside the pointer."""
    package_sha256: str
    """`package_sha256` of that package: two registries may both have a version of this number."""
    since: str
    previous: int | None
    reason: str

    @property
    def identity(self) -> tuple[int, str]:
        return self.version, self.package_sha256


def read_pointer(live: Path) -> Pointer | None:
    """What `live/champion.json` says; None where there is none.

    Raises:
        ServingError: it is damaged.
    """
    path = live / POINTER
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
