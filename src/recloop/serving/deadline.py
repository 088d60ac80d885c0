"""Until when a request is to be answered. One timer looks after all of them.

`asyncio.timeout` sets one for each: 5 µs, where a list that was made before is sent in a hundred. Almost every request
has gone long before its deadline, and is put into a set and taken out of it again for a tenth of that.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

EVERY_SECONDS = 0.25
"""How often it is looked who is late"""


class LateError(Exception):
    """A deadline has passed."""


class Deadlines:
    """Those of the requests under way. Of one event loop."""

    def __init__(self) -> None:
        self.running: set[Deadline] = set()
        self._looking = False

    def until(self, moment: float) -> Deadline:
        """Around what is to be done by `moment` (of `time.perf_counter`); a `LateError` comes out of it otherwise."""
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_later(EVERY_SECONDS, self._look)
        return Deadline(self, moment)

    def _look(self) -> None:
        now = time.perf_counter()
        for deadline in self.running:
            if deadline.moment < now:
                deadline.pass_()
        self._looking = bool(self.running)
        if self._looking:
            asyncio.get_running_loop().call_later(EVERY_SECONDS, self._look)


class Deadline:
    """One of them; `moment` may be moved."""

    __slots__ = ("_all", "_before", "_passed", "_task", "moment")

    def __init__(self, deadlines: Deadlines, moment: float) -> None:
        self._all, self.moment, self._passed = deadlines, moment, False

    def __enter__(self) -> Deadline:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 – requests are tasks
        self._task, self._before = task, task.cancelling()
        self._all.running.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._all.running.discard(self)
        if self._passed and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise LateError from error

    def pass_(self) -> None:
        """Interrupt what is not done."""
        if not self._passed:
            self._passed = True
            self._task.cancel()
