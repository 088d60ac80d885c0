"""All that a server has started, and what it has started in turn: `python -m benchmarks.servers.family MARK`.

A family is known by a mark in its environment: Ray's daemons leave the process group, the session and their parent, and
keep it. `recloop.watchdog` does the same for what the project starts, but reads the environment through psutil, which
sees none where a process has written its title over the start of it, as Ray's agents do.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from recloop.watchdog import MARK, end


def family(mark: str) -> list[psutil.Process]:
    """The processes of this user that carry `mark`, without this one. Linux has their environments in /proc."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, psutil.Error):
            if int(place.name) != os.getpid() and wanted in (place / "environ").read_bytes().split(b"\0"):
                found.append(psutil.Process(int(place.name)))
    return found


def end_family(mark: str, seconds: float) -> None:
    """Ask them to end, and end those that have not after `seconds`; then what they have started meanwhile."""
    for _ in range(3):
        if left := family(mark):
            end(left, seconds)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end_family(sys.argv[1], 10.0)
