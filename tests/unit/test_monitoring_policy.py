"""From figures and thresholds to a verdict with reasons."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from monitoring.moments import to_micros
from monitoring.pace import Pace, volume
from monitoring.policy import Judgement, judge, quiet_until, with_new_data
from monitoring.run import not_yet
from monitoring.signals import ARRIVAL_SIGNALS, EVENT_SIGNALS, LIST_SIGNALS, Finding
from monitoring.window import HOUR, Window
from recloop.config import Monitoring, QuietHours, Watched, Watching, validated
from recloop.errors import ConfigError

POPULARITY = Finding("item_popularity", 0.31, 0.12, "decile 10: 9.0% → 30.0%")
UNKNOWN = Finding("unknown_items", 0.04, 0.01, "unknown: 0.5% → 1.0%")
SCORE = Finding("top_score", 0.5, 0.1, "from 9: 1.2% → 9.9%")


def watching(**matters: float | None) -> Watching:
    return Watching(**{name: Watched(matters=value) for name, value in matters.items()})


def test_a_signal_at_or_above_its_threshold_is_drift_and_the_reason_has_the_figures() -> None:
    judgement = judge([UNKNOWN, POPULARITY], watching(item_popularity=0.15, unknown_items=0.1))

    assert judgement.outcome == "drift"
    assert judgement.reasons == ("item_popularity: Jensen-Shannon distance 0.310 ≥ 0.15 (decile 10: 9.0% → 30.0%)",)
    assert [(signal.name, signal.drifted) for signal in judgement.signals] == [
        ("unknown_items", False),
        ("item_popularity", True),
    ]


@pytest.mark.parametrize(("threshold", "outcome"), [(0.3100001, "ok"), (0.31, "drift"), (0.3099999, "drift")])
def test_the_threshold_itself_counts_as_drifted(threshold: float, outcome: str) -> None:
    assert judge([POPULARITY], watching(item_popularity=threshold)).outcome == outcome


def test_a_change_that_chance_may_have_made_is_none_however_large() -> None:
    judgement = judge([replace(POPULARITY, chance=0.35), UNKNOWN], watching(item_popularity=0.15, unknown_items=0.05))

    assert judgement.outcome == "ok"
    assert "item_popularity: Jensen-Shannon distance 0.310 < 0.35 (" in judgement.reasons[0]
    assert judgement.signals[0].bound == 0.35


def test_without_drift_the_reason_names_the_signal_nearest_to_its_threshold() -> None:
    # 0.31 of 0.5 is 62% of the way; 0.04 of 0.05 is 80%.
    judgement = judge([POPULARITY, UNKNOWN], watching(item_popularity=0.5, unknown_items=0.05))

    assert judgement.outcome == "ok"
    (reason,) = judgement.reasons
    assert reason.startswith("no signal reached its threshold; nearest is unknown_items: ")
    assert reason.endswith("Jensen-Shannon distance 0.040 < 0.05 (unknown: 0.5% → 1.0%)")


def test_a_signal_without_a_threshold_is_only_reported() -> None:
    judgement = judge([SCORE], watching(top_score=None))

    assert judgement.outcome == "ok"
    assert judgement.reasons == ("no signal has a threshold",)
    assert not judgement.signals[0].drifted
    assert str(judgement.signals[0]) == (
        "top_score: Jensen-Shannon distance 0.500 (only reported) (from 9: 1.2% → 9.9%)"
    )


@pytest.mark.parametrize(
    ("severity", "outcome"), [("note", "ok"), ("warn", "warn"), ("retrain", "drift"), ("roll back", "drift")]
)
def test_how_grave_a_signal_is_decides_what_comes_of_it(severity: str, outcome: str) -> None:
    grave = Watching.model_validate({"item_popularity": {"matters": 0.1, "severity": severity}})

    judgement = judge([POPULARITY, UNKNOWN], grave)

    assert judgement.outcome == outcome
    assert [reason.split(":")[0] for reason in judgement.reasons] == ["item_popularity"]


def test_what_is_worth_a_rollback_comes_first_and_is_one_where_there_is_a_version_to_go_back_to() -> None:
    grave = Watching.model_validate(
        {"unknown_items": {"matters": 0.01}, "item_popularity": {"matters": 0.1, "severity": "roll back"}}
    )
    judgement = judge([UNKNOWN, POPULARITY], grave, can_roll_back=True)

    assert judgement.outcome == "worse"
    assert [reason.split(":")[0] for reason in judgement.reasons] == ["item_popularity", "unknown_items"]
    assert with_new_data(judgement, 900, 1000, 0.2) == judgement


def test_a_signal_that_has_to_drift_in_three_windows_in_a_row_counts_in_the_third() -> None:
    patient = Watching.model_validate({"item_popularity": {"matters": 0.1, "windows": 3}})
    drifted, calm = {"item_popularity"}, {"category"}
    outcomes = [
        judge([POPULARITY], patient, earlier).outcome
        for earlier in ([], [drifted], [drifted, drifted], [drifted, calm, drifted], [calm, drifted, drifted])
    ]

    assert outcomes == ["ok", "ok", "drift", "ok", "ok"]
    (reason,) = judge([POPULARITY], patient, [drifted]).reasons
    assert reason.endswith("; counts if it lasts for 1 more")


def test_enough_new_events_are_a_reason_where_there_is_no_other() -> None:
    calm, grave = Judgement("ok", (), ("all is well",)), Judgement("drift", (), ("it moved",))

    assert with_new_data(calm, 199, 1000, 0.2) == calm
    assert with_new_data(calm, 900, 1000, None) == calm
    assert with_new_data(grave, 900, 1000, 0.2) == grave
    found = with_new_data(calm, 200, 1000, 0.2)
    assert (found.outcome, found.reasons) == (
        "new data",
        ("200 new events, 20% of the 1,000 learnt; monitoring.new_data is 20%", "all is well"),
    )


@pytest.mark.parametrize(
    ("now", "quiet"),
    [("2026-07-01T20:00", True), ("2026-07-02T03:59", True), ("2026-07-02T04:00", False), ("2026-07-01T19:59", False)],
)
def test_quiet_hours_go_over_midnight_by_the_clocks_of_their_place(now: str, quiet: bool) -> None:
    hours = QuietHours(begin="22:00", end="06:00", timezone="Europe/Berlin")  # two hours ahead in summer
    assert quiet_until(to_micros(datetime.fromisoformat(now)), hours) == ("06:00 Europe/Berlin" if quiet else None)
    assert quiet_until(to_micros(datetime.fromisoformat(now)), None) is None


def test_quiet_hours_within_a_day_end_on_it() -> None:
    hours = QuietHours(begin="12:00", end="13:00")
    asked = [to_micros(datetime.fromisoformat(f"2026-01-01T{time}")) for time in ("11:59", "12:00", "12:59", "13:00")]
    assert [quiet_until(at, hours) is not None for at in asked] == [False, True, True, False]


def test_how_many_events_are_usual_is_known_after_three_windows() -> None:
    assert volume(pace(9, 5.0), [pace(1, 100.0), pace(2, 90.0)]) is None
    found = volume(pace(9, 25.0), [pace(1, 100.0), pace(2, 90.0), pace(3, 110.0)])
    assert found is not None
    assert (round(found.figure, 2), found.moved) == (0.23, "100 → 25 events an hour")
    assert 0.01 < found.chance < 0.03


def test_after_one_failure_the_next_is_seen_as_well() -> None:
    earlier = [pace(day, 100.0) for day in range(9)]
    found = volume(pace(11, 10.0), [*earlier, replace(pace(10, 5.0), drifted=True)])
    assert found is not None
    assert found.figure > 0.3 > found.chance


def test_short_windows_are_compared_with_those_at_the_same_hours() -> None:
    """By day a hundred events an hour come in, by night ten."""

    def hourly(hour: int) -> Pace:
        return Pace(Window(hour * HOUR, (hour + 1) * HOUR), 100.0 if 8 <= hour % 24 < 20 else 10.0)

    assert volume(hourly(3 + 24), [hourly(hour) for hour in range(8, 24)]) is None, "the first night"
    found = volume(hourly(3 + 48), [hourly(hour) for hour in range(8, 48)])
    assert found is not None
    assert found.figure == 0


def pace(day: int, rate: float) -> Pace:
    return Pace(Window(day * 24 * HOUR, (day + 1) * 24 * HOUR), rate)


@pytest.mark.parametrize(
    ("events", "hours", "reason"),
    [
        (999, 100, "999 events in the window; monitoring.min_events is 1,000"),
        (1000, 23.9, "the window goes on: 1,000 events in 23.9 h; it is judged after monitoring.window_hours, 24, or "),
        (1000, 24, None),
        (20_000, 0.1, None),
    ],
)
def test_a_window_is_judged_when_it_is_long_or_full(events: int, hours: float, reason: str | None) -> None:
    judgement = not_yet(events, Window(0, round(hours * HOUR)), Monitoring())

    if reason is None:
        assert judgement is None
    else:
        assert judgement is not None
        assert judgement.outcome == "insufficient"
        assert judgement.reasons[0].startswith(reason)


def test_every_signal_has_a_setting_and_every_setting_a_signal() -> None:
    assert {*EVENT_SIGNALS, *ARRIVAL_SIGNALS, *LIST_SIGNALS, "volume", "fields", "quality"} == set(
        Watching.model_fields
    )


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"signals": {"item_populrity": {"matters": 0.1}}}, "did you mean `item_popularity`"),
        ({"signals": {"value": {"matters": 0}}}, "signals.value.matters"),
        ({"signals": {"value": {"matters": 0.1, "severity": "panic"}}}, "signals.value.severity"),
        ({"quiet_hours": {"begin": "25:00", "end": "06:00"}}, "quiet_hours.begin"),
        ({"quiet_hours": {"begin": "22:00", "end": "06:00", "timezone": "Mars"}}, "no time zone is called 'Mars'"),
        ({"quiet_hours": {"begin": "22:00", "end": "22:00"}}, "they begin and end at 22:00: take two times"),
        ({"reference_share": 1.0}, "reference_share"),
        ({"window_hours": -1}, "window_hours"),
    ],
)
def test_wrong_settings_are_refused_by_name(section: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validated(Monitoring, section, where="params.yaml")
