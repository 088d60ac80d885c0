"""How much one request may ask for; it travels in pydantic's validation context.

The client imports this, and shall need neither a database's driver nor what reads `params.yaml`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationInfo as Info
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from recloop.config import Gate, Serving


def _now_us() -> int:
    return time.time_ns() // 1000  # as `storage.now_us`


@dataclass(frozen=True)
class Limits:
    """How much one request may ask for, and the clock its times are held against."""

    max_k: int
    max_history: int
    max_batch: int
    events: Mapping[str, tuple[float, float]]
    """Which may occur, and the values each may take: what the data's gate would throw out is not taken"""
    now_us: Callable[[], int] = _now_us

    @classmethod
    def of(cls, serving: Serving, gate: Gate) -> Limits:
        return cls(
            max_k=serving.max_k, max_history=serving.max_history, max_batch=serving.max_batch, events=gate.events
        )

    @property
    def body_bytes(self) -> int:
        """No request may be longer."""
        return 65_536 + 4_096 * self.max_history


def limits_of(info: Info) -> Limits:
    limits = info.context
    if not isinstance(limits, Limits):
        raise TypeError("requests are read by `parsing.parse`, which says what the limits are")
    return limits


def at_most(values: Any, limits: Limits, what: str) -> Any:
    """Refuse a list that is too long before its entries are looked at."""
    if isinstance(values, list) and len(values) > limits.max_history:
        message = f"should hold at most {limits.max_history} {what} (serving.max_history), not {len(values)}"
        raise PydanticCustomError("too_many", message)
    return values
