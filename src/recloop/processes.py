"""Programs that run together: started at once, watched, started again when they die, and stopped together.

A program that dies before all are ready stops the start: something is wrong that a person must mend. One that
dies later is started again, after a pause that doubles while it keeps dying. The others are left alone: the
endpoint goes on answering while the Prefect server is down. Each death is told, with the end of the log.
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
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from recloop.errors import PlatformError
from recloop.watchdog import MARK, SECONDS, end_marked

Say = Callable[[str], None]

POLL_SECONDS = 0.2
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a program that died is started again: the first time, and when it keeps dying."""
SETTLED_SECONDS = 120.0
"""A program that lived this long is not one that keeps dying."""
STOP_SECONDS = 35.0


@dataclass(frozen=True)
class Program:
    """A program that runs until it is stopped; or one that ends by itself, and is ready then."""

    name: str
    command: tuple[str, ...]
    answers: Callable[[], bool] | None
    """Whether it is ready for work: asked often, must not raise or take long. None: it ends by itself."""


@dataclass
class _Running:
    """A program and the process it runs in at present."""

    program: Program
    process: subprocess.Popen[bytes]
    started: float
    pause: float
    ready: bool = False
    again_at: float | None = None
    """When it is to be started again, if it has died."""


class Programs:
    """Runs programs in a folder. A context: leaving it stops them all, the last one started first.

    Args:
        folder: their working directory.
        logs: the folder of their logs, `<name>.log`, written anew by each `start`.
        environment: what they get beside our own environment.
        say: tells a person what happens.
        keep_open: file descriptors that stay open until the last program is gone, e.g. of a lock.
        first_pause: seconds before a program that died is started again for the first time.
        stop_seconds: how long a program has to stop (the endpoint: to answer what it has begun).
    """

    def __init__(
        self,
        folder: Path,
        logs: Path,
        environment: Mapping[str, str],
        *,
        say: Say = print,
        keep_open: tuple[int, ...] = (),
        first_pause: float = FIRST_PAUSE,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        self._folder = folder
        self._logs = logs
        self._environment = environment
        self._say = say
        self._keep_open = keep_open
        self._first_pause = first_pause
        self._stop_seconds = stop_seconds
        self._mark = uuid.uuid4().hex
        self._running: dict[str, _Running] = {}
        self._stopping = threading.Event()
        self._watch: threading.Thread | None = None

    def __enter__(self) -> Programs:
        _heed_interrupts()
        self._logs.mkdir(parents=True, exist_ok=True)
        self._watchdog = subprocess.Popen(
            [sys.executable, "-m", "recloop.watchdog", self._mark],
            stdin=subprocess.PIPE,
            start_new_session=True,
            pass_fds=self._keep_open,
        )
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self, program: Program) -> None:
        """Start a program; it need not be ready when this returns."""
        self._log(program.name).unlink(missing_ok=True)
        self._running[program.name] = _Running(program, self._launch(program), time.monotonic(), self._first_pause)

    def wait(self, *names: str, seconds: float) -> None:
        """Wait until these programs are ready; tell when each is, and each other one.

        Raises:
            PlatformError: a program died or failed, or is not ready in time.
        """
        begun = time.monotonic()
        while True:
            for running in self._running.values():
                self._look(running)
            waiting = [name for name in names if not self._running[name].ready]
            if not waiting:
                return
            if time.monotonic() - begun > seconds:
                raise self._failure(waiting[0], f"{waiting[0]} was not ready after {seconds:.0f} s")
            time.sleep(POLL_SECONDS)

    def said(self, name: str) -> list[str]:
        """The lines in a program's log."""
        return self._log(name).read_text(encoding="utf-8", errors="replace").splitlines()

    def watch(self) -> None:
        """From now on, start again what dies."""
        self._watch = threading.Thread(target=self._keep_alive, name="watch", daemon=True)
        self._watch.start()

    def stop(self) -> None:
        """Stop all, the last one started first, and leave nothing of what they started."""
        self._stopping.set()
        if self._watch is not None:
            self._watch.join()
        for name, running in reversed(self._running.items()):
            _ask_to_end(running.process, self._stop_seconds)
            end_marked(self._mark_of(name), min(SECONDS, self._stop_seconds))
        self._running.clear()
        assert self._watchdog.stdin is not None  # noqa: S101 (for the type checker)
        self._watchdog.stdin.close()
        self._watchdog.wait()

    def _look(self, running: _Running) -> None:
        """See whether a program is ready by now, and has not died."""
        name, answers, code = running.program.name, running.program.answers, running.process.poll()
        if code is not None and not (answers is None and code == 0):
            raise self._failure(name, f"{name} ended {_how(code)}")
        if not running.ready and (code == 0 if answers is None else answers()):
            running.ready = True
            self._say(f"{name:<10} ready after {time.monotonic() - running.started:5.1f} s")

    def _keep_alive(self) -> None:
        lasting = [running for running in self._running.values() if running.program.answers is not None]
        while not self._stopping.wait(POLL_SECONDS):
            now = time.monotonic()
            for running in lasting:
                if running.again_at is None and running.process.poll() is not None:
                    self._mourn(running, now)
                elif running.again_at is not None and now >= running.again_at:
                    running.process, running.started = self._launch(running.program), now
                    running.again_at = None

    def _mourn(self, running: _Running, now: float) -> None:
        """Tell that a program died, end what it has left behind, and settle when it is started again."""
        name = running.program.name
        if now - running.started > SETTLED_SECONDS:
            running.pause = self._first_pause
        self._say(
            f"{name} ended {_how(running.process.returncode)}; it is started again in {running.pause:.0f} s. "
            f"{self._log(name)} ends:\n{_tail(self._log(name))}"
        )
        end_marked(self._mark_of(name))  # it would keep the port
        running.again_at = now + running.pause
        running.pause = min(2 * running.pause, LONGEST_PAUSE)

    def _launch(self, program: Program) -> subprocess.Popen[bytes]:
        with self._log(program.name).open("ab") as log:
            return subprocess.Popen(
                program.command,
                cwd=self._folder,
                env=self._environment_of(program.name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us: we stop them in order
            )

    def _environment_of(self, name: str) -> dict[str, str]:
        return {**os.environ, **self._environment, MARK: self._mark_of(name), "PYTHONUNBUFFERED": "1"}

    def _mark_of(self, name: str) -> str:
        return f"{self._mark}/{name}/"

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _failure(self, name: str, what: str) -> PlatformError:
        log = self._log(name)
        return PlatformError(f"{what}; {log} ends:\n{_tail(log)}", remedy="mend it, and start again")


def answers(url: str) -> bool:
    """Whether `url` answers with 200."""
    try:
        with urlopen(url, timeout=2) as answer:  # noqa: S310 (ours, and http)
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def _heed_interrupts() -> None:
    """Take SIGINT again where it is ignored, as in a script's background job.

    Our children would ignore it too, and Prefect's workers send it to themselves in order to stop.
    """
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _ask_to_end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Ask a program and what is in its process group to end, and give it time."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _how(code: int) -> str:
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"


def _tail(log: Path, lines: int = 8) -> str:
    """The last lines of a log that are not empty, indented."""
    said = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in said[-lines:]) or "    (it said nothing)"
