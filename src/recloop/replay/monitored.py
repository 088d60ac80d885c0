"""What one policy's platform has: the live version, and a database with its events, lists and verdicts.

Files and tables are those of production, so that the monitor finds what it finds there; their times are the events'.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine, insert

from recloop.config import Params
from recloop.files import write_json
from recloop.replay.endpoint import Listed
from recloop.replay.log import Played
from recloop.replay.training import Scratch, Trained
from recloop.serving.events import events as events_table
from recloop.serving.impressions import impressions
from recloop.serving.parcel import package_sha256
from recloop.serving.pointer import CHAMPION, Pointer
from recloop.storage import connect

HOUR = 3_600_000_000


@dataclass(frozen=True)
class Reasons:
    """What the monitor would retrain for, in its words."""

    drifted: tuple[str, ...] = ()
    fallen: tuple[str, ...] = ()
    """Quality"""


class Platform:
    """A project of its own, in a folder of its own.

    Args:
        folder: is made.
        params: whose monitoring it is watched by.
    """

    def __init__(self, folder: Path, params: Params) -> None:
        self._folder, self._params = folder, params
        self._project = Scratch(folder, params)
        self._version: int | None = None

    def deploy(self, trained: Trained, since: int, reason: str) -> None:
        """Have a version answer from `since` on, in µs since 1970; the data it learnt from is the gated data now."""
        number = (self._version or 0) + 1
        live = self._project.live
        shutil.copytree(trained.package, live / f"v{number}")
        shutil.rmtree(self._project.gated, ignore_errors=True)
        shutil.copytree(trained.gated, self._project.gated)
        pointer = Pointer(
            version=number,
            folder=f"v{number}",
            package_sha256=package_sha256(live / f"v{number}"),
            since=datetime.fromtimestamp(since / 1e6, UTC).isoformat(timespec="microseconds"),
            previous=self._version,
            reason=reason,
        )
        write_json(live / CHAMPION, pointer.model_dump())
        self._version = number

    def store(self, played: Sequence[Played], lists: Sequence[Listed]) -> None:
        """Write a window down: what was shown, and what came of it. An event names the list that its item stood in."""
        shown, done = [], []
        for event, listed in zip(played, lists, strict=True):
            request_id = f"before-{event.seq}"
            shown.append(
                {
                    "request_id": request_id,
                    "user_id": event.user_id,
                    "served_at": event.at,
                    "version": self._version,
                    "variant": "champion",
                    "strategy": listed.strategy,
                    "items": list(listed.items),
                    "scores": list(listed.scores),
                    "history_length": listed.history_length,
                }
            )
            done.append(
                {
                    "seq": event.seq,
                    "event_id": f"replay-{event.seq}",
                    "user_id": event.user_id,
                    "item_id": event.item_id,
                    "event": event.event,
                    "value": event.value,
                    "timestamp": event.at,
                    "received_at": event.at,
                    "request_id": request_id if listed.place(event.item_id) else None,
                }
            )
        database = connect(self._project.database_url)
        try:
            _write(database, shown, done)
        finally:
            database.dispose()

    def judged(self, since: int, until: int) -> Reasons:
        """What the monitor would retrain for, after the traffic between two moments, in µs since 1970.

        It looks at that traffic and at no more, is silent about new data, of which the policies keep count themselves,
        and does not rest: who rests, and for how long, is the policies' affair, too.
        """
        from monitoring.run import monitor
        from monitoring.signals import QUALITY

        own = {
            "window_hours": max((until - since) / HOUR, 1e-6),
            "attribution_hours": 1e-6,
            "new_data": None,
            "cooldown_hours": 0.0,
            "quiet_hours": None,
            "probation_hours": 0.0,
            "keep_reports": 1,
        }
        watched = self._params.model_copy(update={"monitoring": self._params.monitoring.model_copy(update=own)})
        verdict = monitor(Scratch(self._folder, watched), clock=lambda: until, pages=False)
        reasons = [signal for signal in verdict.signals if signal.counts and signal.severity == "retrain"]
        return Reasons(
            drifted=tuple(str(signal) for signal in reasons if signal.name != QUALITY),
            fallen=tuple(str(signal) for signal in reasons if signal.name == QUALITY),
        )


def _write(database: Engine, shown: list[dict[str, object]], done: list[dict[str, object]]) -> None:
    with database.begin() as connection:
        connection.execute(insert(impressions), shown)
        connection.execute(insert(events_table), done)
