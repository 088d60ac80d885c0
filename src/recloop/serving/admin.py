"""What an admin may have the endpoint do. Each act leaves a line of who, what, when and what came of it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Engine

from recloop import telemetry
from recloop.errors import ConflictError, RecloopError, ServingError
from recloop.serving.aside import aside
from recloop.serving.audit import note
from recloop.serving.endpoint import Endpoint
from recloop.serving.schemas import (
    Answer,
    ForgottenAnswer,
    ReloadAnswer,
    RollbackAnswer,
    RollbackRequest,
    SplitAnswer,
    SplitRequest,
    UserAnswer,
)
from recloop.serving.tables import user_hash
from recloop.serving.traffic import Split

A = TypeVar("A", bound=Answer)

ROLLBACK_SECONDS = 120.0
"""How long the registry may take"""
PERSONAL = {"user_id", "history", "dismissed"}
"""What stands in no line: it would outlive the person's being forgotten"""


class Admin:
    """The acts of one endpoint.

    Args:
        project: its root, where its registry is found; None in a Bento, which has none.
    """

    def __init__(self, endpoint: Endpoint, database: Engine, project: Path | None) -> None:
        self._endpoint, self._database, self._project = endpoint, database, project

    async def reload(self, who: str | None) -> ReloadAnswer:
        """Look now who is to be live."""

        def act() -> ReloadAnswer:
            changed = self._endpoint.follow_versions(again=True)
            live = self._endpoint.describe()
            return ReloadAnswer(version=live.version, changed=changed, refused=live.refused)

        def told(answer: ReloadAnswer) -> str:
            if answer.refused is not None:
                return f"version {answer.version} is live, {answer.refused.version} is refused: {answer.refused.error}"
            return f"version {answer.version} " + ("is live now" if answer.changed else "stays live, nothing changed")

        return await self._done(who, "reload", {}, act, told, idle=lambda answer: not answer.changed)

    async def split(self, request: SplitRequest, who: str | None) -> SplitAnswer:
        """Share traffic out anew."""

        def act() -> SplitAnswer:
            self._endpoint.set_split(Split(request.challenger, request.shadow), _by(who))
            return SplitAnswer(challenger=request.challenger, shadow=request.shadow)

        return await self._done(who, "split", request.model_dump(), act, lambda _: "done")

    async def person(self, user_id: str, who: str | None) -> UserAnswer:
        """What is known of a person; the line names a hash alone."""

        def told(answer: UserAnswer) -> str:
            return f"{answer.stored_events} events and {answer.impressions} lists are stored"

        details: dict[str, object] = {"user_hash": user_hash(user_id)}
        return await self._done(
            who, "look up", details, lambda: self._endpoint.person(user_id), told, idle=lambda _: True
        )

    async def forget(self, user_id: str, who: str | None) -> ForgottenAnswer:
        """Forget a person; the line names a hash alone."""

        def told(answer: ForgottenAnswer) -> str:
            return f"{answer.events} events deleted, {answer.impressions} lists without a name now"

        details: dict[str, object] = {"user_hash": user_hash(user_id)}
        return await self._done(who, "forget", details, lambda: self._endpoint.forget(user_id), told)

    async def rollback(self, request: RollbackRequest, who: str | None) -> RollbackAnswer:
        """Have the registry make the champion before this one champion again, and serve it.

        The registry's client is large and slow to load: a process of its own has it, and is gone afterwards.
        """
        details = request.model_dump()
        return await self._done(
            who, "rollback", details, lambda: self._rollback(request.reason), lambda answer: answer.done
        )

    def _rollback(self, reason: str) -> RollbackAnswer:
        if self._project is None:
            raise ConflictError(
                "a Bento serves the version that was packed in, and knows no other",
                remedy="serve the Bento that was built before it",
            )
        command = [sys.executable, "-m", "recloop", "rollback", "--reason", reason]
        try:
            done = subprocess.run(
                command,
                cwd=self._project,
                env=telemetry.QUIET | os.environ,
                capture_output=True,
                text=True,
                timeout=ROLLBACK_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ServingError(
                f"the registry did not answer in {ROLLBACK_SECONDS:.0f} s; it may have rolled back or not",
                remedy="`recloop history` says who is champion",
            ) from None
        if done.returncode:
            raise ConflictError(
                f"the registry did not roll back: {done.stderr.strip()}", remedy="mend that, and ask again"
            )
        self._endpoint.follow_versions()
        return RollbackAnswer(done=done.stdout.strip(), version=self._endpoint.describe().version)

    async def _done(
        self,
        who: str | None,
        act: str,
        details: dict[str, object],
        do: Callable[[], A],
        told: Callable[[A], str],
        idle: Callable[[A], bool] = lambda _: False,
    ) -> A:
        """`do`, in a thread, with its line.

        Args:
            told: what came of it, for people.
            idle: whether nothing did.
        """

        def noted() -> A:
            try:
                answer = do()
            except Exception as error:  # whatever it is, it was asked for
                why = error.message if isinstance(error, RecloopError) else f"{type(error).__name__}: {error}"
                note(self._database, who, act, details, f"failed: {why}", by=_by(who))
                raise
            outcome = answer.model_dump_json(exclude=PERSONAL)
            level = logging.INFO if idle(answer) else logging.WARNING
            note(self._database, who, act, details, outcome, by=_by(who), told=told(answer), level=level)
            return answer

        return await aside(noted)


def _by(who: str | None) -> str:
    """Who asked: an admin's key is left out only where none is asked for."""
    return "no key (auth is off)" if who is None else f"key {who}"
