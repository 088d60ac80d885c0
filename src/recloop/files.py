"""Files that are either whole or not there: a killed process or a full disk never leaves half a file."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recloop.errors import NO_ROOM, ROOM_REMEDY, RecloopError, StageError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it over `path`.

    Raises:
        RecloopError: the disk is full; `path` is as it was.
    """
    with _room_for(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        part = Path(name)
        try:
            yield part
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.chmod(0o644)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as sorted, indented JSON: the same content gives the same bytes."""
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path, *, remedy: str) -> Any:
    """Read a JSON file that a stage wrote.

    Raises:
        StageError: it is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StageError(f"{path} is missing", remedy=remedy) from error
    except (ValueError, UnicodeDecodeError) as error:
        raise StageError(f"{path} is damaged: {error}", remedy=remedy) from error


def sha256(path: Path) -> str:
    """Hex digest of one file, or of a folder: its files' relative names and digests, in name order."""
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def replace_folder(target: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write a whole new folder beside `target`, then put it in `target`'s place."""
    with _room_for(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".part", dir=target.parent) as scratch:
            new, old = Path(scratch) / "new", Path(scratch) / "old"
            new.mkdir()
            fill(new)
            if target.exists():
                target.rename(old)
            new.rename(target)


@contextmanager
def _room_for(path: Path) -> Iterator[None]:
    """A full disk, as an error that says what has become of `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise RecloopError(f"{path}: the disk is full; what was there is as it was", remedy=ROOM_REMEDY) from error
