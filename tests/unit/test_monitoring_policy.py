"""From figures and thresholds to a verdict with reasons."""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitoring.policy import judge, too_few
from monitoring.signals import EVENT_SIGNALS, LIST_SIGNALS, Finding
from recloop.config import Monitoring, Thresholds, validated
from recloop.errors import ConfigError

POPULARITY = Finding("item_popularity", 0.31, 0.12, "decile 10: 9.0% → 30.0%")
UNKNOWN = Finding("unknown_items", 0.04, 0.01, "unknown: 0.5% → 1.0%")
SCORE = Finding("top_score", 0.5, 0.1, "from 9: 1.2% → 9.9%")


def test_a_signal_at_or_above_its_threshold_is_drift_and_the_reason_has_the_figures() -> None:
    judgement = judge([UNKNOWN, POPULARITY], {"item_popularity": 0.15, "unknown_items": 0.1}, 1)

    assert judgement.outcome == "drift"
    assert judgement.reasons == ("item_popularity: Jensen-Shannon distance 0.310 ≥ 0.15 (decile 10: 9.0% → 30.0%)",)
    assert [(signal.name, signal.drifted) for signal in judgement.signals] == [
        ("unknown_items", False),
        ("item_popularity", True),
    ]


@pytest.mark.parametrize(("threshold", "outcome"), [(0.3100001, "ok"), (0.31, "drift"), (0.3099999, "drift")])
def test_the_threshold_itself_counts_as_drifted(threshold: float, outcome: str) -> None:
    assert judge([POPULARITY], {"item_popularity": threshold}, 1).outcome == outcome


def test_a_change_that_chance_may_have_made_is_none_however_large() -> None:
    judgement = judge([replace(POPULARITY, chance=0.35), UNKNOWN], {"item_popularity": 0.15, "unknown_items": 0.05}, 1)

    assert judgement.outcome == "ok"
    assert "item_popularity: Jensen-Shannon distance 0.310 < 0.35 (" in judgement.reasons[0]
    assert judgement.signals[0].bound == 0.35


def test_without_drift_the_reason_names_the_signal_nearest_to_its_threshold() -> None:
    # 0.31 of 0.5 is 62% of the way; 0.04 of 0.05 is 80%.
    judgement = judge([POPULARITY, UNKNOWN], {"item_popularity": 0.5, "unknown_items": 0.05}, 1)

    assert judgement.outcome == "ok"
    (reason,) = judgement.reasons
    assert reason.startswith("no signal reached its threshold; nearest is unknown_items: ")
    assert reason.endswith("Jensen-Shannon distance 0.040 < 0.05 (unknown: 0.5% → 1.0%)")


def test_a_signal_without_a_threshold_is_only_reported() -> None:
    judgement = judge([SCORE], {"top_score": None}, 1)

    assert judgement.outcome == "ok"
    assert judgement.reasons == ("no signal has a threshold",)
    assert not judgement.signals[0].drifted
    assert str(judgement.signals[0]) == (
        "top_score: Jensen-Shannon distance 0.500 (only reported) (from 9: 1.2% → 9.9%)"
    )


def test_fewer_drifted_signals_than_asked_for_are_no_drift_but_are_told() -> None:
    judgement = judge([POPULARITY, UNKNOWN], {"item_popularity": 0.15, "unknown_items": 0.1}, 2)

    assert judgement.outcome == "ok"
    assert judgement.reasons[0].startswith("item_popularity")
    assert judgement.reasons[1] == "1 drifted; monitoring.min_drifted_signals is 2"


def test_too_few_events_are_no_ground_for_a_verdict() -> None:
    judgement = too_few(999, 1000)

    assert judgement is not None
    assert judgement.outcome == "insufficient"
    assert judgement.reasons == ("999 events in the window; monitoring.min_events is 1,000",)
    assert too_few(1000, 1000) is None


def test_every_signal_has_a_threshold_setting_and_every_setting_a_signal() -> None:
    assert {*EVENT_SIGNALS, *LIST_SIGNALS} == set(Thresholds.model_fields)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"thresholds": {"item_populrity": 0.1}}, "did you mean `item_popularity`"),
        ({"thresholds": {"value": 0}}, "thresholds.value"),
        ({"reference_share": 1.0}, "reference_share"),
        ({"window_hours": -1}, "window_hours"),
    ],
)
def test_wrong_settings_are_refused_by_name(section: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validated(Monitoring, section, where="params.yaml")
