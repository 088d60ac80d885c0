"""What is popular now: counts that fade, everywhere and by context."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recloop.serving import popularity
from recloop.serving.engine import Engine
from recloop.serving.events import Seen
from recloop.serving.popularity import PopularNow
from tests.packages import write_package

HOUR = 3_600_000_000


class Clock:
    now = 1_000_000 * HOUR

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """What was popular in its data: e 300 times in thirty days (10 a day), d 150 times (5 a day)."""
    folder = write_package(tmp_path / "v1")
    path = folder / "package.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"popular": [4, 3], "popular_counts": [300, 150]}))
    return Engine.load(folder)


def seen(item_id: str, at: int, event: str = "click", **context: str) -> Seen:
    return Seen(1, "ann", item_id, at, event, context or None)


def top(popular: PopularNow, engine: Engine, *contexts: tuple[str, str]) -> list[str]:
    return [engine.item(code)[0] for code in popular.lists(engine).of(contexts)]


def test_what_the_package_says_stands_until_enough_events_say_otherwise(engine: Engine, clock: Clock) -> None:
    """At a half-life of a day, ten a day for ever count 10 / ln 2 = 14.4, five a day 7.2."""
    popular = PopularNow(24 * HOUR, clock)
    assert top(popular, engine) == ["e", "d"]
    popular.add([seen("a", clock.now)] * 7)
    assert top(popular, engine) == ["e", "d", "a"]
    popular.add([seen("a", clock.now)])
    assert top(popular, engine) == ["e", "a", "d"]
    popular.add([seen("a", clock.now)] * 7)
    assert top(popular, engine) == ["a", "e", "d"]


def test_an_event_counts_half_after_the_half_life(engine: Engine, clock: Clock) -> None:
    popular = PopularNow(24 * HOUR, clock)
    popular.add([seen("a", clock.now)] * 10)
    clock.now += 24 * HOUR
    popular.add([seen("b", clock.now)] * 6)
    assert top(popular, engine) == ["e", "d", "b", "a"]
    popular.add([seen("a", clock.now)] * 2)
    assert top(popular, engine) == ["e", "d", "a", "b"]


def test_counting_goes_on_exactly_after_a_very_long_time(engine: Engine, clock: Clock) -> None:
    popular = PopularNow(HOUR, clock)
    popular.add([seen("b", clock.now)] * 1000)
    clock.now += 250 * HOUR
    assert top(popular, engine) == ["e", "d"]
    popular.add([seen("a", clock.now)])
    assert top(popular, engine) == ["a", "e", "d"], "at a half-life of an hour the package's ten a day count 0.6"


def test_an_event_from_the_future_counts_as_of_now(engine: Engine, clock: Clock) -> None:
    popular = PopularNow(HOUR, clock)
    popular.add([seen("a", clock.now + 10_000 * HOUR)])
    assert top(popular, engine) == ["a", "e", "d"]
    clock.now += 2 * HOUR
    assert top(popular, engine) == ["e", "d", "a"]


def test_when_the_clock_is_set_back_what_was_counted_weighs_as_before(engine: Engine, clock: Clock) -> None:
    popular = PopularNow(24 * HOUR, clock)
    clock.now += 24 * HOUR
    popular.add([seen("b", clock.now, country="DE")])
    clock.now -= 48 * HOUR
    popular.add([seen("c", clock.now, country="DE")] * 2)
    assert top(popular, engine, ("country", "DE")) == ["c", "b", "e", "d"], "two clicks are more than one"
    clock.now += 24 * HOUR
    popular.add([seen("b", clock.now, country="DE")])
    assert top(popular, engine, ("country", "DE")) == ["b", "c", "e", "d"], "half a click and one against two halves"


@pytest.mark.parametrize(("years", "expected"), [(50, ["a", "e", "d"]), (-50, ["b", "a", "e", "d"])])
def test_a_clock_that_is_set_right_by_decades_breaks_nothing(
    engine: Engine, clock: Clock, years: int, expected: list[str]
) -> None:
    popular = PopularNow(HOUR, clock)
    popular.add([seen("b", clock.now)] * 9)
    clock.now += years * 8766 * HOUR
    popular.add([seen("a", clock.now)])
    assert top(popular, engine) == expected


def test_a_context_has_a_list_of_its_own_before_everybodys(engine: Engine, clock: Clock) -> None:
    popular = PopularNow(24 * HOUR, clock)
    popular.add([seen("b", clock.now, country="DE"), seen("d", clock.now, country="DE"), seen("c", clock.now)])
    assert top(popular, engine, ("country", "DE")) == ["d", "b", "e", "c"], "of one click each, d is liked elsewhere"
    assert top(popular, engine, ("country", "FR"), ("country", "DE")) == ["d", "b", "e", "c"]
    assert top(popular, engine, ("country", "FR")) == ["e", "d", "b", "c"]


def test_dismissed_and_unknown_items_are_not_popular(engine: Engine, clock: Clock) -> None:
    popular = PopularNow(24 * HOUR, clock)
    popular.add([seen("a", clock.now, "dismiss")] * 99 + [seen("zz", clock.now)] * 99)
    assert top(popular, engine) == ["e", "d"]


def test_lists_say_whether_they_are_the_same(engine: Engine, clock: Clock) -> None:
    popular = PopularNow(24 * HOUR, clock)
    before = popular.lists(engine)
    popular.add([seen("e", clock.now)])
    assert popular.lists(engine).same_as(before), "it was the first already"
    popular.add([seen("e", clock.now, country="DE")])
    assert not popular.lists(engine).same_as(before)


def test_junk_contexts_do_not_push_out_one_that_is_used(
    engine: Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(popularity, "CONTEXTS", 10)
    popular = PopularNow(24 * HOUR, clock)
    popular.add(seen("a", clock.now, junk=str(number)) for number in range(50))
    for number in range(100):
        popular.add([seen("b", clock.now, country="DE"), seen("a", clock.now, junk=f"late {number}")])
    assert top(popular, engine, ("country", "DE"))[0] == "b"
    assert len(popular.lists(engine).by_context) <= 21


def test_junk_items_do_not_push_out_those_that_are_clicked(
    engine: Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(popularity, "COUNTED", 10)
    popular = PopularNow(24 * HOUR, clock)
    for number in range(100):
        popular.add([seen("b", clock.now, country="DE"), seen(f"junk {number}", clock.now, country="DE")])
        assert top(popular, engine)[0] == ("e" if number < 14 else "b")
    assert top(popular, engine, ("country", "DE")) == ["b", "e", "d"]


def test_items_are_counted_before_a_version_knows_them_and_after_it_has_gone(engine: Engine, clock: Clock) -> None:
    popular = PopularNow(24 * HOUR, clock)
    popular.add([seen(f"new {number}", clock.now) for number in range(3000)])
    assert top(popular, engine) == ["e", "d"]
    popular.add([seen("a", clock.now)] * 9)
    assert top(popular, engine) == ["e", "a", "d"]
