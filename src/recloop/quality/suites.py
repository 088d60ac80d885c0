"""The rules, as Great Expectations suites. An expectation's `meta` names its rule, level and severity.

Row rules, in this order; a row in quarantine bears the first that it broke:
    interactions  user_id_present, item_id_present, event_known, value_present, value_range,
                  timestamp_present, timestamp_range
    items         items_id_present, items_id_unique
    users         users_id_present, users_id_unique
Batch rules judge what the row rules let through (`quarantine_share`: what they did not):
    quarantine_share, volume, freshness, duplicates, unknown_items, event_mix

Nulls are the `…_present` rules' affair: every other expectation leaves them out, as Great Expectations does.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from html import escape
from typing import Any

import great_expectations.expectations as gxe
import numpy as np
from great_expectations import ExpectationSuite
from great_expectations.expectations.row_conditions import Column

from recloop.config import Gate
from recloop.data.schema import TableName
from recloop.quality.report import percent

CLOCK_SKEW = timedelta(days=1)
"""A client's clock may be ahead of ours by so much; a later event is from the future."""

LARGEST = np.finfo(np.float32).max


def row_suite(table: TableName, gate: Gate, *, earliest: datetime | None, now: datetime) -> ExpectationSuite:
    """The row rules of a table.

    Args:
        earliest: a time before this is a fault; None where times are not times.
        now: an event later than this and `CLOCK_SKEW` is a fault.
    """
    if table == "interactions":
        return ExpectationSuite(name=table, expectations=_interaction_rules(gate, earliest, now + CLOCK_SKEW))
    column = {"items": "item_id", "users": "user_id"}[table]
    once = gxe.ExpectColumnValuesToBeBetween(
        column="occurrence",
        max_value=1,
        **_row(f"{table}_id_unique", f"a {column} has one row; the first of several is kept"),
    )
    return ExpectationSuite(name=table, expectations=[*_present_text(column, f"{table}_id_present"), once])


def _interaction_rules(gate: Gate, earliest: datetime | None, latest: datetime) -> list[Any]:
    known = sorted(gate.events)
    period = f"from {earliest:%Y-%m-%d} to" if earliest else "at most"
    return [
        *_present_text("user_id", "user_id_present"),
        *_present_text("item_id", "item_id_present"),
        gxe.ExpectColumnValuesToNotBeNull(column="event", **_row("event_known", "event is not null")),
        gxe.ExpectColumnValuesToBeInSet(
            column="event", value_set=known, **_row("event_known", f"event is one of {', '.join(known)}")
        ),
        gxe.ExpectColumnValuesToNotBeNull(column="value", **_row("value_present", "value is a number")),
        *(_value_rule(event, *gate.events[event]) for event in known),
        gxe.ExpectColumnValuesToNotBeNull(column="timestamp", **_row("timestamp_present", "timestamp is not null")),
        gxe.ExpectColumnValuesToBeBetween(
            column="timestamp",
            min_value=earliest,
            max_value=latest,
            **_row("timestamp_range", f"timestamp is {period} {latest:%Y-%m-%d %H:%M} UTC"),
        ),
    ]


def _present_text(column: str, rule: str) -> list[Any]:
    return [
        gxe.ExpectColumnValuesToNotBeNull(column=column, **_row(rule, f"{column} is not null")),
        gxe.ExpectColumnValueLengthsToBeBetween(column=column, min_value=1, **_row(rule, f"{column} is not empty")),
    ]


def _value_rule(event: str, lowest: float, highest: float) -> Any:
    # As the column holds values, f32: 4.9 lies within [0.1, 4.9]. No limit lets an infinite value through.
    return gxe.ExpectColumnValuesToBeBetween(
        column="value",
        min_value=float(max(np.float32(lowest), -LARGEST)),
        max_value=float(min(np.float32(highest), LARGEST)),
        row_condition=Column("event") == event,
        **_row("value_range", f"the value of a {event} is from {lowest:g} to {highest:g}, and finite"),
    )


