"""What an admin does leaves a line: what, by whom, and what came of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, select

from recloop.errors import DatabaseError
from recloop.serving.admin import Admin
from recloop.serving.audit import note
from recloop.serving.schemas import (
    ForgottenAnswer,
    KnownEvent,
    Refused,
    RollbackRequest,
    SplitRequest,
    UserAnswer,
)
from recloop.serving.tables import audit
from recloop.storage import connect


class Endpoint:
    """Version 2 is live."""

    def __init__(self, changed: bool = False, refused: Refused | None = None) -> None:
        self._changed, self._refused = changed, refused
        self.split: tuple[Any, str] | None = None

    def follow_versions(self, *, again: bool = False) -> bool:
        return self._changed

    def describe(self) -> SimpleNamespace:
        return SimpleNamespace(version=2, refused=self._refused)

    def set_split(self, split: Any, by: str) -> None:
        self.split = (split, by)

    def forget(self, user_id: str) -> ForgottenAnswer:
        if user_id == "ann":
            raise DatabaseError("sqlite://", "it is away", remedy="", transient=True)
        return ForgottenAnswer(user_id=user_id, events=2, impressions=9)

    def person(self, user_id: str) -> UserAnswer:
        if user_id == "ann":
            raise ZeroDivisionError("of all things")
        history = [KnownEvent(item_id="secret", event="click", at="2026-01-01T00:00:00+00:00")]
        return UserAnswer(
            user_id=user_id, in_model=False, history=history, dismissed=["secret"], stored_events=2, impressions=9
        )


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    engine = connect(f"sqlite:///{tmp_path / 'recloop.db'}")
    yield engine
    engine.dispose()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, "recloop.audit")
    return lambda: [(record.levelname, record.message) for record in caplog.records if record.name == "recloop.audit"]


def admin(database: Engine, **settings: Any) -> Admin:
    return Admin(Endpoint(**settings), database, None)  # type: ignore[arg-type]


def test_a_reload_that_changed_nothing_is_no_warning(database: Engine, said: Any) -> None:
    asyncio.run(admin(database).reload(None))
    assert said() == [("INFO", "reload by no key (auth is off): version 2 stays live, nothing changed")]


def test_one_that_did_is(database: Engine, said: Any) -> None:
    asyncio.run(admin(database, changed=True).reload("7f3a9c01"))
    assert said() == [("WARNING", "reload by key 7f3a9c01: version 2 is live now")]
    with database.connect() as connection:
        (row,) = connection.execute(select(audit)).all()
    assert (row.key_id, row.act, row.details, row.outcome) == (
        "7f3a9c01", "reload", {}, '{"version":2,"changed":true,"refused":null}',
    )  # fmt: skip


def test_a_reload_after_which_a_version_is_still_refused_says_so(database: Engine, said: Any) -> None:
    refused = Refused(version=3, at="2026-01-01T00:00:00+00:00", error="it is damaged")
    assert asyncio.run(admin(database, refused=refused).reload(None)).refused == refused
    assert said() == [
        ("INFO", "reload by no key (auth is off): version 2 is live, 3 is refused: it is damaged"),
    ]


def test_looking_a_person_up_leaves_a_line_without_what_was_found(database: Engine, said: Any) -> None:
    assert asyncio.run(admin(database).person("bob", "7f3a9c01")).history[0].item_id == "secret"
    ((level, line),) = said()
    assert (level, line[:20]) == ("INFO", "look up (user_hash '")
    assert line.endswith(") by key 7f3a9c01: 2 events and 9 lists are stored")
    with database.connect() as connection:
        (row,) = connection.execute(select(audit)).all()
    assert (row.act, row.outcome) == ("look up", '{"in_model":false,"stored_events":2,"impressions":9}')
    assert "bob" not in str(row)


def test_what_failed_as_nobody_thought_of_has_its_line_too(database: Engine, said: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(admin(database).person("ann", None))
    ((_, line),) = said()
    assert line.endswith("failed: ZeroDivisionError: of all things")


def test_a_line_names_what_was_asked_for_and_nobody_who_is_forgotten(database: Engine, said: Any) -> None:
    asked = admin(database)
    asyncio.run(asked.split(SplitRequest(challenger=0.1), None))
    asyncio.run(asked.forget("bob", "7f3a9c01"))
    (split, forgotten) = said()
    assert split == ("WARNING", "split (challenger 0.1, shadow False) by no key (auth is off): done")
    assert forgotten[1].startswith("forget (user_hash '")
    assert forgotten[1].endswith(") by key 7f3a9c01: 2 events deleted, 9 lists without a name now")
    assert "bob" not in forgotten[1]


def test_what_failed_says_why(database: Engine, said: Any) -> None:
    asked = admin(database)
    with pytest.raises(DatabaseError):
        asyncio.run(asked.forget("ann", None))
    with pytest.raises(Exception, match="a Bento serves the version that was packed in"):
        asyncio.run(asked.rollback(RollbackRequest(reason="it sells nothing"), "7f3a9c01"))
    (forgotten, rollback) = said()
    assert forgotten[1].endswith("by no key (auth is off): failed: the database sqlite://: it is away")
    assert rollback[1].startswith("rollback (reason 'it sells nothing') by key 7f3a9c01: failed: a Bento serves")


def test_the_endpoint_refuses_a_version_by_itself(database: Engine, said: Any) -> None:
    note(database, None, "refuse", {"version": 9}, "it is damaged")
    assert said() == [("WARNING", "refuse (version 9) by the endpoint itself: it is damaged")]
