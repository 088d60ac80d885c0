"""Nothing that we start outlives us, not even when we are killed: `python -m recloop.watchdog MARK`.

What a supervisor starts carries a mark in its environment, and so does all that this starts in turn, in
whichever process group or session (BentoML's workers and DVC's stages have their own). The watchdog reads its
standard input, a pipe that the supervisor holds open. When that ends, the supervisor has ended, in whatever
way, and the watchdog ends whatever still carries the mark.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress

import psutil  # type: ignore[import-untyped]

MARK = "RECLOOP_MARK"
"""The environment variable that holds the mark."""
SECONDS = 8.0
"""How long a process has to end when it is asked to."""


def marked(mark: str) -> list[psutil.Process]:
    """The processes of this user whose mark is, or begins with, `mark`; without this one."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK, "").startswith(mark):
                found.append(process)
    return found


def end(processes: Iterable[psutil.Process], seconds: float = SECONDS) -> None:
    """Ask processes to end, and after `seconds` end those that have not."""
    asked = list(processes)
    for process in asked:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(asked, timeout=seconds)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=seconds)


def end_marked(mark: str, seconds: float = SECONDS) -> None:
    """End all that carries `mark`, and what those start while they end."""
    for _ in range(3):
        if left := marked(mark):
            end(left, seconds)


def end_descendants(seconds: float = SECONDS) -> None:
    """End all that this process has started, and what those have started."""
    end(psutil.Process().children(recursive=True), seconds)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end_marked(sys.argv[1])
