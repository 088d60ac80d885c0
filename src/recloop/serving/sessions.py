"""What each user did since the live model's data ends, and what they never want to see again.

The database is the truth; this is its recent end in memory, so that an acknowledged event changes the same
user's next answer. A model's package holds everybody's history up to its `feedback_watermark` (the `seq` of
the last event it knows); a user's history is that, and then the events with a higher `seq`.
"""

from __future__ import annotations

import itertools
import sys
import threading
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from recloop.serving.events import DISMISS, Seen
from recloop.serving.tables import user_hash


class Codes(Protocol):
    """Who has a number for an item."""

    def code(self, item_id: str) -> int | None:
        """None: it does not know the item."""
        ...


class Passed(dict[str, int]):
    """Items of events that are not kept any more → the `seq` of the newest; with the codes that were asked for last, so
    that the list of who has done thousands of things costs no more than another."""

    __slots__ = ("_codes", "_whose")

    def __init__(self, items: Iterable[tuple[str, int]] = ()) -> None:
        super().__init__(items)
        self._whose: weakref.ref[Codes] | None = None
        self._codes = np.zeros(0, np.int64)

    def codes(self, whose: Codes) -> np.ndarray:
        """int64: the codes of those that it knows."""
        if self._whose is None or self._whose() is not whose:
            self._whose, self._codes = weakref.ref(whose), np.zeros(0, np.int64)
        fresh = [whose.code(item_id) for item_id in itertools.islice(self, len(self._codes), None)]
        if fresh:
            self._codes = np.append(self._codes, [-1 if code is None else code for code in fresh])
        return self._codes[self._codes >= 0]


@dataclass(slots=True)
class Session:
    """One user's. There are as many as users who came lately, so it is kept small."""

    user_id: str
    events: list[Seen] = field(default_factory=list)
    """The last ones, in order of `seq`"""
    passed: Passed | None = None
    dismissed: dict[str, int] | None = None
    """Items the user does not want to see, whenever that was said → the `seq` of that"""
    changes: int = 0
    """Another number whenever something of it changes"""

    def add(self, event: Seen, limit: int) -> bool:
        """Take one more event. Whether that changed anything: one that is here already does not."""
        if event.event == DISMISS:
            self.dismissed = self.dismissed or {}
            new = event.item_id not in self.dismissed
            self.dismissed.setdefault(event.item_id, event.seq)
            return new
        if not self.events or event.seq > self.events[-1].seq:
            self.events.append(event)
        else:  # two writers crossed, or another reader was quicker
            later = sum(1 for _ in itertools.takewhile(lambda each: each.seq > event.seq, reversed(self.events)))
            place = len(self.events) - later
            if place and self.events[place - 1].seq == event.seq:
                return False
            self.events.insert(place, event)
        if len(self.events) > limit:
            oldest = self.events.pop(0)
            self.passed = self.passed or Passed()
            self.passed[oldest.item_id] = oldest.seq
        return True

    def drop_events(self, until: int) -> None:
        """Drop the events up to a `seq`."""
        self.events = [event for event in self.events if event.seq > until]
        passed = _later(self.passed, until)
        self.passed = Passed(passed.items()) if passed else None

    def drop(self, until: int) -> None:
        """Drop all that was said up to a `seq`."""
        self.drop_events(until)
        self.dismissed = _later(self.dismissed, until)

    @property
    def is_empty(self) -> bool:
        return not self.events and not self.dismissed


def _later(items: dict[str, int] | None, until: int) -> dict[str, int] | None:
    return {item_id: seq for item_id, seq in items.items() if seq > until} or None if items else None


