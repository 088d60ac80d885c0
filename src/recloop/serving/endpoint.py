"""What the endpoint does, without the web: answers, takes events, says what is live, follows the champion."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy

from recloop.config import Serving
from recloop.errors import NotFoundError, ServingError
from recloop.serving.answers import Answers
from recloop.serving.engine import NOBODY
from recloop.serving.event_writer import EventWriter
from recloop.serving.events import Event, EventStore
from recloop.serving.following import Following
from recloop.serving.impressions import ImpressionLog
from recloop.serving.keys import KeyRing, KeyStore
from recloop.serving.lineup import Lineup
from recloop.serving.listing import allowed_by, allowed_by_both
from recloop.serving.metrics import Metrics
from recloop.serving.parsing import RefusedError
from recloop.serving.people import Forgotten, People
from recloop.serving.popularity import PopularNow
from recloop.serving.refusals import Refusals
from recloop.serving.rerank import allowed_items
from recloop.serving.schemas import (
    ChallengerAnswer,
    EventsAnswer,
    EventsRequest,
    ForgottenAnswer,
    KnownEvent,
    ModelAnswer,
    RecommendedItem,
    RecommendRequest,
    Refused,
    SimilarAnswer,
    SimilarRequest,
    SplitAnswer,
    UserAnswer,
)
from recloop.serving.sessions import Sessions
from recloop.serving.traffic import Split

logger = logging.getLogger("recloop.serving")

HOUR_US = 3_600_000_000
EVENTS_SECONDS = 0.25
"""How often events that other processes took are looked for"""
EVENT_QUEUE = 10_000
"""Events that may wait to be stored; requests that come on top are told to try again"""
REFUSALS_SECONDS = 5.0
"""How often counts of refused events are written"""
LATE_SECONDS = 5.0
"""After so long every list has been written that any process had in its hands when a person was forgotten"""
HALF_LIVES_READ = 10
"""Events older than so many half-lives do not count for what is popular."""


class Endpoint:
    """The live engines with what they need around them. Answers on one event loop; `start` and `stop` around it.

    Args:
        live: folder with the pointers and a folder a version.
        database: where events and impressions go.
        serving: the section of `params.yaml`.
        metrics: the counters.
    """

    def __init__(self, live: Path, database: sqlalchemy.Engine, serving: Serving, metrics: Metrics) -> None:
        self._serving, self._metrics, self._database = serving, metrics, database
        self._events = EventStore(database)
        self._writer = EventWriter(self._events, limit=EVENT_QUEUE)
        self._refusals = Refusals(database)
        self._people = People(database)
        self._keys = KeyStore(database)
        self._sessions = Sessions(serving.max_history)
        self._popular = PopularNow(int(serving.popular_half_life_hours * HOUR_US))
        self._impressions = ImpressionLog(
            database,
            serving.impression_queue,
            on_stored=metrics.impressions.inc,
            on_dropped=metrics.dropped.inc,
        )
        self._answers = Answers(serving, self._sessions, self._impressions, metrics)
        self._lineup = Lineup(live, database, serving, self._sessions, self._popular, self._answers, metrics)
        self.keys = KeyRing(())
        """Who may come in, as of the last look"""
        self._followed = self._forgotten = 0
        self._late: deque[tuple[float, int]] = deque()
        """When to finish with whom that is forgotten"""
        # Apart, since a version takes its time to load, and neither events nor a key that is revoked wait for it.
        self._following = (
            Following(self.follow_events, min(EVENTS_SECONDS, serving.poll_seconds), metrics.unfollowed.inc),
            Following(self.follow_orders, serving.poll_seconds, metrics.unfollowed.inc),
            Following(self.follow_versions, serving.poll_seconds, metrics.unfollowed.inc),
            Following(self._refusals.write, REFUSALS_SECONDS, metrics.unfollowed.inc, at_last=True),
        )
        self._looking = threading.Lock()

    def start(self) -> None:
        """Load the champion, if there is one, and follow it.

        Raises:
            DatabaseError: the database does not answer.
        """
        since = self._popular.since(HALF_LIVES_READ)
        self._forget(self._people.forgotten(0))
        self._followed = self._events.last()
        self._popular.add(self._events.between(since, self._followed))
        self._sessions.add(self._events.dismissals())
        self.follow_orders()
        self.follow_versions()
        for following in self._following:
            following.start()

    def stop(self) -> None:
        """Follow no more, write what waits, and let go of the database; at most some 20 s, where that has stalled."""
        for following in self._following:
            following.stop()
        self._writer.close(timeout=10.0)
        self._impressions.close(timeout=5.0)
        self._database.dispose()

    @property
    def unready(self) -> ServingError | None:
        """Why it cannot answer; None: it can."""
        return None if self._answers.plan is not None else self._lineup.nobody()

    def recall(self, body: bytes) -> bytes | None:
        """The answer to a /recommend that was made before, while it is good."""
        return self._answers.recall(body)

    async def recommend(self, request: RecommendRequest, body: bytes | None = None) -> bytes:
        """A list for a user, as JSON; kept for the same `body`.

        Raises:
            ServingError: no champion is live, or more is asked than can be answered.
        """
        if self._answers.plan is None:
            raise self._lineup.nobody()
        return await self._answers.answer(request, body)

    async def recommend_all(self, requests: Iterable[RecommendRequest]) -> bytes:
        """A list for each, as JSON; all by who answers now, and none where there is one that cannot be had.

        Raises:
            ServingError: as `recommend`.
        """
        if self._answers.plan is None:
            raise self._lineup.nobody()
        return b'{"answers":[' + b",".join(await self._answers.answer_all(list(requests))) + b"]}"

    def similar(self, request: SimilarRequest) -> SimilarAnswer:
        """Items like one.

        Raises:
            NotFoundError: the live version does not know the item.
        """
        served = self._lineup.champion
        engine = served.engine
        code = engine.code(request.item_id)
        if code is None:
            raise NotFoundError(
                f"version {served.version} knows no item {request.item_id!r}",
                remedy="items come in with the data that a version is trained on",
            )
        banned = {item_id: engine.code(item_id) for item_id in request.exclude}
        found = engine.similar(
            code,
            request.k or self._serving.default_k,
            [code for code in banned.values() if code is not None],
            allowed_by_both(
                allowed_by(engine, request.filters),
                allowed_items(self._serving.rerank, engine.attributes, request.age),
            ),
        )
        items = [(engine.item(code), score) for code, score in zip(found.codes.tolist(), found.scores, strict=True)]
        return SimilarAnswer(
            model_version=served.version,
            items=[RecommendedItem(item_id=item[0], title=item[1], score=float(score)) for item, score in items],
            unknown_items=[item_id for item_id, code in banned.items() if code is None],
        )

    async def record(self, request: EventsRequest) -> EventsAnswer:
        """Store events; they are committed, and in their users' histories, when this returns.

        Raises:
            ServingError: the database did not take them.
        """
        batch = [Event(**event.model_dump()) for event in request.events]
        stored = await asyncio.wrap_future(self._writer.submit(batch))
        self._sessions.add(stored.new)
        self._metrics.events.inc(len(stored.new))
        self._metrics.duplicates.inc(len(stored.duplicates))
        return EventsAnswer(stored=len(stored.new), duplicates=list(stored.duplicates))

    def count_refused(self, error: RefusedError) -> None:
        """Count events that are refused for what is in them: in memory, to be written in REFUSALS_SECONDS."""
        self._refusals.count(error)

    def describe(self) -> ModelAnswer:
        """What is live.

        Raises:
            ServingError: no champion is.
        """
        served, challenger, refusal = self._lineup.champion, self._lineup.challenger, self._lineup.refusal
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
            else Refused(version=refusal.version, at=iso(refusal.at), error=refusal.error),
            challenger=None
            if challenger is None
            else ChallengerAnswer(
                version=challenger.version,
                model=challenger.engine.info.model,
                metrics=challenger.engine.info.metrics,
            ),
            split=SplitAnswer(challenger=self._lineup.split.challenger, shadow=self._lineup.split.shadow),
        )

    def person(self, user_id: str) -> UserAnswer:
        """What is known of a person; asks the database.

        Raises:
            DatabaseError: the database does not answer.
        """
        served, stored = self._lineup.champion, self._people.record(user_id)
        engine = served.engine
        forgotten_at = self._sessions.forgotten_at(user_id)
        history = [
            KnownEvent(item_id=engine.item(code)[0], event=None, at=iso(time))
            for code, time in zip(*engine.known(engine.user(user_id)), strict=True)
            if time > forgotten_at
        ]
        history += [
            KnownEvent(item_id=event.item_id, event=event.event, at=iso(event.timestamp))
            for event in self._sessions.after(user_id, engine.info.feedback_watermark)
        ]
        return UserAnswer(
            user_id=user_id,
            in_model=bool(history) and engine.user(user_id) != NOBODY and not forgotten_at,
            history=history,
            dismissed=sorted(self._sessions.dismissed(user_id)),
            stored_events=stored.events,
            impressions=stored.impressions,
        )

    def forget(self, user_id: str) -> ForgottenAnswer:
        """Forget a person; asks the database.

        Raises:
            DatabaseError: the database does not answer; nothing was forgotten.
        """
        deleted = self._people.forget(user_id)
        self.follow_events()
        return ForgottenAnswer(user_id=user_id, events=deleted.events, impressions=deleted.impressions)

    def set_split(self, split: Split, by: str) -> None:
        """Share traffic out anew; every worker follows within `poll_seconds`.

        Raises:
            DatabaseError: the database does not answer.
        """
        self._lineup.set_split(split, by)

    def follow_events(self) -> None:
        """Take in what others stored, and forgot, since the last look."""
        with self._looking:
            fresh = list(self._events.after(self._followed))
            if fresh:
                self._followed = fresh[-1].seq
                self._sessions.add(fresh)
                self._popular.add(fresh)
            self._forget(self._people.forgotten(self._forgotten))
            while self._late and self._late[0][0] < time.monotonic():
                self._people.finish(self._late[0][1])
                self._late.popleft()

    def follow_orders(self) -> None:
        """Look who may come in, and how traffic is split.

        Raises:
            DatabaseError: the database does not answer.
        """
        self.keys = self._keys.read()
        self._lineup.follow_split()

    def follow_versions(self, *, again: bool = False) -> bool:
        """Look who is to be live. Whether the champion changed.

        Args:
            again: try a version that was refused at once, and not when its time has come.
        """
        return self._lineup.follow(again=again)

    def _forget(self, people: Iterable[Forgotten]) -> None:
        for person in people:
            self._sessions.forget(person.who, person.at, person.last_event, person.user_id)
            self._forgotten = person.seq
            if person.user_id is not None:  # lists that named them may be on their way to the database
                self._late.append((time.monotonic() + LATE_SECONDS, person.seq))
            self._lineup.plan(anew=True)


def iso(moment_us: int) -> str:
    """A moment in µs since 1970 (UTC), for people."""
    return datetime.fromtimestamp(moment_us / 1e6, UTC).isoformat()
