"""Going back to the champion before."""

from __future__ import annotations

from dataclasses import dataclass

from recloop.errors import RegistryError
from recloop.project import Project
from recloop.registry import history, versions
from recloop.registry.deploy import deploy
from recloop.registry.tracking import open_tracking
from recloop.storage import connect


@dataclass(frozen=True)
class RollbackReport:
    """What came of a rollback."""

    version: int
    """Who is champion now."""
    rolled_back: int
    """Who was before."""
    model: str

    def __str__(self) -> str:
        return f"v{self.version} ({self.model}) is champion again, in v{self.rolled_back}'s place"


def rollback(project: Project, reason: str) -> RollbackReport:
    """Make the champion before this one champion again, and deploy it.

    Rolling back twice goes two versions back. A version that was rolled back is not promoted again by itself.

    Raises:
        RegistryError: there is no earlier champion, or MLflow does not answer.
    """
    tracking, engine = open_tracking(project), connect(project.database_url)
    with history.turn(engine):
        now = versions.champion(tracking)
        history.reconcile(engine, now)
        earlier = [v for v in history.stack(history.rows(engine))[:-1] if v != now]
        target = next((found for v in reversed(earlier) if (found := versions.find(tracking, v))), None)
        if now is None or target is None:
            raise RegistryError(
                "there is no earlier champion to go back to",
                remedy="`recloop history` shows who was champion; `recloop promote` makes a new one",
            )
        versions.note(tracking, now, {"recloop.rolled_back": reason})
        versions.point(tracking, "champion", target.number)
        history.append(engine, target.number, now, "rollback", reason, {})
    deploy(project)
    return RollbackReport(target.number, now, target.model)
