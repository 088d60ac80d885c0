"""Which version is live: watches a pointer, loads what it names beside what answers, exchanges the two.

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
from recloop.serving.pointer import POINTERS, Pointer, Role, read_pointer
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
    remedy: str | None


class Live:
    """Follows a pointer. Only a caller of `check` or `unload`, one at a time, changes what is served.

    Args:
        folder: holds the pointer and one folder a version.
        role: what the version is that the pointer names.
        before_swap: called with a new engine when it has loaded, before it answers.
        after_swap: called with what answered before, and what answers now.
        on_refused: called when a version was refused.
    """

    def __init__(
        self,
        folder: Path,
        role: Role = "champion",
        *,
        before_swap: Callable[[Engine], None],
        after_swap: Callable[[Served | None, Served], None],
        on_refused: Callable[[Refusal], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._role, self._pointer = folder, role, POINTERS[role]
        self._before_swap, self._after_swap, self._on_refused = before_swap, after_swap, on_refused
        self._clock = clock
        self._served: Served | None = None
        self._refusal: Refusal | None = None
        self._stamp: tuple[int, ...] | None = None
        self._retry_at = float("inf")
        self._looking = threading.Lock()

    @property
    def served(self) -> Served | None:
        """What answers now; take it once a request. None: no champion yet."""
        return self._served

    @property
    def refusal(self) -> Refusal | None:
        """The version that should answer and does not; None when all is well."""
        return self._refusal

    def check(self, *, again: bool = False) -> bool:
        """Look once. Whether another version answers now.

        Args:
            again: try a version that was refused at once, and not when its time has come.
        """
        with self._looking:
            if again and self._refusal is not None:
                self._retry_at = self._clock()
            return self._check()

    def unload(self) -> None:
        """Serve nothing, until the next `check`."""
        with self._looking:
            self._served = self._refusal = self._stamp = None

    def _check(self) -> bool:
        stamp = self._look()
        if stamp is None or (stamp == self._stamp and self._clock() < self._retry_at):
            return False
        self._stamp, self._retry_at = stamp, float("inf")
        pointer: Pointer | None = None
        try:
            pointer = read_pointer(self._folder, self._pointer)
            return pointer is not None and self._follow(pointer)
        except Exception as error:  # whatever is wrong with a new version, the old one must go on answering
            self._refuse(pointer, error)
            return False

    def _look(self) -> tuple[int, ...] | None:
        try:
            stat = (self._folder / self._pointer).stat()
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
        now = "live" if self._role == "champion" else "the challenger"
        logger.info("version %d is %s (%s): %s", served.version, now, engine.info.model, pointer.reason)
        self._after_swap(old, served)
        # Python's collector would walk all that was imported, and every catalogue, again and again, and answers would
        # wait for it. An engine has no cycles: the old one's memory is free when the last request lets go of it.
        if old is None:
            gc.collect()
        gc.freeze()
        return True

    def _refuse(self, pointer: Pointer | None, error: Exception) -> None:
        version = None if pointer is None else pointer.version
        known = isinstance(error, RecloopError)
        message = error.message if isinstance(error, RecloopError) else f"{type(error).__name__}: {error}"
        name = self._pointer if version is None else f"version {version}"
        refusal = Refusal(version, now_us(), message, error.remedy if isinstance(error, RecloopError) else None)
        if self._refusal is None or self._refusal.error != message:
            logger.error("%s is refused%s: %s", name, self._instead(), error, exc_info=None if known else error)
            self._on_refused(refusal)
        self._refusal = refusal
        self._retry_at = self._clock() + RETRY_SECONDS

    def _instead(self) -> str:
        """Who answers while a version is refused."""
        if self._role == "challenger":
            return " as challenger, the champion goes on answering"
        return ", nothing answers" if self._served is None else f", version {self._served.version} goes on answering"
