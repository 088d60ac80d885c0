"""Archives from elsewhere: fetched once, verified, and kept in a cache for all projects of this user."""

from __future__ import annotations

import http.client
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recloop.errors import SourceError
from recloop.files import replacing, sha256

CONNECT_SECONDS = 4.0
"""To reach a host, and for it to go on after a pause: without the internet, the next road is tried soon."""
DOWNLOAD_SECONDS = 300.0
CHUNK = 1 << 16


class UnreachableError(SourceError):
    """An archive cannot be fetched from where it lies; it may be had from elsewhere."""


@dataclass(frozen=True)
class Archive:
    """A file that never changes, and how to get it."""

    name: str
    """Its name in the cache."""
    origin: str
    """Where it comes from, in words."""
    sha256: str
    fetch: Callable[[Path], None]
    """Writes the file at a path. Raises UnreachableError where it cannot be had."""


def cache_folder() -> Path:
    """`$RECLOOP_CACHE`, else `~/.cache/recloop`."""
    return Path(os.environ.get("RECLOOP_CACHE") or Path.home() / ".cache" / "recloop").expanduser()


def first_reachable(archives: Sequence[Archive], cache: Path) -> tuple[Archive, Path]:
    """The first archive that is in the cache, else the first that can be fetched; and where it lies now.

    Raises:
        SourceError: none can be fetched, or a fetched one is not what it should be.
    """
    for archive in archives:
        path = cache / archive.name
        if path.is_file():
            if sha256(path) == archive.sha256:
                return archive, path
            _say(f"{path} is damaged; it is fetched again")
            path.unlink()
    failures = []
    for archive in archives:
        try:
            return archive, _fetch(archive, cache / archive.name)
        except UnreachableError as failure:
            failures.append(failure.message)
    raise SourceError(
        "the data cannot be fetched: " + "; ".join(failures),
        remedy=f"connect to the internet, or put {archives[0].name} into {cache} yourself",
    )


def _fetch(archive: Archive, path: Path) -> Path:
    _say(f"fetching {archive.name} from {archive.origin}")
    with replacing(path) as part:
        archive.fetch(part)
        found = sha256(part)
        if found != archive.sha256:
            raise SourceError(
                f"{archive.name} from {archive.origin} has the wrong checksum (SHA-256):\n"
                f"  expected {archive.sha256}\n  found    {found}",
                remedy="something between here and there changed the file (a proxy, a login page?): "
                "run it again, or from another network",
            )
    return path


def over_http(url: str) -> Callable[[Path], None]:
    """Fetch from a URL, with no second try."""

    def fetch(path: Path) -> None:
        give_up = time.monotonic() + DOWNLOAD_SECONDS
        try:
            with urllib.request.urlopen(url, timeout=CONNECT_SECONDS) as answer, path.open("wb") as file:  # noqa: S310 (URLs are constants)
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
                    if time.monotonic() > give_up:
                        raise UnreachableError(f"{url}: not done after {DOWNLOAD_SECONDS:.0f} s")
                if answer.length:
                    raise UnreachableError(f"{url}: broke off, {answer.length:,} bytes before the end")
        except urllib.error.URLError as error:
            raise UnreachableError(f"{url}: {error.reason}") from error
        except (TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException) as error:
            raise UnreachableError(f"{url}: {error or 'no answer'}") from error

    return fetch


def as_wheel(requirement: str) -> Callable[[Path], None]:
    """Fetch the wheel of a package from whatever index pip is set to; nothing of it is installed or run."""

    def fetch(path: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="recloop-wheel-") as folder:
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                requirement,
                "--no-deps",
                "--only-binary=:all:",
            ]
            command += ["--quiet", "--retries=1", "--disable-pip-version-check", f"--dest={folder}"]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS)
            except subprocess.TimeoutExpired as error:
                raise UnreachableError(f"pip download {requirement}: not done after {error.timeout:.0f} s") from error
            wheels = list(Path(folder).glob("*.whl"))
            if done.returncode or len(wheels) != 1:
                said = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or [done.stderr]
                raise UnreachableError(f"pip download {requirement}: {said[-1].removeprefix('ERROR: ').strip()}")
            shutil.copyfile(wheels[0], path)

    return fetch


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
