"""Who answers: follows champion, challenger and how traffic is split, and tells the answers of it.

A version answers only when all that it needs is in place: the rules fit its items, the events that it does not know are
in the sessions, and what is popular now is known in its codes.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import sqlalchemy

from recloop.config import Serving
from recloop.errors import ServingError
from recloop.serving.answers import Answers
from recloop.serving.audit import note
from recloop.serving.engine import Engine
from recloop.serving.events import EventStore
from recloop.serving.live import Live, Refusal, Served
from recloop.serving.metrics import Metrics
from recloop.serving.pointer import POINTERS
from recloop.serving.popularity import Popular, PopularNow
from recloop.serving.rerank import check_rules
from recloop.serving.sessions import Sessions
from recloop.serving.traffic import Plan, Split, SplitStore

LET_GO_SECONDS = 1.0
"""After so long no request has still taken who answered before."""


class Lineup:
    """The versions that are loaded, and the plan that requests go by.

    Args:
        live: folder with the pointers and a folder a version.
        database: where the split is, and the events that a version does not know.
        serving: the section of `params.yaml`.
        sessions, popular: what users did, and what is popular.
        answers: told who answers.
    """

    def __init__(
        self,
        live: Path,
        database: sqlalchemy.Engine,
        serving: Serving,
        sessions: Sessions,
        popular: PopularNow,
        answers: Answers,
        metrics: Metrics,
    ) -> None:
        self._database, self._serving = database, serving
        self._events, self._splits = EventStore(database), SplitStore(database)
        self._sessions, self._popular, self._answers, self._metrics = sessions, popular, answers, metrics
        self._champion, self._challenger = (
            Live(live, role, before_swap=self._prepare, after_swap=self._swapped, on_refused=self._refused)
            for role in POINTERS
        )
        self.split = Split()
        """As of the last look"""
        self._preparing: set[Engine] = set()
        """Versions that are about to answer"""
        self._planned = 0.0
        """When a version began to answer, or another share of the traffic"""
        self._planning = threading.RLock()
        self._following = threading.Lock()

    @property
    def champion(self) -> Served:
        """Who answers, unless the split says otherwise.

        Raises:
            ServingError: nobody does.
        """
        served = self._champion.served
        if served is None:
            raise self.nobody()
        return served

    def nobody(self) -> ServingError:
        """Why nobody answers."""
        refusal = self._champion.refusal
        return ServingError(
            "no champion is live yet" + (f": {refusal.error}" if refusal else ""),
            remedy=(refusal and refusal.remedy)
            or "`make train` makes one, `recloop deploy` puts it here; it is served within seconds",
        )

    @property
    def challenger(self) -> Served | None:
        """Who is tried beside the champion; None where nobody is loaded."""
        return self._challenger.served

    @property
    def refusal(self) -> Refusal | None:
        """The version that should answer and does not; None when all is well."""
        return self._champion.refusal or self._challenger.refusal

    def follow(self, *, again: bool = False) -> bool:
        """Look who is to answer, and what is popular. Whether the champion changed.

        Args:
            again: try a version that was refused at once.
        """
        with self._following:  # else one that read the split before would drop who was loaded for the next
            changed = self._champion.check(again=again)
            if self.split.asks_for_challenger:
                self._challenger.check(again=again)
            elif self._challenger.served is not None or self._challenger.refusal is not None:
                self._challenger.unload()
        self._refresh_popular()
        self.plan()
        self._let_go()
        return changed

    def follow_split(self) -> None:
        """Look how traffic is split.

        Raises:
            DatabaseError: the database does not answer.
        """
        self.split = self._splits.read()
        self.plan()

    def set_split(self, split: Split, by: str) -> None:
        """Share traffic out anew; every process follows at its next look.

        Raises:
            DatabaseError: the database does not answer.
        """
        self._splits.write(split, by)
        self.follow_split()
        self.follow()

    def plan(self, *, anew: bool = False) -> None:
        """Let the next request see who answers now.

        Args:
            anew: have no answer used that was made before, even if nobody else answers now.
        """
        with self._planning:
            champion, challenger, before = self._champion.served, self._challenger.served, self._answers.plan
            if champion is None:
                return
            if challenger is not None and challenger.pointer.identity == champion.pointer.identity:
                challenger = None  # it has won: there is nobody beside it
            same = before is not None and (before.champion, before.challenger, before.split) == (
                champion,
                challenger,
                self.split,
            )
            if not same:
                self._planned = time.monotonic()
            if anew or not same:
                self._answers.plan = Plan(champion, challenger, self.split)

    def _let_go(self) -> None:
        """Drop what only versions needed that do not answer any more, once no request can be with one of them."""
        with self._planning:
            plan = self._answers.plan
            if plan is None or time.monotonic() - self._planned < LET_GO_SECONDS:
                return
            needed = {served.engine for served in (plan.champion, plan.challenger) if served} | self._preparing
            lists = self._answers.popular
            if lists.keys() - needed:
                self._answers.popular = {engine: popular for engine, popular in lists.items() if engine in needed}
            self._sessions.forget_until(min(engine.info.feedback_watermark for engine in needed))

    def _prepare(self, engine: Engine) -> None:
        """Before a version answers."""
        check_rules(self._serving.rerank, engine.attributes)
        watermark = engine.info.feedback_watermark
        with self._planning:
            self._preparing.add(engine)
            floor = self._sessions.floor
        try:
            if floor is None or watermark < floor:
                self._sessions.rebuild(self._events.after(watermark), watermark)
            self._list_popular(engine)
        except BaseException:
            self._preparing.discard(engine)
            raise

    def _swapped(self, _old: Served | None, new: Served) -> None:
        self._preparing.discard(new.engine)
        self.plan()
        if new is self._champion.served:
            self._metrics.swaps.inc()
            self._metrics.version.set(new.version)

    def _refresh_popular(self) -> None:
        """Keep a list where it stayed the same: answers that were made from it stay good."""
        for engine, before in list(self._answers.popular.items()):
            self._list_popular(engine, before)

    def _list_popular(self, engine: Engine, before: Popular | None = None) -> None:
        now = self._popular.lists(engine)
        if before is None or not now.same_as(before):
            with self._planning:
                if before is None or engine in self._answers.popular:  # else it was let go
                    self._answers.popular = self._answers.popular | {engine: now}

    def _refused(self, refusal: Refusal) -> None:
        self._metrics.refused.inc()
        note(self._database, None, "refuse", {"version": refusal.version}, refusal.error)
