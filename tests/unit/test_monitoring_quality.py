"""How good the lists were, by what users did with them. Numbers small enough to check by hand, or planted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, insert

from monitoring.backend import duckdb
from monitoring.feedback import read_feedback
from monitoring.positions import FEWEST_PLACED, corrected, looked_at
from monitoring.quality import Figures, Quality, Record, compare_versions, quality_of, record_of
from monitoring.tallies import CLUSTERS, Tallies, Tally
from monitoring.window import Window
from recloop.serving.events import events
from recloop.serving.impressions import impressions
from recloop.storage import connect

WINDOW, ATTRIBUTION = Window(1000, 2000), 100


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    engine = connect(f"sqlite:///{tmp_path}/recloop.db")
    with engine.begin() as opened:
        yield opened
    engine.dispose()


def serve(connection: Connection, served_at: int, items: Sequence[str], user: str | None = "u", **columns: Any) -> None:
    """A list of items, e.g. called by one letter each."""
    row = {
        "request_id": f"r{served_at}",
        "user_id": user,
        "served_at": served_at,
        "version": 1,
        "variant": "champion",
        "strategy": "model",
        "items": list(items),
        "scores": [],
        "history_length": 3,
    }
    connection.execute(insert(impressions), [row | columns])


def act(
    connection: Connection, at: int, item: str, kind: str = "click", user: str = "u", names: str | None = None
) -> None:
    row = {
        "event_id": f"{at} {user} {item} {kind}",
        "user_id": user,
        "item_id": item,
        "event": kind,
        "value": 1.0,
        "timestamp": 0,
        "received_at": at,
        "request_id": names,
    }
    connection.execute(insert(events), [row])


def judged(connection: Connection, k: int = 10, clip: float = 10.0) -> Quality:
    with duckdb() as backend:
        return quality_of(tallies(backend, connection, WINDOW, k), WINDOW, ATTRIBUTION, clip)


def tallies(backend: Any, connection: Connection, window: Window, k: int = 10) -> Tallies:
    return Tallies(backend, read_feedback(backend, connection, window, ATTRIBUTION), k)


def recorded(connection: Connection, window: Window, version: int, within: Window | None = None) -> Record | None:
    with duckdb() as backend:
        return record_of(tallies(backend, connection, within or window), window, version)


def overall(connection: Connection, k: int = 10) -> Figures:
    found = judged(connection, k).overall
    assert found is not None
    return found


def of_version(quality: Quality, version: int) -> Figures:
    return next(each.figures for each in quality.versions if each.version == version)


def test_without_lists_there_is_nothing_to_judge(connection: Connection) -> None:
    act(connection, 1500, "a")
    quality = judged(connection)
    assert quality.overall is None
    assert quality.versions == () and quality.groups == {} and quality.notes == ()


def test_what_the_user_took_are_the_right_answers(connection: Connection) -> None:
    serve(connection, 1500, "abcd")
    act(connection, 1510, "b")
    act(connection, 1511, "d")
    act(connection, 1512, "d")  # once is enough
    act(connection, 1513, "d", "purchase")
    act(connection, 1514, "x")  # not in the list

    found = overall(connection)

    ideal = 1 / log2(2) + 1 / log2(3)
    assert found.ndcg.mean == pytest.approx((1 / log2(3) + 1 / log2(5)) / ideal)
    assert found.mrr.mean == 1 / 2
    assert found.hit_rate.mean == 1
    assert {kind: rate.mean for kind, rate in found.rates.items()} == {"click": 1, "purchase": 1}
    assert found.take_rate is not None and found.take_rate.mean == 2 / 4


def test_places_after_the_kth_are_no_hits_but_what_was_taken_there_was_wanted(connection: Connection) -> None:
    serve(connection, 1500, "abcd")
    act(connection, 1510, "b")
    act(connection, 1511, "d")

    found = overall(connection, k=2)

    assert found.ndcg.mean == pytest.approx((1 / log2(3)) / (1 / log2(2) + 1 / log2(3)))
    assert found.take_rate is not None and found.take_rate.mean == 1 / 2
    assert overall(connection, k=1).hit_rate.mean == 0


def test_rates_are_shares_of_lists_and_lists_without_feedback_count(connection: Connection) -> None:
    for served_at in (1500, 1600, 1700, 1800):
        serve(connection, served_at, "ab")
    act(connection, 1510, "a")
    act(connection, 1610, "b", "rating")
    act(connection, 1710, "b", "dismiss")

    found = overall(connection)

    assert {kind: rate.mean for kind, rate in found.rates.items()} == {"click": 1 / 4, "rating": 1 / 4}
    assert found.hit_rate.mean == 2 / 4
    assert found.mrr.mean == (1 + 1 / 2) / 4
    assert (found.lists, found.users) == (4, 1)


def test_an_event_counts_for_the_latest_list_before_it_that_holds_the_item(connection: Connection) -> None:
    serve(connection, 1500, "a", version=1)
    serve(connection, 1520, "ab", version=2)
    serve(connection, 1540, "b", version=3)
    serve(connection, 1560, "a", version=4)
    act(connection, 1550, "a")

    rates = {each.version: each.figures.hit_rate.mean for each in judged(connection).versions}

    assert rates == {1: 0, 2: 1, 3: 0, 4: 0}


def test_an_event_counts_for_the_list_that_it_names(connection: Connection) -> None:
    serve(connection, 1500, "a", version=1)
    serve(connection, 1520, "a", version=2)
    act(connection, 1550, "a", names="r1500")

    quality = judged(connection)

    assert of_version(quality, 1).hit_rate.mean == 1
    assert of_version(quality, 2).hit_rate.mean == 0


def test_an_event_of_somebody_else_or_that_comes_too_late_counts_for_none(connection: Connection) -> None:
    serve(connection, 1500, "abc")
    act(connection, 1600, "a")  # just in time
    act(connection, 1601, "b")
    act(connection, 1550, "c", user="v")

    assert overall(connection).take_rate is not None
    assert overall(connection).take_rate.mean == pytest.approx(1 / 3)  # type: ignore[union-attr]


def test_a_list_of_the_windows_end_has_its_time_and_later_lists_keep_what_is_theirs(connection: Connection) -> None:
    serve(connection, 999, "a")  # before the window
    serve(connection, 1999, "abc")
    serve(connection, 2000, "b")  # after it
    act(connection, 2099, "a")
    act(connection, 2050, "b")
    act(connection, 2100, "c")

    found = overall(connection)

    assert found.lists == 1
    assert found.take_rate is not None and found.take_rate.mean == pytest.approx(1 / 3)


def test_lists_of_nobody_take_no_part(connection: Connection) -> None:
    serve(connection, 1500, "a", user=None)
    assert judged(connection).overall is None


def test_a_list_in_shadow_is_judged_by_what_the_user_took_and_takes_nothing_from_the_shown_one(
    connection: Connection,
) -> None:
    serve(connection, 1500, "ab")
    serve(connection, 1501, "ca", version=2, variant="shadow")
    act(connection, 1510, "a")
    act(connection, 1511, "c")  # found elsewhere

    quality = judged(connection)
    shown, shadow = of_version(quality, 1), of_version(quality, 2)

    assert quality.overall is not None and quality.overall.lists == shown.lists == 1
    assert shown.mrr.mean == 1
    assert shadow.ndcg.mean == shadow.hit_rate.mean == 1
    assert shadow.rates == {} and shadow.take_rate is None


def test_groups_are_of_how_much_was_known_when_the_list_was_made(connection: Connection) -> None:
    for served_at, known in ((1500, 0), (1510, 1), (1520, 9), (1530, 10)):
        serve(connection, served_at, "a", user=f"u{known}", history_length=known)
    act(connection, 1540, "a", user="u0")

    groups = judged(connection).groups

    assert {name: group.lists for name, group in groups.items()} == {"newcomers": 1, "few": 2, "many": 1}
    assert [groups[name].hit_rate.mean for name in ("newcomers", "few", "many")] == [1, 0, 0]


def test_intervals_are_of_users_and_not_of_lists(connection: Connection) -> None:
    """A hundred lists of two users, one who takes everything: nobody knows what a third one would do."""
    for number in range(100):
        serve(connection, 1500 + number, "a", user="uv"[number % 2])
        if number % 2:
            act(connection, 1500 + number, "a", user="v")

    found = overall(connection).hit_rate

    assert (found.mean, found.low, found.high) == (0.5, 0.0, 1.0)


def test_the_result_is_json(connection: Connection) -> None:
    serve(connection, 1500, ["é", 'q"uoted'], user="ü")
    act(connection, 1510, 'q"uoted', user="ü")

    quality = judged(connection)

    assert quality.overall is not None and quality.overall.mrr.mean == 0.5
    assert json.loads(json.dumps(asdict(quality)))["overall"]["rates"]["click"]["mean"] == 1


# Two versions.


def record(version: int, *rates: float, lists: int = 10, since: int = 0) -> Record:
    """Of users from the number `since` on, each with so many lists and such a click rate."""
    table = np.zeros((2, CLUSTERS))
    table[:, since : since + len(rates)] = [[lists] * len(rates), [lists * rate for rate in rates]]
    return Record(version, Tally(len(rates), {"lists": table[0], "click": table[1]}, {}))


def test_a_version_is_worse_where_chance_does_not_explain_it() -> None:
    before, live = record(1, *[0.5, 0.3] * 50), record(2, *[0.4, 0.2] * 50, since=30)

    found = compare_versions(live, before, "click")

    assert (found.live, found.before) == (pytest.approx(0.3), pytest.approx(0.4))
    assert found.difference.mean == pytest.approx(-0.1)
    assert found.worse
    assert not compare_versions(before, live, "click").worse


def test_what_chance_explains_is_not_worse() -> None:
    assert not compare_versions(record(2, 0.0, 1.0, 0.2), record(1, 0.9, 0.1, 0.5), "click").worse


def test_what_users_are_like_who_were_there_both_times_cancels_out() -> None:
    """All did a little less, however much they did before; of other users nobody could say so."""
    rates = np.linspace(0.1, 0.9, 20)
    live, before, others = record(2, *(rates - 0.02)), record(1, *rates), record(1, *rates, since=100)
    assert compare_versions(live, before, "click").worse
    assert not compare_versions(live, others, "click").worse


def test_a_kind_of_event_that_does_not_occur_has_a_rate_of_0() -> None:
    found = compare_versions(record(2, 0.5), record(1, 0.4), "purchase")
    assert (found.live, found.before) == (0, 0)
    assert not found.worse


def test_records_of_two_windows_know_their_users_again(connection: Connection) -> None:
    for user in "uvw":
        serve(connection, 1500, "a", user=user, version=1)
        serve(connection, 2500, "a", user=user, version=2)
        act(connection, 1510, "a", user=user)
    serve(connection, 2501, "a", version=1)

    before = recorded(connection, WINDOW, 1)
    live = recorded(connection, Window(2000, 3000), 2)

    assert before is not None and live is not None
    assert (np.flatnonzero(before.tally.sums["lists"]) == np.flatnonzero(live.tally.sums["lists"])).all()
    assert compare_versions(live, before, "hit_rate").difference.high == -1
    assert recorded(connection, WINDOW, 3) is None


def test_a_part_of_a_longer_feedback_is_judged_like_a_feedback_of_its_own(connection: Connection) -> None:
    for number in range(30):
        serve(connection, 1900 + 10 * number, "abc", user=f"u{number % 7}", version=1 + number % 2)
        act(connection, 1905 + 10 * number, "abc"[number % 3], user=f"u{number % 7}")
    whole = Window(1000, 3000)
    for part in (WINDOW, Window(2000, 3000)):
        for version in (1, 2):
            alone, within = recorded(connection, part, version), recorded(connection, part, version, whole)
            assert alone is not None and within is not None
            assert alone.tally.users == within.tally.users
            for name, sums in {**alone.tally.sums, **alone.tally.places}.items():
                assert ({**within.tally.sums, **within.tally.places}[name] == sums).all(), name


# Places.


def test_looks_never_rise_and_a_place_without_chance_is_like_its_neighbours() -> None:
    placed, taken = np.array([100.0, 100, 100, 0, 100]), np.array([40.0, 18, 22, 0, 10])
    assert looked_at(placed, taken).tolist() == pytest.approx([1, 0.5, 0.5, 0.375, 0.25])


def test_a_weight_is_clipped_above_and_below_the_line() -> None:
    """Everything that was looked at was taken: 20 of 20, and one of 100, a hundredth of which was looked at."""
    shown, taken, looked = np.array([20.0, 100.0]), np.array([20.0, 1.0]), np.array([1.0, 0.01])
    assert corrected(shown, taken, looked, clip=1000) == pytest.approx(1)
    assert corrected(shown, taken, looked, clip=10) == pytest.approx(1)


LOOKS = np.array([1.0, 0.6, 0.4, 0.25, 0.15])
WANTED = {1: 0.5, 2: 0.4}
"""Share of its items that users of a version want, if they look; of those that chance places, half as much"""


def plant(connection: Connection, lists: int, explore: float, seed: int = 0) -> None:
    """Version 1 shows five items, version 2 only two, where people look."""
    rng = np.random.default_rng(seed)
    shown, done = [], []
    for number in range(lists):
        version = 1 + number % 2
        count = 5 if version == 1 else 2
        by_chance = rng.random(count) < explore
        wants = rng.random(count) < np.where(by_chance, 0.5, 1.0) * WANTED[version]
        looks = rng.random(count) < LOOKS[:count]
        user, served_at = f"u{number % (lists // 4)}", 1000 + number % 1000
        row = {
            "request_id": f"r{number}",
            "user_id": user,
            "served_at": served_at,
            "version": version,
            "variant": "champion",
            "strategy": "model",
            "items": [f"{number} {place}" for place in range(count)],
            "scores": [1.0] * count,
            "history_length": 3,
            "chances": np.where(by_chance, explore / 40, 1 - explore).tolist() if explore else None,
        }
        shown.append(row)
        done += [
            {
                "event_id": item,
                "user_id": user,
                "item_id": item,
                "event": "click",
                "value": 1.0,
                "timestamp": 0,
                "received_at": served_at + 1,
            }
            for item, takes in zip(row["items"], wants & looks, strict=True)
            if takes
        ]
    connection.execute(insert(impressions), shown)
    connection.execute(insert(events), done)


def true_rate(version: int, explore: float) -> float:
    return WANTED[version] * (1 - explore / 2)


def test_planted_looks_are_found_and_rates_corrected_by_them(connection: Connection) -> None:
    plant(connection, 20_000, explore=0.3)

    quality = judged(connection, k=5)

    assert quality.looked_at == pytest.approx(LOOKS, abs=0.05)
    for version in (1, 2):
        found, truth = of_version(quality, version), true_rate(version, 0.3)
        assert found.take_rate is not None and found.corrected is not None
        assert found.corrected.low < truth < found.corrected.high
        assert found.corrected.mean == pytest.approx(truth, rel=0.05)
        assert found.take_rate.high < truth * 0.85
    # Taken as they are, the figures say that version 2 is better, though its users want less of what it shows.
    first, second = (of_version(quality, version) for version in (1, 2))
    assert first.take_rate.high < second.take_rate.low  # type: ignore[union-attr]
    assert first.corrected.low > second.corrected.high  # type: ignore[union-attr]


@pytest.mark.parametrize("explore", [0.0, 0.02])
def test_where_chance_placed_too_little_nothing_is_corrected_and_it_says_why(
    connection: Connection, explore: float
) -> None:
    plant(connection, 800, explore)

    quality = judged(connection, k=5)

    assert quality.looked_at is None
    assert quality.overall is not None and quality.overall.corrected is None
    assert len(quality.notes) == 1
    assert quality.notes[0].startswith("Not corrected for places: in full lists chance placed ")
    assert f"it takes {FEWEST_PLACED}" in quality.notes[0]


def test_where_clipping_would_decide_nothing_is_corrected_and_it_says_what_would_help(connection: Connection) -> None:
    plant(connection, 20_000, explore=0.3)

    quality = judged(connection, k=5, clip=1.5)

    assert quality.looked_at is None
    assert quality.overall is not None and quality.overall.corrected is None
    (note,) = quality.notes
    # Places 1 to 5 count for 1, 0.9, 0.6, 0.375 and 0.225 of themselves, and the first two are shown twice as often.
    found = re.search(
        r"monitoring\.clip, 1\.5, leaves (\d+)% of the weights; it takes 75%\. A higher one leaves more", note
    )
    assert found is not None
    assert int(found[1]) == pytest.approx(71, abs=3)
