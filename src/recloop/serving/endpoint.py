"""What the endpoint does, without the web: answers, takes events, says what is live, follows the champion."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy

from recloop.config import Serving
from recloop.errors import ServingError
from recloop.serving.engine import Engine
from recloop.serving.events import Event, EventStore
from recloop.serving.impressions import Impression, ImpressionLog
from recloop.serving.live import Live, Served
from recloop.serving.metrics import Metrics
from recloop.serving.schemas import (
    EventsAnswer,
    EventsRequest,
    ModelAnswer,
    RecommendAnswer,
    RecommendedItem,
    RecommendRequest,
    Refused,
)
from recloop.serving.sessions import Sessions
from recloop.storage import now_us

VARIANT = "champion"


class Endpoint:
    """The live engine with what it needs around it.

    Args:
        live: folder with `champion.json`.
        database: where events and impressions go.
        serving: the section of `params.yaml`.
        metrics: the counters.
    """

    def __init__(self, live: Path, database: sqlalchemy.Engine, serving: Serving, metrics: Metrics) -> None:
        self._serving = serving
        self._metrics = metrics
        self._database = database
        self._events = EventStore(database)
        self._sessions = Sessions(serving.max_history)
        self._impressions = ImpressionLog(
            database,
            serving.impression_queue,
            on_stored=metrics.impressions.inc,
            on_dropped=metrics.dropped.inc,
        )
        self._live = Live(live, before_swap=self._catch_up, after_swap=self._swapped, on_refused=metrics.refused.inc)

    def start(self) -> None:
        """Load the champion, if there is one, and follow it."""
        self._live.check()
        self._live.start(self._serving.poll_seconds)

    def stop(self) -> None:
        """Follow no more, write what waits, and let go of the database."""
        self._live.stop()
        self._impressions.close()
        self._database.dispose()

    @property
    def ready(self) -> bool:
        """Whether it can answer."""
        return self._live.served is not None

    def recommend(self, request: RecommendRequest) -> RecommendAnswer:
        """A list for a user.

        Raises:
            ServingError: no champion is live.
        """
        served = self._served()
        history, times = request.history, None
        if history is None and request.user_id is not None:
            history, times = self._history(request.user_id, served.engine)
        answer = served.engine.recommend(
            request.user_id,
            history,
            times=times,
            k=request.k or self._serving.default_k,
            exclude_seen=request.exclude_seen,
            exclude=request.exclude,
        )
        request_id = uuid.uuid4().hex
        self._metrics.recommendations.labels(answer.strategy).inc()
        self._impressions.put(
            Impression(
                request_id=request_id,
                user_id=request.user_id,
                served_at=now_us(),
                version=served.version,
                variant=VARIANT,
                strategy=answer.strategy,
                items=tuple(item.item_id for item in answer.items),
                scores=tuple(item.score for item in answer.items),
                history_length=answer.history_length,
            )
        )
        return RecommendAnswer(
            request_id=request_id,
            model_version=served.version,
            variant=VARIANT,
            strategy=answer.strategy,
            items=[RecommendedItem(item_id=item.item_id, title=item.title, score=item.score) for item in answer.items],
            unknown_items=list(answer.unknown_items),
        )

    def record(self, request: EventsRequest) -> EventsAnswer:
        """Store events; they are committed, and in their users' histories, when this returns.

        Raises:
            ServingError: the database did not take them.
        """
        stored = self._events.add([Event(**event.model_dump()) for event in request.events])
        self._sessions.add(stored.new)
        self._metrics.events.inc(len(stored.new))
        self._metrics.duplicates.inc(len(stored.duplicates))
        return EventsAnswer(stored=len(stored.new), duplicates=list(stored.duplicates))

    def describe(self) -> ModelAnswer:
        """What is live.

        Raises:
            ServingError: no champion is.
        """
        served, refusal = self._served(), self._live.refusal
        info, pointer = served.engine.info, served.pointer
        return ModelAnswer(
            version=pointer.version,
            since=pointer.since,
            reason=pointer.reason,
            model=info.model,
            newest=info.newest,
            data_sha256=info.data_sha256,
            model_sha256=info.model_sha256,
            feedback_watermark=info.feedback_watermark,
            items=served.engine.catalogue_size,
            users=served.engine.user_count,
            metrics=info.metrics,
            refused=None
            if refusal is None
            else Refused(version=refusal.version, at=_iso(refusal.at), error=refusal.error),
        )

    def _served(self) -> Served:
        served = self._live.served
        if served is None:
            refusal = self._live.refusal
            raise ServingError(
                "no champion is live yet" + (f": {refusal.error}" if refusal else ""),
                remedy="`make train` makes one, `recloop deploy` puts it here; it is served within seconds",
            )
        return served

    def _history(self, user_id: str, engine: Engine) -> tuple[list[str], list[int]]:
        """Items of all that the user did, oldest first, and when."""
        items, times = engine.history(user_id)
        since = self._sessions.after(user_id, engine.info.feedback_watermark)
        return items + [event.item_id for event in since], times + [event.timestamp for event in since]

    def _catch_up(self, engine: Engine) -> None:
        """Have every event that `engine` does not know in the sessions, before it answers."""
        watermark, floor = engine.info.feedback_watermark, self._sessions.floor
        if floor is None or watermark < floor:
            self._sessions.rebuild(self._events.after(watermark), watermark)

    def _swapped(self, old: Served | None, new: Served) -> None:
        self._metrics.swaps.inc()
        self._metrics.version.set(new.version)
        # A request that began before the swap still answers with the old engine, and needs its events.
        watermarks = [served.engine.info.feedback_watermark for served in (old, new) if served is not None]
        self._sessions.forget_until(min(watermarks))


def _iso(moment_us: int) -> str:
    return datetime.fromtimestamp(moment_us / 1e6, UTC).isoformat()
