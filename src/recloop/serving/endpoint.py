"""What the endpoint does, without the web: answers, takes events, says what is live, follows the champion."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy

from recloop.config import Serving
from recloop.errors import NotFoundError, RecloopError
from recloop.serving.answers import Answers
from recloop.serving.engine import NOBODY
from recloop.serving.event_writer import EventWriter
from recloop.serving.events import Event, EventStore
from recloop.serving.following import Following
from recloop.serving.impressions import ImpressionLog
from recloop.serving.keys import KeyRing, KeyStore
from recloop.serving.lineup import Lineup
from recloop.serving.listing import allowed_by
from recloop.serving.metrics import Metrics
from recloop.serving.people import Forgotten, People
from recloop.serving.popularity import PopularNow
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
from recloop.storage import now_us

logger = logging.getLogger("recloop.serving")

HOUR_US = 3_600_000_000
EVENTS_SECONDS = 0.25
"""How often events that other processes took are looked for"""
EVENT_QUEUE = 10_000
"""Events that may wait to be stored; requests that come on top are told to try again"""
LATE_SECONDS = 5.0
"""After so long everything has been written that any process had in its hands when a person was forgotten"""
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
        # Apart, since a version takes its time to load, and events do not wait for it.
        self._following = (
            Following(self.follow_events, min(EVENTS_SECONDS, serving.poll_seconds), metrics.unfollowed.inc),
            Following(self.follow_versions, serving.poll_seconds, metrics.unfollowed.inc),
        )
        self._looking = threading.Lock()

    def start(self) -> None:
        """Load the champion, if there is one, and follow it.

        Raises:
            DatabaseError: the database does not answer.
        """
        since = self._popular.since(HALF_LIVES_READ)
        self._followed = self._events.last()
        self._popular.add(self._events.between(since, self._followed))
        self._sessions.add(self._events.dismissals())
        self._forget(self._people.forgotten(0))
        self.follow_versions()
        for following in self._following:
            following.start()

    def stop(self) -> None:
        """Follow no more, write what waits, and let go of the database."""
        for following in self._following:
            following.stop()
        self._writer.close()
        self._impressions.close()
        self._database.dispose()

    @property
    def ready(self) -> bool:
        """Whether it can answer."""
        return self._answers.plan is not None

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
        """A list for each, as JSON."""
        answers = await asyncio.gather(*(self.recommend(request) for request in requests))
        return b'{"answers":[' + b",".join(answers) + b"]}"

    def similar(self, request: SimilarRequest) -> SimilarAnswer:
        """Items like one.

        Raises:
            NotFoundError: the live version does not know the item.
        """
        engine = self._lineup.champion.engine
        code = engine.code(request.item_id)
        if code is None:
            raise NotFoundError(
                f"version {self._lineup.champion.version} knows no item {request.item_id!r}",
                remedy="items come in with the data that a version is trained on",
            )
        banned = {item_id: engine.code(item_id) for item_id in request.exclude}
        found = engine.similar(
            code,
            request.k or self._serving.default_k,
            [code for code in banned.values() if code is not None],
            allowed_by(engine, request.filters),
        )
        items = [(engine.item(code), score) for code, score in zip(found.codes.tolist(), found.scores, strict=True)]
        return SimilarAnswer(
            model_version=self._lineup.champion.version,
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
        late = threading.Timer(LATE_SECONDS, self._forget_late, (user_id, now_us()))
        late.daemon = True
        late.start()
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

    def follow_versions(self) -> bool:
        """Look who is to be live, how traffic is split and who may come in. Whether the champion changed.

        Raises:
            DatabaseError: the database does not answer; the versions were looked at all the same.
        """
        changed = self._lineup.follow()
        self.keys = self._keys.read()
        return changed

    def _forget(self, people: Iterable[Forgotten]) -> None:
        for person in people:
            self._sessions.forget(person.who, person.at)
            self._forgotten = person.seq
            self._lineup.plan(anew=True)

    def _forget_late(self, user_id: str, at: int) -> None:
        try:
            self._people.forget_late(user_id, at)
        except RecloopError as error:
            logger.error("what was on its way when a person was forgotten may still name them: %s", error.message)


def iso(moment_us: int) -> str:
    """A moment in µs since 1970 (UTC), for people."""
    return datetime.fromtimestamp(moment_us / 1e6, UTC).isoformat()
