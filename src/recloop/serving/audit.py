"""A line for every act of an admin, and for every version that was refused: who, what, when, and what came of it."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import Engine, insert

from recloop.errors import DatabaseError
from recloop.serving.tables import audit
from recloop.storage import now_us

logger = logging.getLogger("recloop.audit")


def note(
    database: Engine,
    who: str | None,
    act: str,
    details: dict[str, Any],
    outcome: str,
    *,
    by: str = "the endpoint itself",
    told: str | None = None,
    level: int = logging.WARNING,
) -> None:
    """Write the line to the log, and to the database where that answers.

    Args:
        who: id of the key; None where none was needed, or the endpoint acted by itself.
        by: the same, for people.
        told: the outcome for people, where it is another.
        level: of the line in the log.
    """
    what = ", ".join(f"{name} {value!r}" for name, value in details.items())
    logger.log(level, "%s by %s: %s", f"{act} ({what})" if what else act, by, told or outcome)
    row = {"at": now_us(), "key_id": who, "act": act, "details": details, "outcome": outcome}
    try:
        with database.begin() as connection:
            connection.execute(insert(audit).values(row))
    except DatabaseError as error:
        logger.error("the audit line above is in this log alone: %s", error.said)
