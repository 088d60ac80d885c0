"""What waits for a disk, beside the event loop: in a thread, and no more of it at once than there are places for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from recloop.errors import OverloadError

R = TypeVar("R")


async def aside(do: Callable[[], R]) -> R:
    """`do`, in a thread of its own.

    A process that ends waits for the threads of a pool, and so for a database that has stalled; not for these.
    """
    future: Future[R] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(do())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="aside", daemon=True).start()
    return await asyncio.wrap_future(future)


class Places:
    """For so many requests that wait for the database. Of one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0

    async def held(self, answering: Coroutine[Any, Any, R]) -> R:
        """`answering`, which keeps its place until it is done, though nobody waits for it any more: a database that
        has stalled is asked no more than so many things.

        Raises:
            OverloadError: there is no place.
        """
        if self._taken >= self._most:
            answering.close()
            raise OverloadError(f"{self._most} requests wait for the database already", remedy="try again in a moment")
        self._taken += 1

        def done(task: asyncio.Task[R]) -> None:
            self._taken -= 1
            if not task.cancelled():
                task.exception()  # it is told where it is waited for, and asked for here: else Python logs it

        task = asyncio.create_task(answering)
        task.add_done_callback(done)
        return await asyncio.shield(task)
