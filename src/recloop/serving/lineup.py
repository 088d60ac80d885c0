"""Who answers: follows champion, challenger and how traffic is split, and tells the answers of it.

A version answers only when all that it needs is in place: the rules fit its items, the events that it does not know are
in the sessions, and what is popular now is known in its codes.
"""

from __future__ import annotations

import threading
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
from recloop.serving.pointer import CHALLENGER, CHAMPION
from recloop.serving.popularity import PopularNow
from recloop.serving.rerank import check_rules
from recloop.serving.sessions import Sessions
from recloop.serving.traffic import Plan, Split, SplitStore


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
            Live(live, pointer, before_swap=self._prepare, after_swap=self._swapped, on_refused=self._refused)
            for pointer in (CHAMPION, CHALLENGER)
        )
        self.split = Split()
        """As of the last look"""
        self._planning = threading.Lock()

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
            remedy="`make train` makes one, `recloop deploy` puts it here; it is served within seconds",
        )

    @property
    def challenger(self) -> Served | None:
        """Who is tried beside the champion; None where nobody is loaded."""
        return self._challenger.served

    @property
    def refusal(self) -> Refusal | None:
        """The version that should answer and does not; None when all is well."""
        return self._champion.refusal or self._challenger.refusal

    def follow(self) -> bool:
        """Look who is to answer, how traffic is split, and what is popular. Whether the champion changed.

        Raises:
            DatabaseError: the database does not answer; the versions were looked at all the same.
        """
        changed = self._champion.check()
        try:
            self.split = self._splits.read()
        finally:
            if self.split.asks_for_challenger:
                self._challenger.check()
            elif self._challenger.served is not None:
                self._challenger.unload()
            self._refresh_popular()
            self.plan()
        return changed

    def set_split(self, split: Split, by: str) -> None:
        """Share traffic out anew; every process follows at its next look.

        Raises:
            DatabaseError: the database does not answer.
        """
        self._splits.write(split, by)
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
            if anew or not same:
                self._answers.plan = Plan(champion, challenger, self.split)
            if same:
                # One look after the change: until then a request may answer with who was there before.
                self._let_go([champion.engine, *([] if challenger is None else [challenger.engine])])

    def _let_go(self, engines: list[Engine]) -> None:
        """Drop what only versions needed that do not answer any more."""
        lists = self._answers.popular
        if lists.keys() - set(engines):
            self._answers.popular = {engine: lists[engine] for engine in engines if engine in lists}
        self._sessions.forget_until(min(engine.info.feedback_watermark for engine in engines))

    def _prepare(self, engine: Engine) -> None:
        """Before a version answers."""
        check_rules(self._serving.rerank, engine.attributes)
        watermark, floor = engine.info.feedback_watermark, self._sessions.floor
        if floor is None or watermark < floor:
            self._sessions.rebuild(self._events.after(watermark), watermark)
        self._answers.popular = self._answers.popular | {engine: self._popular.lists(engine)}

    def _swapped(self, _old: Served | None, new: Served) -> None:
        self._metrics.swaps.inc()
        self.plan()
        if new is self._champion.served:
            self._metrics.version.set(new.version)

    def _refresh_popular(self) -> None:
        """Keep a list where it stayed the same: answers that were made from it stay good."""
        for engine, before in self._answers.popular.items():
            now = self._popular.lists(engine)
            if not now.same_as(before):
                self._answers.popular = self._answers.popular | {engine: now}

    def _refused(self, refusal: Refusal) -> None:
        self._metrics.refused.inc()
        note(self._database, None, "refuse", {"version": refusal.version}, refusal.error)
