"""Which version is live: watches `champion.json`, loads what it names beside what answers, exchanges the two.

A version that does not load is refused: the one before it goes on answering, the reason is logged and shown
by `/model`, and the version is tried again from time to time.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from recloop.errors import RecloopError
from recloop.serving.engine import Engine
from recloop.serving.parcel import check_package
from recloop.serving.pointer import POINTER, Pointer, read_pointer
from recloop.storage import now_us

logger = logging.getLogger("recloop.serving")

RETRY_SECONDS = 30.0


@dataclass(frozen=True)
class Served:
    """The version that answers. One reference to it is all a request holds."""

    pointer: Pointer
    engine: Engine

    @property
    def version(self) -> int:
        return self.pointer.version


@dataclass(frozen=True)
class Refusal:
    """A version that did not load. `at` is in microseconds since 1970 (UTC)."""

    version: int | None
    at: int
    error: str


class Live:
    """Follows the pointer in `folder`. Only `start`'s thread, or a caller of `check`, changes what is served.

    Args:
        folder: holds `champion.json` and one folder a version.
        before_swap: called with a new engine when it has loaded, before it answers.
        after_swap: called with what answered before, and what answers now.
        on_refused: called when a version was refused.
    """

    def __init__(
        self,
        folder: Path,
        *,
        before_swap: Callable[[Engine], None],
        after_swap: Callable[[Served | None, Served], None],
        on_refused: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._before_swap, self._after_swap, self._on_refused = before_swap, after_swap, on_refused
        self._clock = clock
        self._served: Served | None = None
        self._refusal: Refusal | None = None
        self._stamp: tuple[int, ...] | None = None
        self._retry_at = float("inf")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def served(self) -> Served | None:
        """What answers now; take it once a request. None: no champion yet."""
        return self._served

    @property
    def refusal(self) -> Refusal | None:
        """The version that should answer and does not; None when all is well."""
        return self._refusal

    def start(self, poll_seconds: float) -> None:
        """Look every `poll_seconds`, in a thread of its own, until `stop`."""

        def run() -> None:
            while not self._stop.wait(poll_seconds):
                self.check()

        self._thread = threading.Thread(target=run, name="live", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def check(self) -> bool:
        """Look once. Whether another version answers now."""
        stamp = self._look()
        if stamp is None or (stamp == self._stamp and self._clock() < self._retry_at):
            return False
        self._stamp, self._retry_at = stamp, float("inf")
        pointer: Pointer | None = None
        try:
            pointer = read_pointer(self._folder)
            return pointer is not None and self._follow(pointer)
        except Exception as error:  # whatever is wrong with a new version, the old one must go on answering
            self._refuse(pointer, error)
            return False

    def _look(self) -> tuple[int, ...] | None:
        try:
            stat = (self._folder / POINTER).stat()
        except OSError:  # not there yet; or gone, and then what answers goes on
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _follow(self, pointer: Pointer) -> bool:
        old = self._served
        if old is not None and old.pointer.identity == pointer.identity:
            self._served, self._refusal = replace(old, pointer=pointer), None
            return False
        engine = Engine.load(self._folder / pointer.folder)
        check_package(self._folder / pointer.folder, pointer.package_sha256)
        self._before_swap(engine)
        served = Served(pointer, engine)
        self._served, self._refusal = served, None
        logger.info("version %d is live (%s): %s", served.version, engine.info.model, pointer.reason)
        self._after_swap(old, served)
        del old
        # Python's collector would walk all that was imported again and again, and answers would wait for it.
        gc.collect()
        gc.freeze()
        return True

    def _refuse(self, pointer: Pointer | None, error: Exception) -> None:
        version = None if pointer is None else pointer.version
        known = isinstance(error, RecloopError)
        message = error.message if isinstance(error, RecloopError) else f"{type(error).__name__}: {error}"
        name = POINTER if version is None else f"version {version}"
        kept = "nothing" if self._served is None else f"version {self._served.version}"
        if self._refusal is None or self._refusal.error != message:
            logger.error(
                "%s is refused, %s goes on answering: %s",
                name,
                kept,
                error,
                exc_info=None if known else error,
            )
            self._on_refused()
        self._refusal = Refusal(version, now_us(), message)
        self._retry_at = self._clock() + RETRY_SECONDS
