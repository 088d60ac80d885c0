"""Going back to the champion before."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from recloop.errors import RegistryError
from recloop.project import Project
from recloop.registry import history, versions
from recloop.registry.deploy import deploy
from recloop.registry.tracking import Tracking, open_tracking
from recloop.registry.versions import Version


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


def rollback(project: Project, reason: str, expected: int | None = None) -> RollbackReport:
    """Make the champion before this one champion again, and deploy it.

    Args:
        project: whose.
        reason: kept in the history.
        expected: the version that is to go; where another is champion by now, it stays. None: whichever is.

    Rolling back twice goes two versions back. A version that was rolled back is not promoted again by itself.

    Raises:
        RegistryError: there is no earlier champion, or its artifacts are damaged, or MLflow does not answer;
            nothing was changed.
    """
    tracking, ledger = open_tracking(project), history.ledger(project)
    with ledger.turn():
        now = versions.champion(tracking)
        ledger.reconcile(now)
        if now is not None and expected not in (None, now.number):
            raise RegistryError(
                f"version {expected} is champion no more: version {now.number} is",
                remedy="nothing is to be done; `recloop history` shows who was champion",
            )
        earlier = history.stack(ledger.rows())[:-1]
        target = next((found for who in reversed(earlier) if (found := _found(tracking, who))), None)
        if now is None or target is None:
            raise RegistryError(
                "there is no earlier champion to go back to",
                remedy="`recloop history` shows who was champion; `recloop promote` makes a new one",
            )
        with tempfile.TemporaryDirectory(prefix="recloop-") as scratch:  # who cannot be served must not be champion
            versions.fetch(tracking, target, Path(scratch) / "package")
        versions.note(tracking, now.number, {"recloop.rolled_back": reason})
        versions.point(tracking, "champion", target.number)
        ledger.append(target, now.number, "rollback", reason, {})
    deploy(project)
    return RollbackReport(target.number, now.number, target.model)


def _found(tracking: Tracking, who: tuple[int, str]) -> Version | None:
    """The version of this identity, if the registry has it still."""
    found = versions.find(tracking, who[0])
    return found if found is not None and found.identity == who else None
