"""Programs that run together: started at once, watched, started again when they die, and stopped together.

A program that dies before all are ready stops the start: something is wrong that a person must mend. One that dies
later is started again, after a pause that doubles while it keeps dying, and the others are left alone: the endpoint
goes on answering while the Prefect server is down. Each death is told, with the end of the program's log.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from recloop.errors import PlatformError
from recloop.watchdog import MARK, end_marked

Say = Callable[[str], None]

POLL_SECONDS = 0.2
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a program that died is started again."""
SETTLED_SECONDS = 120.0
"""A program that lived this long is not one that keeps dying."""


@dataclass(frozen=True)
class Program:
    """A program that runs until it is stopped."""

    name: str
    command: tuple[str, ...]
    answers: Callable[[], bool]
    """Whether it is ready for work. Asked again and again; must not raise or take long."""


@dataclass
class _Running:
    """A program and the process it runs in at present."""

    program: Program
    process: subprocess.Popen[bytes]
    started: float
    pause: float = FIRST_PAUSE
    again_at: float | None = None
    """When it is started again, if it has died."""


@dataclass
class Programs:
    """Runs programs in a folder. A context: leaving it stops them all, the last one started first.

    Args:
        folder: their working directory.
        logs: the folder of their logs, `<name>.log`, written anew each time.
        environment: what they get beside our own environment.
        say: tells a person what happens.
        keep_open: file descriptors that stay open until the last of them is gone, e.g. of a lock.
    """

    folder: Path
    logs: Path
    environment: Mapping[str, str]
    say: Say = print
    keep_open: tuple[int, ...] = ()
    grace: float = 10.0
    """Seconds a program has to stop when it is asked to."""
    _mark: str = field(default_factory=lambda: uuid.uuid4().hex, init=False)
    _running: dict[str, _Running] = field(default_factory=dict, init=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False)
    _stopping: threading.Event = field(default_factory=threading.Event, init=False)
    _watch: threading.Thread | None = field(default=None, init=False)

    def __enter__(self) -> Programs:
        self.logs.mkdir(parents=True, exist_ok=True)
        self._watchdog = subprocess.Popen(
            [sys.executable, "-m", "recloop.watchdog", self._mark],
            stdin=subprocess.PIPE,
            start_new_session=True,
            pass_fds=self.keep_open,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, program: Program) -> None:
        """Start a program; it need not be ready when this returns."""
        (self.logs / f"{program.name}.log").unlink(missing_ok=True)
        with self._lock:
            self._running[program.name] = _Running(program, self._launch(program), time.monotonic())

    def wait(self, *names: str, seconds: float) -> None:
        """Wait until programs are ready, and tell when each is.

        Raises:
            PlatformError: one died, or is not ready in time.
        """
        begun = time.monotonic()
        waiting = list(names)
        while waiting:
            for name in list(waiting):
                running = self._running[name]
                if running.process.poll() is not None:
                    raise self._failure(running, f"{name} ended {_how(running.process)} before it was ready")
                if running.program.answers():
                    waiting.remove(name)
                    self.say(f"{name:<10} ready after {time.monotonic() - running.started:4.1f} s")
            if waiting and time.monotonic() - begun > seconds:
                raise self._failure(
                    self._running[waiting[0]], f"{waiting[0]} was not ready in {seconds:.0f} s"
                )
            if waiting:
                time.sleep(POLL_SECONDS)

    def run(self, name: str, command: tuple[str, ...]) -> None:
        """Run a program to its end, with its log beside the others'.

        Raises:
            PlatformError: it failed.
        """
        begun = time.monotonic()
        log = self.logs / f"{name}.log"
        with log.open("wb") as file:
            done = subprocess.run(
                command, cwd=self.folder, env=self._environment(), stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
        if done.returncode != 0:
            raise PlatformError(
                f"{name} failed; {log} ends:\n{_tail(log)}", remedy=f"mend it; all is in {log}"
            )
        self.say(f"{name:<10} done after {time.monotonic() - begun:5.1f} s")

    def watch(self) -> None:
        """From now on, start again what dies."""
        self._watch = threading.Thread(target=self._keep_alive, name="watch", daemon=True)
        self._watch.start()

    def stop(self) -> None:
        """Stop all, the last one started first, and leave nothing of what they started."""
        self._stopping.set()
        if self._watch is not None:
            self._watch.join()
        for running in reversed(self._running.values()):
            _stop(running.process, self.grace)
        self._running.clear()
        end_marked(self._mark)
        assert self._watchdog.stdin is not None  # noqa: S101 (for the type checker)
        self._watchdog.stdin.close()
        self._watchdog.wait()

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment, MARK: self._mark, "PYTHONUNBUFFERED": "1"}

    def _launch(self, program: Program) -> subprocess.Popen[bytes]:
        with (self.logs / f"{program.name}.log").open("ab") as log:
            return subprocess.Popen(
                program.command,
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us: we stop them in order
            )

    def _keep_alive(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            now = time.monotonic()
            for running in self._running.values():
                if running.again_at is not None:
                    if now >= running.again_at:
                        running.process, running.started, running.again_at = (
                            self._launch(running.program),
                            now,
                            None,
                        )
                elif running.process.poll() is not None:
                    self._mourn(running, now)

    def _mourn(self, running: _Running, now: float) -> None:
        """Tell that a program died, and when it is started again."""
        if now - running.started > SETTLED_SECONDS:
            running.pause = FIRST_PAUSE
        name = running.program.name
        self.say(
            f"{name} ended {_how(running.process)}; it is started again in {running.pause:.0f} s. "
            f"{self.logs / name}.log ends:\n{_tail(self.logs / f'{name}.log')}"
        )
        running.again_at = now + running.pause
        running.pause = min(2 * running.pause, LONGEST_PAUSE)

    def _failure(self, running: _Running, what: str) -> PlatformError:
        log = self.logs / f"{running.program.name}.log"
        return PlatformError(f"{what}; {log} ends:\n{_tail(log)}", remedy=f"mend it; all is in {log}")


def _stop(process: subprocess.Popen[bytes], grace: float) -> None:
    """Ask a program and its process group to end; make it, if it does not."""
    for sign, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, grace)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return


def _how(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    return f"by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"with exit code {code}"


def _tail(log: Path, lines: int = 8) -> str:
    """The last lines of a log that are not empty, indented."""
    said = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in said[-lines:]) or "    (it said nothing)"
