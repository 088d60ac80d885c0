"""What the monitor looks at. A signal is one column of `features.py`, a category a row.

Inputs, one row an event: `unknown_items`, `item_popularity`, `category`, `user_activity`, `event`, `value`,
`session_length`, `repeats`; and, as they came in, `lateness`, `volume` and `fields`, of which those that were refused
tell (`refused.py`). Outputs, one row a served list: `strategy`,
`list_popularity`, `top_score`. And `quality`: what users make of the lists (`fall.py`).

How far a signal has moved is said by one of Evidently's tests (`measures.py`); of `quality`, by which share it has
fallen. It has drifted where that reaches both what chance does in windows of as many sessions (`chance.py`, for all
signals of a page together `monitoring.false_alarms`) and what matters (`monitoring.signals`): in a window of a million
sessions every change is certain, and most are of no account.
"""

from __future__ import annotations

from dataclasses import dataclass

EVENT_SIGNALS = (
    "unknown_items", "item_popularity", "category", "user_activity", "event", "value", "session_length", "repeats",
)  # fmt: skip
ARRIVAL_SIGNALS = ("lateness",)
LIST_SIGNALS = ("strategy", "list_popularity", "top_score")
VOLUME = "volume"
QUALITY = "quality"
FALL = "a fall by"
ONLY_LESS = {"unknown_items": "known", "strategy": "model"}
"""Signal → the category that may grow as it likes"""


@dataclass(frozen=True)
class Finding:
    """How far one signal has moved from the reference."""

    signal: str
    figure: float
    chance: float
    """What chance alone reaches"""
    moved: str
    """What moved most, for people: e.g. `unknown: 0.3% → 5.5%`."""
    method: str = "Jensen-Shannon distance"
    """How that is measured"""