class Sessions:
    """Recent events of every user: at most the last `limit` of each. Safe to use from several threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._of: dict[str, Session] = {}
        self._forgotten: dict[str, tuple[int, int]] = {}
        """`user_hash` → when, and the `seq` of the last event that was deleted"""
        self._floor: int | None = None
        self._changes = itertools.count(1)  # one for all: a session that goes and comes again has no number twice

    @property
    def floor(self) -> int | None:
        """Every stored event with a `seq` above this is in here; None: nothing was read yet."""
        return self._floor

    def add(self, stored: Iterable[Seen]) -> None:
        """Take events that were just stored, here or by another process."""
        with self._lock:
            for event in stored:
                self._add(self._of, event)

    def after(self, user_id: str, watermark: int) -> list[Seen]:
        """The user's last events with a `seq` above `watermark`, oldest first."""
        with self._lock:
            session = self._of.get(user_id)
            return [event for event in session.events if event.seq > watermark] if session else []

    def passed(self, user_id: str, whose: Codes) -> np.ndarray:
        """int64: codes of items of events that are not kept any more, where there were more than are."""
        with self._lock:
            session = self._of.get(user_id)
            return session.passed.codes(whose) if session and session.passed else np.zeros(0, np.int64)

    def dismissed(self, user_id: str) -> list[str]:
        """Items the user does not want to see."""
        session = self._of.get(user_id)
        return list(session.dismissed) if session and session.dismissed else []

    def forgotten_at(self, user_id: str) -> int:
        """What the user did until then must not be used, whoever knows it; in µs since 1970, 0 for nearly everybody."""
        return self._forgotten.get(user_hash(user_id), (0, 0))[0] if self._forgotten else 0

    def changes(self, user_id: str | None) -> int:
        """Another number whenever the user's events are others; an answer made at one holds until the next."""
        session = self._of.get(user_id) if user_id is not None else None
        return 0 if session is None else session.changes

    def rebuild(self, stored: Iterable[Seen], floor: int) -> None:
        """Start again from the database's events above `floor`; dismissals, and what comes in meanwhile, are kept."""
        fresh: dict[str, Session] = {}
        before = dict(self._forgotten)
        last = floor
        for event in stored:
            self._add(fresh, event)
            last = max(last, event.seq)
        with self._lock:
            if self._forgotten != before:  # somebody was, while the database was read
                for user_id, session in fresh.items():
                    session.drop(self._deleted(user_id))
            for user_id, session in self._of.items():
                kept = fresh.setdefault(user_id, Session(user_id))
                for event in session.events:
                    if event.seq > last:
                        kept.add(event, self._limit)
                kept.dismissed = {**(session.dismissed or {}), **(kept.dismissed or {})} or None
                kept.changes = next(self._changes)
            self._of, self._floor = fresh, floor

    def forget_until(self, seq: int) -> None:
        """Drop the events up to `seq`: no model that may still answer needs them."""
        if self._floor is not None and seq <= self._floor:
            return
        for user_id in list(self._of):
            with self._lock:
                session = self._of.get(user_id)
                if session is not None:
                    session.drop_events(seq)
                    if session.is_empty:
                        del self._of[user_id]
        self._floor = max(seq, self._floor or 0)

    def forget(self, who: str, at: int, last: int, user_id: str | None = None) -> None:
        """Drop all that one user said up to an event. Answers that were made before must not be used.

        Args:
            who: the user's `user_hash`.
            at: when they asked, in µs since 1970: what packages know of them until then is not used.
            last: the `seq` of the last event that was deleted; 0: there was none.
            user_id: who that is, where it is still known; else all are looked through.
        """
        self._forgotten[who] = (at, last)
        names = [user_id] if user_id is not None else [name for name in list(self._of) if user_hash(name) == who]
        with self._lock:
            for name in names:
                session = self._of.get(name)
                if session is not None:
                    session.drop(last)
                    session.changes = next(self._changes)
                    if session.is_empty:
                        del self._of[name]

    def _deleted(self, user_id: str) -> int:
        return self._forgotten.get(user_hash(user_id), (0, 0))[1] if self._forgotten else 0

    def _add(self, sessions: dict[str, Session], event: Seen) -> None:
        if event.seq <= self._deleted(event.user_id):  # it was on its way here when they were forgotten
            return
        session = sessions.get(event.user_id)
        if session is None:
            session = sessions[event.user_id] = Session(event.user_id)
        # Of millions of events, ids that are the same are one in memory; their context counts for nothing here.
        item_id, kind = sys.intern(event.item_id), sys.intern(event.event)
        if session.add(Seen(event.seq, session.user_id, item_id, event.timestamp, kind), self._limit):
            session.changes = next(self._changes)
