"""The change of champion itself: a comparison and a change in one turn, so that of two at once only one happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recloop.errors import PromotionConflict
from recloop.registry import versions
from recloop.registry.history import Ledger
from recloop.registry.tracking import Tracking
from recloop.registry.versions import Version


@dataclass(frozen=True)
class Standing:
    """Who is champion, and by which row of the history: what must not have changed when another is crowned."""

    champion: Version | None
    seq: int | None


def standing(tracking: Tracking, ledger: Ledger) -> Standing:
    """As of now.

    Raises:
        RegistryError: MLflow does not answer.
    """
    with ledger.turn():
        ledger.reconcile(versions.champion(tracking))
        return _look(tracking, ledger)


def crown(
    tracking: Tracking, ledger: Ledger, before: Standing, version: Version, why: str, numbers: dict[str, Any]
) -> None:
    """Make `version` champion, if the champion is still who it was, and record it.

    Args:
        before: who was champion when `version` was found to be better.
        why: kept in the history.
        numbers: likewise; of the comparison.

    Raises:
        PromotionConflict: the champion is another by now; nothing was changed.
    """
    with ledger.turn():
        now = _look(tracking, ledger)
        if _identity(now.champion) != _identity(before.champion) or now.seq != before.seq:
            raise PromotionConflict(
                f"v{version.number} was to follow {_name(before.champion)}, but meanwhile {_name(now.champion)} became "
                "champion; nothing was changed",
                remedy="run it again: it goes by the new champion then",
            )
        versions.point(tracking, "champion", version.number)
        ledger.append(version, before.champion.number if before.champion else None, "promote", why, numbers)
        if _identity(versions.challenger(tracking)) == version.identity:
            versions.point(tracking, "challenger", None)


def _look(tracking: Tracking, ledger: Ledger) -> Standing:
    champion, newest = versions.champion(tracking), ledger.last()
    return Standing(champion, newest.seq if newest else None)


def _identity(version: Version | None) -> tuple[int, str] | None:
    return None if version is None else version.identity


def _name(version: Version | None) -> str:
    return "no champion" if version is None else f"v{version.number}"
