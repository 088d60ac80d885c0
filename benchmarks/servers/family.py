"""All that a server has started, and what it has started in turn: `python -m benchmarks.servers.family MARK`.

As a program it waits for the end of its standard input, and then ends the family: should we be killed, nothing of it
is left running.
"""

from __future__ import annotations

import sys
from contextlib import suppress

import psutil  # type: ignore[import-untyped]

from recloop.watchdog import end, marked


def family(mark: str) -> list[psutil.Process]:
    """The processes whose environment carries `mark`, and their descendants.

    Ray's daemons leave the process group and the session and keep the mark, but for its agents, which write their title
    over it; those have a parent that has it.
    """
    found = set(marked(mark))
    for each in list(found):
        with suppress(psutil.Error):
            found.update(each.children(recursive=True))
    return list(found)


def end_family(mark: str, seconds: float) -> None:
    """Ask them to end, and end those that have not after `seconds`; then what they have started meanwhile."""
    for _ in range(3):
        if left := family(mark):
            end(left, seconds)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end_family(sys.argv[1], 10.0)
