"""A wall clock that is ahead, or behind, by what a file says; monotonic clocks go on as they are.

Python imports this at its start, before anything else, wherever this folder is on PYTHONPATH. `tests/clock.py` puts it
there, and writes the file.
"""

import os
import time
from pathlib import Path

_true_ns = time.time_ns
_AHEAD = Path(os.environ["RECLOOP_TEST_CLOCK"])
"""Holds the nanoseconds"""


def _turned_ns() -> int:
    return _true_ns() + int(_AHEAD.read_bytes())


time.time_ns = _turned_ns
time.time = lambda: _turned_ns() / 1e9
