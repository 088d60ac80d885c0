"""The wall clock of an endpoint that runs, to turn. The machine's own stays as it is, and monotonic clocks go on.

All that the endpoint reads of it is `time.time_ns` (`storage.now_us`); what it is built on reads `time.time` as well.
Both are replaced in its processes from their first moment on.
"""

from __future__ import annotations

import os
from pathlib import Path

from recloop.files import replacing
from recloop.storage import now_us

DAY_US = 86_400_000_000


class WallClock:
    """Of every process that is started with its `environment`.

    Args:
        file: where they look how far it is turned.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        path = [str(Path(__file__).parent / "turned"), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = {"PYTHONPATH": os.pathsep.join(path), "RECLOOP_TEST_CLOCK": str(file)}
        self.turn(0)

    def turn(self, days: int) -> None:
        """Be so many days ahead of the true time from now on."""
        with replacing(self._file) as part:  # somebody looks at this very moment
            part.write_text(str(days * DAY_US * 1000))


def days_ahead(at_us: int) -> int:
    """By how many days, a few hours more or less, a clock was ahead that showed this just now."""
    return round((at_us - now_us()) / DAY_US)
