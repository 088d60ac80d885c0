"""One deadline for a request, one timer for all."""

from __future__ import annotations

import asyncio
import time

import pytest

from recloop.serving import deadline
from recloop.serving.deadline import Deadlines, LateError


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "EVERY_SECONDS", 0.01)


def soon() -> float:
    return time.perf_counter() + 0.05


def test_what_is_late_is_interrupted_and_what_is_not_is_left_alone() -> None:
    async def check() -> None:
        deadlines, ended = Deadlines(), []

        async def request(seconds: float) -> str:
            with deadlines.until(soon()):
                try:
                    await asyncio.sleep(seconds)
                finally:
                    ended.append(seconds)
                return "answered"

        done = await asyncio.gather(request(0), request(30), request(0.01), return_exceptions=True)
        assert [type(each) for each in done] == [str, LateError, str]
        assert ended == [0, 0.01, 30]
        assert deadlines.running == set()

    asyncio.run(check())


def test_a_deadline_can_be_moved() -> None:
    async def check() -> None:
        with Deadlines().until(soon()) as own:
            own.moment += 30
            await asyncio.sleep(0.1)

    asyncio.run(check())


def test_who_was_late_goes_on_undisturbed() -> None:
    async def check() -> None:
        with pytest.raises(LateError), Deadlines().until(soon()):
            await asyncio.sleep(30)
        await asyncio.sleep(0.05)

    asyncio.run(check())


def test_another_interruption_is_not_taken_for_ones_own() -> None:
    async def check() -> None:
        async def request() -> None:
            with Deadlines().until(soon() + 30):
                await asyncio.sleep(30)

        task = asyncio.create_task(request())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(check())


def test_nobody_is_looked_after_when_nobody_is_there() -> None:
    async def check() -> None:
        deadlines = Deadlines()
        for _ in range(2):
            with deadlines.until(soon()):
                assert deadlines._looking
            await asyncio.sleep(0.05)
            assert not deadlines._looking

    asyncio.run(check())
