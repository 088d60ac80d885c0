"""What is read for a judgement: once, and of very much traffic all of some users."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from monitoring import window as windows
from monitoring.backend import duckdb
from monitoring.live import LiveModel
from monitoring.seen import Seen, look
from monitoring.window import HOUR, Window
from recloop.config import Params
from recloop.data.schema import INTERACTIONS
from recloop.project import Project
from recloop.storage import connect
from tests.shop import change_params
from tests.unit.test_monitoring_quality import act, serve

LIVE = LiveModel(version=1, since=10 * HOUR, newest=None, feedback_watermark=0)
WINDOW = Window(30 * HOUR, 40 * HOUR)
MINUTE = HOUR // 60


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    engine = connect(f"sqlite:///{tmp_path}/recloop.db")
    with engine.begin() as opened:
        yield opened
    engine.dispose()


@pytest.fixture
def params(tmp_path: Path) -> Params:
    shutil.copy(Path(__file__).parents[2] / "params.yaml", tmp_path)
    change_params(tmp_path, {"monitoring.attribution_hours": 4})
    return Project(tmp_path).params


def visit(connection: Connection, user: str, at: int) -> None:
    """A list of which the user takes something an hour later."""
    serve(connection, at, "ab", user=user)
    act(connection, at + HOUR, "a", user=user)


def seen_of(connection: Connection, params: Params) -> tuple[Seen, set[str]]:
    """And of whom the lists are."""
    with duckdb() as backend:
        seen = look(backend, connection, WINDOW, LIVE, params)
        return seen, set(seen.feedback.lists.user_id.execute())


def test_what_was_before_and_what_is_judged_are_read_together(connection: Connection, params: Params) -> None:
    visit(connection, "of another version", 8 * HOUR)
    visit(connection, "before", 20 * HOUR)
    visit(connection, "shown just before", 27 * HOUR)
    visit(connection, "inside", 35 * HOUR)
    visit(connection, "can be taken still", 38 * HOUR)
    visit(connection, "after", 41 * HOUR)

    seen, users = seen_of(connection, params)

    assert (seen.before, seen.shown_before) == (Window(10 * HOUR, 30 * HOUR), Window(10 * HOUR, 26 * HOUR))
    assert (seen.shown, seen.count, seen.count_before) == (Window(26 * HOUR, 36 * HOUR), 2, 2)
    assert seen.received.schema == INTERACTIONS
    assert seen.received["user_id"].to_pylist() == ["inside", "can be taken still"]
    assert seen.log_of(seen.before)["user_id"].to_pylist() == ["before", "shown just before"]
    assert users == {"before", "shown just before", "inside"}


@pytest.mark.parametrize("lists_of_a_user", [1, 9])
def test_of_too_many_there_is_all_of_some_users(
    connection: Connection, params: Params, monkeypatch: pytest.MonkeyPatch, lists_of_a_user: int
) -> None:
    """Where lists are many, of fewer users than events are, and of some of the same ones."""
    for number in range(300):
        for at in range(lists_of_a_user):
            visit(connection, f"user {number}", 20 * HOUR + number * MINUTE + at)
            serve(connection, 33 * HOUR + number + at, "ab", user=f"user {number}")
        act(connection, 39 * HOUR + number, "b", user=f"user {number}")
    monkeypatch.setattr(windows, "READ", (lists_of_a_user + 1) * 100)

    seen, users = seen_of(connection, params)

    of_events = set(seen.log["user_id"].to_pylist())
    assert seen.step == 3 and 60 < len(of_events) < 140
    assert seen.count == 300, "all are counted"
    assert seen.log.num_rows == (lists_of_a_user + 1) * len(of_events)
    assert users < of_events
    assert seen.feedback.step % seen.step == 0 and 0 < len(users) < 300 / seen.feedback.step * 2


def test_where_the_few_users_of_a_window_are_all_left_out_everybodys_events_are_read(
    connection: Connection, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        visit(connection, f"user {number}", 20 * HOUR + number)
    for number in range(300):
        act(connection, 39 * HOUR + number, "b", user="the only one")
    monkeypatch.setattr(windows, "BEFORE", 300)
    monkeypatch.setattr(windows, "READ", 1)

    seen, _ = seen_of(connection, params)

    assert (seen.step, seen.count, seen.received.num_rows) == (1, 300, 300)