def quarantine_suite(gate: Gate, batches: list[str]) -> ExpectationSuite:
    """How many of a batch's rows may be in quarantine. Judges a table of all rows found: `batch`, `rule`.

    Args:
        batches: of interactions (both of the source and the endpoint), feedback, items, users.
    """
    parts = {"interactions": ["source", "feedback"]}
    share = gate.max_quarantine_share
    return ExpectationSuite(
        name="quarantine",
        expectations=[
            gxe.ExpectColumnValuesToBeNull(
                column="rule",
                row_condition=Column("batch").is_in(parts.get(batch, [batch])),
                mostly=_all_but(share),
                **_batch(gate, "quarantine_share", f"at most {percent(share)} of {batch} break a row rule", batch),
            )
            for batch in batches
        ],
    )


def batch_suite(gate: Gate, *, now: datetime | None, with_items: bool) -> ExpectationSuite:
    """What is asked of the interactions that passed, as a whole.

    Args:
        now: what `max_age_days` counts back from; None where there is no newest event.
        with_items: whether there is an items table, so that an item can be unknown.
    """
    rules = [
        gxe.ExpectTableRowCountToBeBetween(
            min_value=gate.min_rows, **_batch(gate, "volume", f"at least {gate.min_rows:,} rows")
        ),
        gxe.ExpectCompoundColumnsToBeUnique(
            column_list=["user_id", "item_id", "event", "timestamp"],
            mostly=_all_but(gate.max_duplicate_share),
            **_batch(
                gate,
                "duplicates",
                f"at most {percent(gate.max_duplicate_share)} of rows share user, item, event and time",
            ),
        ),
    ]
    if gate.max_age_days is not None and now is not None:
        rules.append(
            gxe.ExpectColumnMaxToBeBetween(
                column="timestamp",
                min_value=now - timedelta(days=gate.max_age_days),
                **_batch(gate, "freshness", f"the newest event is at most {gate.max_age_days:g} days old"),
            )
        )
    if with_items:
        rules.append(
            gxe.ExpectColumnValuesToBeInSet(
                column="item_known",
                value_set=[True],
                mostly=_all_but(gate.max_unknown_item_share),
                **_batch(
                    gate,
                    "unknown_items",
                    f"at most {percent(gate.max_unknown_item_share)} of rows are on items not in the table",
                ),
            )
        )
    return ExpectationSuite(name="batch", expectations=rules)


def event_mix_suite(gate: Gate) -> ExpectationSuite:
    """How far an event's share may move. Judges a table of events: `event`, `before`, `share`, `change`."""
    shift = gate.max_event_mix_shift
    text = f"an event's share of all rows is within {percent(shift)} of what it was in the last good data"
    rule = gxe.ExpectColumnValuesToBeBetween(
        column="change", min_value=-shift, max_value=shift, **_batch(gate, "event_mix", text)
    )
    return ExpectationSuite(name="event_mix", expectations=[rule])


def _row(rule: str, text: str) -> dict[str, Any]:
    return _named(rule, text, {"level": "row", "severity": "quarantine"})


def _batch(gate: Gate, rule: str, text: str, batch: str | None = None) -> dict[str, Any]:
    meta = {"level": "batch", "severity": gate.severity.get(rule, "stop")}
    return _named(rule, text, meta | ({"batch": batch} if batch else {}))


def _named(rule: str, text: str, meta: dict[str, str]) -> dict[str, Any]:
    """What makes an expectation a rule: its `meta`, and what Data Docs say of it."""
    # Data Docs take a description for HTML, and for a template in which a `$` begins a variable.
    text = escape(text, quote=False).replace("$", "$$")
    return {
        "meta": {"rule": rule, **meta},
        "description": f"{rule} (if broken: {meta['severity']}): {text}",
    }


def _all_but(share: float) -> float:
    """1 - share in decimal: in floats 1 - 0.7 is more than 0.3, and what is just at the limit would fail."""
    return float(1 - Decimal(str(share)))
