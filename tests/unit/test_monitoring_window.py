"""Which traffic is judged: by time of receipt, and never what another model answered."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert

from monitoring import window
from monitoring.live import LiveModel, live_model
from monitoring.window import (
    HOUR,
    RECEIVED,
    Window,
    before,
    count_events,
    count_lists,
    read_earlier,
    read_events,
    read_lists,
)
from recloop.data.schema import INTERACTIONS
from recloop.errors import RegistryError, StageError
from recloop.serving.events import events
from recloop.serving.impressions import impressions
from recloop.storage import connect

NOW = 100 * HOUR
LIVE = LiveModel(version=2, since=10 * HOUR, newest=None, feedback_watermark=1)


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    engine = connect(database_url)
    with engine.begin() as opened:
        yield opened
    engine.dispose()


def receive(connection: Connection, *arrivals: tuple[str, int], timestamp: int = 5) -> None:
    """(user, received_at) each."""
    known = connection.execute(events.select()).all()
    rows = [
        {
            "event_id": f"e{len(known) + number}",
            "user_id": user,
            "item_id": "i1",
            "event": "click",
            "value": 1.0,
            "timestamp": timestamp,
            "received_at": received_at,
        }
        for number, (user, received_at) in enumerate(arrivals)
    ]
    connection.execute(insert(events), rows)


def serve(
    connection: Connection,
    served_at: int,
    version: int = 2,
    scores: tuple[float, ...] = (0.5, 0.25),
    user: str | None = "u",
) -> None:
    row = {
        "request_id": "r",
        "user_id": user,
        "served_at": served_at,
        "version": version,
        "variant": "champion",
        "strategy": "model",
        "items": ["i2", "i1"],
        "scores": list(scores),
        "history_length": 3,
    }
    connection.execute(insert(impressions), [row])


def test_the_first_window_begins_when_the_model_went_live() -> None:
    assert Window.after(None, 12 * HOUR, LIVE) == Window(10 * HOUR, 12 * HOUR)


def test_windows_stand_end_to_end() -> None:
    assert Window.after(76 * HOUR, NOW, LIVE) == Window(76 * HOUR, NOW)


def test_a_model_that_went_live_anew_is_not_accused_of_what_another_answered() -> None:
    assert Window.after(7 * HOUR, NOW, LIVE) == Window(10 * HOUR, NOW)


def test_a_model_that_went_live_after_now_has_an_empty_window() -> None:
    assert Window.after(None, 9 * HOUR, LIVE) == Window(9 * HOUR, 9 * HOUR)


def test_lists_are_judged_once_when_their_time_for_feedback_is_over() -> None:
    first, second = Window(10 * HOUR, 34 * HOUR), Window(34 * HOUR, 58 * HOUR)

    assert first.shown(LIVE, 2 * HOUR) == Window(10 * HOUR, 32 * HOUR)
    assert second.shown(LIVE, 2 * HOUR) == Window(32 * HOUR, 56 * HOUR)
    assert first.shown(LIVE, 30 * HOUR) == Window(10 * HOUR, 10 * HOUR)


def test_the_start_is_in_the_window_and_the_end_is_not(connection: Connection) -> None:
    receive(connection, ("before", 99), ("start", 100), ("inside", 199), ("end", 200))

    window = Window(100, 200)

    assert count_events(connection, window) == 2
    assert read_events(connection, window)["user_id"].to_pylist() == ["start", "inside"]


def test_a_clients_clock_does_not_move_an_event_into_the_window(connection: Connection) -> None:
    receive(connection, ("late", 50), timestamp=150)
    receive(connection, ("early", 150), timestamp=-7)

    found = read_events(connection, Window(100, 200))

    assert found.select(INTERACTIONS.names).schema == INTERACTIONS
    assert found["received_at"].to_pylist() == [150]
    assert found["user_id"].to_pylist() == ["early"]
    assert found["timestamp"].cast("int64").to_pylist() == [-7]


def test_an_empty_database_is_an_empty_table(connection: Connection) -> None:
    assert read_events(connection, Window(0, NOW)).num_rows == 0
    assert read_events(connection, Window(0, NOW)).schema == RECEIVED
    assert read_lists(connection, Window(0, NOW), LIVE.version).num_rows == 0


def test_earlier_events_are_those_before_the_window_that_the_model_does_not_know(
    connection: Connection,
) -> None:
    receive(connection, ("a", 50), ("a", 60), ("a", 70), ("b", 80), ("b", 100))  # seq 1 is known to the model

    found = read_earlier(connection, Window(100, 200), LIVE)

    assert dict(zip(found["user_id"].to_pylist(), found["earlier"].to_pylist(), strict=True)) == {
        "a": 2,
        "b": 1,
    }
    assert read_earlier(connection, Window(200, 300), LIVE)["earlier"].to_pylist() == [2, 2], "nothing came in since"


def test_lists_of_another_version_do_not_count(connection: Connection) -> None:
    serve(connection, 150)
    serve(connection, 150, version=1)
    serve(connection, 200)

    assert count_lists(connection, Window(100, 200), LIVE.version) == 1


def test_a_list_has_its_items_and_the_score_of_the_first(connection: Connection) -> None:
    serve(connection, 150)
    serve(connection, 151, scores=())

    found = read_lists(connection, Window(100, 200), LIVE.version).to_pylist()

    assert [(row["items"], row["top_score"]) for row in found] == [(["i2", "i1"], 0.5), (["i2", "i1"], None)]


def test_of_too_many_all_is_read_of_the_same_users(connection: Connection) -> None:
    users = [f"user {number}" for number in range(200)]
    receive(connection, *[(user, 150) for user in users for _ in range(3)])
    for user in users:
        serve(connection, 150, user=user)
    for _ in range(100):  # every other one, and so every even number, is of another version
        serve(connection, 150, user=None)
        serve(connection, 150, user=None, version=1)
    everything = Window(100, 200)

    of_events = Counter(read_events(connection, everything, 4)["user_id"].to_pylist())
    of_lists = Counter(read_lists(connection, everything, LIVE.version, 4)["user_id"].to_pylist())

    assert 30 < len(of_events) < 70
    assert set(of_events.values()) == {3}
    assert 15 < of_lists.pop(None) < 35
    assert of_lists.keys() == of_events.keys()
    assert set(read_earlier(connection, Window(160, 200), LIVE, 4)["user_id"].to_pylist()) == of_events.keys()


def test_what_was_before_the_window_reaches_back_to_when_the_model_went_live(connection: Connection) -> None:
    receive(connection, ("u", 9 * HOUR), ("u", 20 * HOUR), ("u", 80 * HOUR))
    assert before(connection, Window(76 * HOUR, NOW), LIVE, 1) == Window(10 * HOUR, 76 * HOUR)
    assert before(connection, Window(10 * HOUR, NOW), LIVE, 3) == Window(10 * HOUR, 10 * HOUR), "it is the first one"


@pytest.mark.parametrize(("count", "since"), [(1, 70), (3, 70), (4, 60), (8, 20), (9, 10)])
def test_of_much_traffic_only_the_last_is_what_was_before_however_slow_the_window(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, count: int, since: int
) -> None:
    """As many events as are enough, or as the window has."""
    receive(connection, *(("u", hour * HOUR) for hour in (*range(20, 80, 10), 70, 70, 80)))
    monkeypatch.setattr(window, "BEFORE", 3)
    assert before(connection, Window(76 * HOUR, 78 * HOUR), LIVE, count) == Window(since * HOUR, 76 * HOUR)


def write_live(folder: Path, **package: object) -> None:
    (folder / "v4").mkdir(parents=True)
    pointer = {
        "version": 4,
        "folder": "v4",
        "since": "1970-01-01T01:00:00+01:00",
        "previous": 3,
        "reason": "better",
    }
    (folder / "champion.json").write_text(json.dumps(pointer))
    content = {"format": 1, "newest": "1970-01-01T00:00:01.000002+00:00", "feedback_watermark": 9} | package
    (folder / "v4" / "package.json").write_text(json.dumps(content))


def test_the_live_model_is_what_the_pointer_and_its_package_say(tmp_path: Path) -> None:
    write_live(tmp_path)
    assert live_model(tmp_path) == LiveModel(version=4, since=0, newest=1_000_002, feedback_watermark=9, previous=3)


def test_without_a_champion_the_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"no model is live.*\n.*`recloop promote`"):
        live_model(tmp_path)


def test_a_damaged_package_is_named(tmp_path: Path) -> None:
    write_live(tmp_path, feedback_watermark="many")
    with pytest.raises(RegistryError, match=r"package\.json is damaged: feedback_watermark"):
        live_model(tmp_path)


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    write_live(tmp_path)
    (tmp_path / "v4" / "package.json").unlink()
    with pytest.raises(StageError, match=r"package\.json is missing\n.*`recloop deploy`"):
        live_model(tmp_path)
