"""Which events are learnt from, chosen on and judged on; what is predicted from what."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recloop.config import Prepare, Split
from recloop.data.prepare import prepare
from recloop.data.prepared import Prepared
from tests.gated import write_gated

TENTHS = Split(valid_share=0.2, test_share=0.2)


def split_of(tmp_path: Path, events: list[Any], split: Split) -> Prepared:
    prepare(write_gated(tmp_path / "gated", events), tmp_path / "prepared", Prepare(min_user_events=1), split)
    return Prepared.load(tmp_path / "prepared")


def predictions(data: Prepared, period: Any) -> list[tuple[str, list[str], str]]:
    """Each case as user, history and target, by their ids."""
    ids, cases = data.item_ids, data.cases[period]
    histories, targets = data.case_histories(period), data.targets(period)
    return [
        (data.user_ids[user], [ids[item] for item in histories[case]], ids[targets[case]])
        for case, user in enumerate(cases.users)
    ]


def second(iso: str) -> float:
    return datetime.fromisoformat(iso).astimezone(UTC).timestamp()


def test_leave_one_out_tests_on_the_last_and_chooses_on_the_one_before(tmp_path: Path) -> None:
    events = [("ann", item, at) for at, item in enumerate("12345")] + [
        ("bob", item, 9 - at) for at, item in enumerate("678")
    ]
    data = split_of(tmp_path, events, Split(kind="leave_one_out"))
    assert predictions(data, "valid") == [("ann", ["1", "2", "3"], "4"), ("bob", ["8"], "7")]
    assert predictions(data, "test") == [("ann", ["1", "2", "3", "4"], "5"), ("bob", ["8", "7"], "6")]
    assert data.periods.tolist() == [0, 0, 0, 1, 2, 0, 1, 2]


def test_leave_one_out_only_learns_from_users_with_fewer_than_three_events(tmp_path: Path) -> None:
    events = [
        ("ann", "1", 1),
        ("ann", "2", 2),
        ("bob", "1", 1),
        ("zoe", "1", 1),
        ("zoe", "2", 2),
        ("zoe", "3", 3),
    ]
    data = split_of(tmp_path, events, Split(kind="leave_one_out"))
    assert [user for user, _, _ in predictions(data, "test")] == ["zoe"]
    assert data.periods.tolist() == [0, 0, 0, 0, 1, 2]
    assert data.train_counts.tolist() == [3, 1, 0]


def test_temporal_cuts_all_users_at_the_same_times(tmp_path: Path) -> None:
    # Ten events at seconds 0…9: six to learn from, two to choose on, two to judge on.
    events = [("ann", str(at), at) for at in (0, 2, 4, 6, 8)] + [("bob", str(at), at) for at in (1, 3, 5, 7, 9)]
    data = split_of(tmp_path, events, TENTHS)
    assert (second(data.meta["train_until"]), second(data.meta["valid_until"])) == (6, 8)
    assert data.periods.tolist() == [0, 0, 0, 1, 2, 0, 0, 0, 1, 2]
    assert predictions(data, "valid") == [("ann", ["0", "2", "4"], "6"), ("bob", ["1", "3", "5"], "7")]
    assert predictions(data, "test") == [
        ("ann", ["0", "2", "4", "6"], "8"),
        ("bob", ["1", "3", "5", "7"], "9"),
    ]


def test_events_at_the_time_of_a_cut_all_belong_to_the_later_period(tmp_path: Path) -> None:
    # The seventh event by time falls among four at second 5: all four are for choosing on.
    seconds = [0, 1, 2, 3, 5, 5, 5, 5, 8, 9]
    data = split_of(tmp_path, [("ann", str(n), at) for n, at in enumerate(seconds)], TENTHS)
    assert second(data.meta["train_until"]) == 5
    assert data.periods.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]


def test_only_a_users_last_events_in_a_period_are_predicted_each_from_all_before_it(tmp_path: Path) -> None:
    events = [("ann", str(at), at) for at in range(10)]
    data = split_of(tmp_path, events, Split(valid_share=0.3, test_share=0.3, targets_per_user=2))
    assert [(len(history), target) for _, history, target in predictions(data, "valid")] == [
        (5, "5"),
        (6, "6"),
    ]
    assert [(len(history), target) for _, history, target in predictions(data, "test")] == [
        (8, "8"),
        (9, "9"),
    ]


def test_the_first_event_of_a_newcomer_is_not_predicted_but_the_next_one_is(tmp_path: Path) -> None:
    events = [("ann", str(at), at) for at in range(8)] + [("new", "0", 8), ("new", "1", 9)]
    data = split_of(tmp_path, events, TENTHS)
    assert predictions(data, "test") == [("new", ["0"], "1")]


def test_a_share_of_the_test_period_may_be_all_there_is_after_training(tmp_path: Path) -> None:
    """Shares are of events, not of time: a rush at the end moves the cuts into it."""
    events = [("ann", str(at), at) for at in range(5)] + [("ann", str(at), 1000 + at) for at in range(5, 10)]
    data = split_of(tmp_path, events, TENTHS)
    assert (second(data.meta["train_until"]), second(data.meta["valid_until"])) == (1006, 1008)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["temporal", "leave_one_out"])
def test_splits_do_what_plain_python_does(tmp_path: Path, seed: int, kind: Any) -> None:
    draw = random.Random(seed)
    events = sorted({(str(draw.randrange(20)), str(draw.randrange(30)), draw.randrange(60)) for _ in range(200)})
    split = Split(kind=kind, valid_share=0.15, test_share=0.25, targets_per_user=1 + seed % 3)
    data = split_of(tmp_path, events, split)

    times = sorted(at for _, _, at in events)
    cuts = times[round(0.6 * len(times))], times[round(0.75 * len(times))]
    expected: dict[str, list[tuple[str, list[str], str]]] = {"valid": [], "test": []}
    for user in sorted({user for user, _, _ in events}, key=lambda user: (len(user), user)):
        own = sorted((at, int(item)) for other, item, at in events if other == user)
        if kind == "temporal":
            periods = [sum(at >= cut for cut in cuts) for at, _ in own]
        else:
            periods = [0] * (len(own) - 2) + [1, 2] if len(own) >= 3 else [0] * len(own)
        for code, name in ((1, "valid"), (2, "test")):
            places = [place for place, period in enumerate(periods) if period == code]
            last = places[-(1 if kind == "leave_one_out" else split.targets_per_user) :]
            history = [str(item) for _, item in own]
            expected[name] += [(user, history[:place], history[place]) for place in last if place]
    assert predictions(data, "valid") == expected["valid"]
    assert predictions(data, "test") == expected["test"]
    for start, end in zip(data.starts, data.ends, strict=True):
        assert np.all(np.diff(data.periods[start:end]) >= 0)
