"""What each user did since the live model's data ends.

The database is the truth; this is its recent end in memory, so that an acknowledged event changes the same
user's next answer. A model's package holds everybody's history up to its `feedback_watermark` (the `seq` of
the last event it knows); a user's history is that, and then the events with a higher `seq`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

from recloop.serving.events import Seen


class Sessions:
    """Recent events of every user: at most the last `limit` of each. Safe to use from several threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._recent: dict[str, deque[Seen]] = {}
        self._floor: int | None = None

    @property
    def floor(self) -> int | None:
        """Every stored event with a `seq` above this is in here; None: nothing was read yet."""
        return self._floor

    def add(self, seen: Iterable[Seen]) -> None:
        """Append events that were just stored."""
        with self._lock:
            for event in seen:
                self._append(self._recent, event)

    def after(self, user_id: str, watermark: int) -> list[Seen]:
        """The user's events with a `seq` above `watermark`, oldest first."""
        with self._lock:
            recent = self._recent.get(user_id)
            return [event for event in recent if event.seq > watermark] if recent else []

    def rebuild(self, stored: Iterable[Seen], floor: int) -> None:
        """Start again from the database's events above `floor`; those that come in meanwhile are kept."""
        fresh: dict[str, deque[Seen]] = {}
        last = floor
        for event in stored:
            self._append(fresh, event)
            last = max(last, event.seq)
        with self._lock:
            meanwhile = [event for recent in self._recent.values() for event in recent if event.seq > last]
            for event in sorted(meanwhile, key=lambda event: event.seq):
                self._append(fresh, event)
            self._recent, self._floor = fresh, floor

    def forget_until(self, seq: int) -> None:
        """Drop the events up to `seq`: no model that may still answer needs them."""
        for user_id in list(self._recent):
            with self._lock:
                recent = self._recent[user_id]
                while recent and recent[0].seq <= seq:
                    recent.popleft()
                if not recent:
                    del self._recent[user_id]
        self._floor = max(seq, self._floor or 0)

    def _append(self, recent: dict[str, deque[Seen]], event: Seen) -> None:
        events = recent.setdefault(event.user_id, deque(maxlen=self._limit))
        if events and event.seq <= events[-1].seq:  # two writers crossed, or a rebuild has read it already
            in_order = sorted({*events, event}, key=lambda each: each.seq)
            events.clear()
            events.extend(in_order)
        else:
            events.append(event)
