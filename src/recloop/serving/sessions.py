"""What each user did since the live model's data ends, and what they never want to see again.

The database is the truth; this is its recent end in memory, so that an acknowledged event changes the same
user's next answer. A model's package holds everybody's history up to its `feedback_watermark` (the `seq` of
the last event it knows); a user's history is that, and then the events with a higher `seq`.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from recloop.serving.events import DISMISS, Seen


@dataclass(slots=True)
class Session:
    """One user's."""

    events: deque[Seen]
    dismissed: set[str] = field(default_factory=set)
    """Items the user does not want to see, whenever that was said"""
    changes: int = 0
    """Grows whenever the two above change."""

    def add(self, event: Seen) -> None:
        """Take one more event; one that is here already changes nothing."""
        if event.event == DISMISS:
            if event.item_id not in self.dismissed:
                self.dismissed.add(event.item_id)
                self.changes += 1
            return
        if not self.events or event.seq > self.events[-1].seq:
            self.events.append(event)
        else:  # two writers crossed, or another reader was quicker
            if any(each.seq == event.seq for each in self.events):
                return
            in_order = sorted([*self.events, event], key=lambda each: each.seq)
            self.events.clear()
            self.events.extend(in_order)
        self.changes += 1


class Sessions:
    """Recent events of every user: at most the last `limit` of each. Safe to use from several threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._of: dict[str, Session] = {}
        self._forgotten: dict[str, int] = {}
        self._floor: int | None = None

    @property
    def floor(self) -> int | None:
        """Every stored event with a `seq` above this is in here; None: nothing was read yet."""
        return self._floor

    def add(self, seen: Iterable[Seen]) -> None:
        """Take events that were just stored, here or by another process."""
        with self._lock:
            for event in seen:
                self._add(self._of, event)

    def after(self, user_id: str, watermark: int) -> list[Seen]:
        """The user's events with a `seq` above `watermark`, oldest first."""
        with self._lock:
            session = self._of.get(user_id)
            return [event for event in session.events if event.seq > watermark] if session else []

    def dismissed(self, user_id: str) -> list[str]:
        """Items the user does not want to see."""
        session = self._of.get(user_id)
        return list(session.dismissed) if session else []

    def forgotten_at(self, user_id: str) -> int:
        """What the user did until then must not be used, whoever knows it; in µs since 1970, 0 for nearly everybody."""
        return self._forgotten.get(user_hash(user_id), 0) if self._forgotten else 0

    def changes(self, user_id: str | None) -> int:
        """Another number whenever the user's events are others; an answer made at one holds until the next."""
        session = self._of.get(user_id) if user_id is not None else None
        return 0 if session is None else session.changes

    def rebuild(self, stored: Iterable[Seen], floor: int) -> None:
        """Start again from the database's events above `floor`, and all dismissals; those that come in meanwhile are
        kept."""
        fresh: dict[str, Session] = {}
        last = floor
        for event in stored:
            self._add(fresh, event)
            last = max(last, event.seq)
        with self._lock:
            meanwhile = [event for session in self._of.values() for event in session.events if event.seq > last]
            for event in sorted(meanwhile, key=lambda event: event.seq):
                self._add(fresh, event)
            for user_id, session in self._of.items():
                kept = fresh.setdefault(user_id, Session(deque(maxlen=self._limit)))
                kept.dismissed |= session.dismissed
                kept.changes += session.changes + 1
            self._of, self._floor = fresh, floor

    def forget_until(self, seq: int) -> None:
        """Drop the events up to `seq`: no model that may still answer needs them."""
        for user_id in list(self._of):
            with self._lock:
                session = self._of[user_id]
                while session.events and session.events[0].seq <= seq:
                    session.events.popleft()
                if not session.events and not session.dismissed:
                    del self._of[user_id]
        self._floor = max(seq, self._floor or 0)

    def forget(self, who: str, at: int) -> None:
        """Drop all that one user did until `at`, in µs since 1970. Answers that were made before must not be used.

        Args:
            who: the user's `user_hash`.
        """
        with self._lock:
            self._forgotten[who] = at
            for user_id in [user_id for user_id in self._of if user_hash(user_id) == who]:
                del self._of[user_id]

    def _add(self, sessions: dict[str, Session], event: Seen) -> None:
        session = sessions.get(event.user_id)
        if session is None:
            session = sessions[event.user_id] = Session(deque(maxlen=self._limit))
        session.add(event)


def user_hash(user_id: str) -> str:
    """What is kept of a user who is to be forgotten, so that what others know of them is not used either."""
    return hashlib.sha256(user_id.encode()).hexdigest()
