"""Who answers whom: a stable place for every user, and a split that all processes read."""

from __future__ import annotations

from typing import Any

import numpy as np

from recloop.serving.traffic import Plan, Split, SplitStore, place
from recloop.storage import connect


def plan(split: Split, challenger: Any = "challenger") -> Plan:
    served: Any = "champion"
    return Plan(served, challenger, split)


def test_a_users_place_is_the_same_everywhere_and_always() -> None:
    assert place("ann") == 0.8977426896490168
    assert place("bob") == 0.5174964583767302


def test_places_are_spread_evenly() -> None:
    places = np.sort([place(f"user-{number}") for number in range(10_000)])
    assert np.abs(places - np.linspace(0, 1, 10_000)).max() < 0.02


def test_the_split_is_by_place_and_a_growing_share_moves_nobody_back() -> None:
    users = [f"user-{number}" for number in range(5_000)]
    before: set[str] = set()
    for share in (0.0, 0.1, 0.5, 1.0):
        now = {user for user in users if plan(Split(share)).pick(user)[1] == "challenger"}
        assert abs(len(now) / len(users) - share) < 0.02
        assert before <= now
        before = now


def test_who_is_not_named_gets_the_champion_and_so_does_everybody_without_a_challenger() -> None:
    assert plan(Split(1.0)).pick(None) == ("champion", "champion")
    assert plan(Split(1.0), None).pick("ann") == ("champion", "champion")
    assert plan(Split(1.0)).pick("ann") == ("challenger", "challenger")


def test_in_shadow_the_challenger_answers_nobody_and_is_asked_all_the_same() -> None:
    shadow = plan(Split(shadow=True))
    assert (shadow.pick("ann")[1], shadow.shadow) == ("champion", "challenger")
    assert plan(Split(0.5)).shadow is None


def test_the_newest_split_holds_for_every_process(database_url: str) -> None:
    mine, theirs = SplitStore(connect(database_url)), SplitStore(connect(database_url))
    assert theirs.read() == Split(0.0, False)
    mine.write(Split(0.25, True), "key-1")
    assert theirs.read() == Split(0.25, True)
    mine.write(Split(0.0, False), "key-1")
    assert theirs.read() == Split(0.0, False)
