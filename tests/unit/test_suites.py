"""The suites: every rule is named, has a severity, and says what it asks in words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from recloop.config import BATCH_RULES, Gate, Params, validated
from recloop.errors import ConfigError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)


def expectations(gate: Gate) -> list[Any]:
    """Those of every suite there is."""
    from recloop.quality import suites

    return [
        expectation
        for suite in (
            suites.row_suite("interactions", gate, earliest=EARLIEST, now=NOW),
            suites.row_suite("items", gate, earliest=EARLIEST, now=NOW),
            suites.row_suite("users", gate, earliest=EARLIEST, now=NOW),
            suites.quarantine_suite(gate, ["interactions", "feedback", "items", "users"]),
            suites.batch_suite(gate, now=NOW, with_items=True),
            suites.event_mix_suite(gate),
        )
        for expectation in suite.expectations
    ]


def test_every_expectation_names_its_rule_level_and_severity() -> None:
    for expectation in expectations(Gate(max_age_days=1)):
        assert {"rule", "level", "severity"} <= expectation.meta.keys()
        assert expectation.description.startswith(expectation.meta["rule"])
        assert (expectation.meta["level"] == "row") == (expectation.meta["severity"] == "quarantine")


def test_the_batch_rules_are_those_that_params_may_name() -> None:
    rules = {e.meta["rule"] for e in expectations(Gate(max_age_days=1)) if e.meta["level"] == "batch"}
    assert rules == set(BATCH_RULES)


def test_row_rules_have_names_of_their_own_in_each_table() -> None:
    rules = dict.fromkeys(e.meta["rule"] for e in expectations(Gate()) if e.meta["level"] == "row")
    assert list(rules) == [
        "user_id_present",
        "item_id_present",
        "event_known",
        "value_present",
        "value_range",
        "timestamp_present",
        "timestamp_range",
        "items_id_present",
        "items_id_unique",
        "users_id_present",
        "users_id_unique",
    ]


def test_severity_is_stop_unless_params_say_otherwise() -> None:
    gate = Gate(severity={"volume": "warn"}, max_age_days=1)
    severities = {e.meta["rule"]: e.meta["severity"] for e in expectations(gate) if e.meta["level"] == "batch"}
    assert severities == {rule: "warn" if rule == "volume" else "stop" for rule in BATCH_RULES}


def test_each_event_has_a_value_rule_of_its_own() -> None:
    gate = Gate(events={"rating": (0.5, 5.0), "purchase": (0.0, float("inf"))})
    limits = {
        e.row_condition.parameter: (e.min_value, e.max_value)
        for e in expectations(gate)
        if e.meta["rule"] == "value_range"
    }
    assert limits["rating"] == (0.5, 5.0)
    assert limits["purchase"] == (0.0, pytest.approx(3.4028235e38)), "the largest number, so that inf is outside"


def test_a_dollar_and_an_angle_bracket_in_an_events_name_are_text_in_data_docs() -> None:
    texts = [e.description for e in expectations(Gate(events={"<b>$": (0, 1)})) if "&lt;b&gt;$$" in e.description]
    assert len(texts) == 2  # event_known and value_range


@pytest.mark.parametrize("share", [0.0, 0.02, 0.07, 0.1, 0.3, 0.7, 1.0])
def test_a_share_at_its_limit_is_allowed_whatever_floats_make_of_it(share: float) -> None:
    from recloop.quality.suites import _all_but

    assert (10_000 - round(10_000 * share)) / 10_000 >= _all_but(share)


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ({"severity": {"volum": "warn"}}, r"gate\.severity: unknown rule `volum`; did you mean `volume`\?"),
        (
            {"severity": {"xyz": "warn"}},
            r"unknown rule `xyz`; there are: quarantine_share, volume, freshness",
        ),
        ({"severity": {"volume": "ignore"}}, r"gate\.severity\.volume: .*'stop' or 'warn' \(got 'ignore'\)"),
        ({"events": {"rating": [5, 1]}}, r"gate\.events: rating: the range goes from 5\.0 to 1\.0"),
        ({"events": {"rating": [0, float("nan")]}}, r"gate\.events: rating: the range goes from 0\.0 to nan"),
        ({"events": {}}, r"gate\.events: name at least one event"),
        ({"max_duplicate_share": 1.5}, r"gate\.max_duplicate_share: .*less than or equal to 1"),
        ({"min_row": 5}, r"gate\.min_row: unknown key; did you mean `min_rows`\?"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(gate: dict[str, Any], message: str) -> None:
    params = {"source": {"kind": "movielens-100k"}, "zoo": ["mf"], "models": {"mf": {}}, "gate": gate}
    with pytest.raises(ConfigError, match=message):
        validated(Params, params, where="params.yaml")
