"""What other processes do, found out beside the answers: events they took, who is to be live, how traffic is split.

Every worker of every endpoint on one database follows what the others store, so that an event that one took changes
the answers of all within a second. The database is asked for rows beyond the last one seen, which costs a fraction of a
millisecond when there is none. While it does not answer, everything goes on as it was. What was refused is written from
here, too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from recloop.errors import RecloopError

logger = logging.getLogger("recloop.serving")


class Following:
    """A thread that looks, again and again, until it is stopped.

    Args:
        look: what it does each time.
        seconds: how often.
        on_failure: called when `look` raised; that is logged once, and tried again.
        at_last: whether it does it once more when it is stopped.
    """

    def __init__(
        self, look: Callable[[], object], seconds: float, on_failure: Callable[[], None], *, at_last: bool = False
    ) -> None:
        self._look, self._seconds, self._on_failure, self._at_last = look, seconds, on_failure, at_last
        self._stop = threading.Event()
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._run, name="following", daemon=True)

    def start(self) -> None:
        """Look from now on."""
        self._thread.start()

    def stop(self, timeout: float = 2.0) -> None:
        """Look no more. A look that takes longer, since the database has stalled, is not waited for."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self._try()
        if self._at_last:
            self._try()

    def _try(self) -> None:
        try:
            self._look()
        except Exception as error:  # whatever it is, answers go on
            known = isinstance(error, RecloopError)
            trouble = error.message if isinstance(error, RecloopError) else f"{type(error).__name__}: {error}"
            if self._trouble is None:
                logger.error("beside the answers this fails for now: %s", trouble, exc_info=None if known else error)
            self._trouble = trouble
            self._on_failure()
        else:
            if self._trouble is not None:
                logger.warning("what failed beside the answers is done again")
            self._trouble = None
