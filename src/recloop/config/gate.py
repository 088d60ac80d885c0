"""`gate`: what data may be learnt from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import Field, field_validator

from recloop.config.section import Limit, Moment, Positive, Section, Share
from recloop.errors import did_you_mean

BATCH_RULES = ("quarantine_share", "volume", "freshness", "duplicates", "unknown_items", "event_mix")
"""The rules of the gate that judge a whole table; `gate.severity` says what each does."""


class Gate(Section):
    """What data may be learnt from. A row rule sends rows to quarantine; a batch rule judges the whole."""

    max_quarantine_share: Share = 0.02
    """More than this share of a table's rows in quarantine stops the run."""
    min_feedback_rows: Positive = 100
    """From this many rows on, events taken at the endpoint must keep that share on their own too."""
    events: dict[str, tuple[Limit, Limit]] = {
        "view": (0.0, 1e6),
        "click": (0.0, 1e6),
        "purchase": (0.0, 1e6),
        "rating": (0.5, 5.0),
        "dismiss": (0, 1_000_000),
    }
    """The events that may occur, and the values each may take (lowest, highest); .inf: no limit."""
    earliest: Moment = datetime(1990, 1, 1, tzinfo=UTC)
    """A time before this is a fault. Not asked of a `sequences` source, which has an order but no times."""
    min_rows: Positive = 1000
    max_age_days: float | None = Field(default=None, gt=0, le=36_500)
    """The newest event may be at most this old; null for a historic data set."""
    max_duplicate_share: Share = 0.05
    """Share of rows that have user, item, event and time in common with another."""
    max_unknown_item_share: Share = 0.05
    """Share of rows whose item is not in the items table, where there is one."""
    max_event_mix_shift: Share = 0.2
    """Largest change of an event's share against the last good data."""
    severity: dict[str, Literal["stop", "warn"]] = {"freshness": "warn", "event_mix": "warn"}
    """Batch rules that only warn, or stop, other than by default (stop)."""

    @field_validator("events")
    @classmethod
    def _are_ranges(cls, events: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        if not events:
            raise ValueError("name at least one event, e.g. {rating: [0.5, 5.0]}")
        for event, (lowest, highest) in events.items():
            if not lowest <= highest:
                raise ValueError(f"{event}: the range goes from {lowest} to {highest}; the lowest value comes first")
        return events

    @field_validator("severity")
    @classmethod
    def _names_batch_rules(cls, severity: dict[str, str]) -> dict[str, str]:
        for rule in severity:
            if rule not in BATCH_RULES:
                hint = did_you_mean(rule, BATCH_RULES) or f"; there are: {', '.join(BATCH_RULES)}"
                raise ValueError(f"unknown rule `{rule}`{hint}")
        return severity
