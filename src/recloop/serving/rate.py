"""How many requests a key may send: a token bucket for each, as a single number.

A bucket is kept as the moment from which on it is full again (the generic cell rate algorithm, ITU-T I.371): nothing
has to be poured in as time passes, and whole nanoseconds add up without error.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

NS = 1_000_000_000
ROOM = 1024
"""So many buckets are kept before any is looked at for being full again."""


class RateLimit:
    """A bucket of `burst` tokens for every key, each filled with `per_second` tokens. For one thread.

    Args:
        clock: nanoseconds that never go back.
    """

    def __init__(self, per_second: float, burst: int, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._token = math.ceil(NS / per_second)
        self._burst = burst
        self._clock = clock
        self._full_at: dict[str, int] = {}
        self._room = ROOM

    def take(self, key_id: str, cost: int = 1, *, paid: int = 0) -> float:
        """Take `cost` tokens: 0.0, or the seconds until there will be so many, and then none is taken.

        What costs more than a bucket holds is let through when it is full, and those that come after it wait the
        longer.

        Args:
            paid: what the same request has taken already, before it was known what it costs; the bucket is looked at
                as it was before that.
        """
        now = self._clock()
        full_at = self._full_at.get(key_id, 0)
        if full_at <= now:
            # Full, or new. Only here can a bucket be added.
            if len(self._full_at) >= self._room:
                self._drop_full(now)
            self._full_at[key_id] = now + cost * self._token
            return 0.0
        missing = min(cost + paid, self._burst)
        wait = full_at - now - (self._burst - missing) * self._token
        if wait > paid * self._token:
            return wait / NS
        self._full_at[key_id] = full_at + cost * self._token
        return 0.0

    def _drop_full(self, now: int) -> None:
        """Forget buckets that are full again: a new one is full too. Seldom, as the room left doubles what stays."""
        self._full_at = {key_id: full_at for key_id, full_at in self._full_at.items() if full_at > now}
        self._room = max(ROOM, 2 * len(self._full_at))
