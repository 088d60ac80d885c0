"""A broken batch rule in words: the figures, the limit, and the key that sets it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from recloop.config import Gate
from recloop.quality.report import Breach, percent
from recloop.quality.validation import Finding


def breaches(
    findings: Sequence[Finding],
    gate: Gate,
    *,
    judged: pd.DataFrame,
    mix: pd.DataFrame | None,
    hints: Mapping[str, str],
) -> tuple[Breach, ...]:
    """The broken ones among the findings of the batch rules.

    Args:
        judged: the frame that `quarantine_share` was asked of.
        mix: the frame that `event_mix` was asked of, where it was.
        hints: row rule → what the rows that broke it have in common.
    """
    return tuple(
        Breach(finding.rule, finding.severity, _message(finding, gate, judged, mix, hints))
        for finding in findings
        if not finding.kept
    )


def _message(
    finding: Finding, gate: Gate, judged: pd.DataFrame, mix: pd.DataFrame | None, hints: Mapping[str, str]
) -> str:
    match finding.rule:
        case "quarantine_share":
            rules = Counter(judged["rule"].iloc[finding.broken])
            return (
                f"{_part(finding, _NAMES[finding.batch or 'interactions'])} broke a row rule; at most"
                f" {percent(gate.max_quarantine_share)} may (gate.max_quarantine_share): "
                + ", ".join(
                    f"{rule} {rows:,}" + (f" ({hints[rule]})" if rule in hints else "")
                    for rule, rows in rules.most_common()
                )
            )
        case "volume":
            return f"{finding.observed:,} rows passed; at least {gate.min_rows:,} are needed (gate.min_rows)"
        case "freshness":
            return (
                f"the newest event is of {finding.observed:%Y-%m-%d %H:%M} UTC; it may be at most"
                f" {gate.max_age_days:g} days old (gate.max_age_days)"
            )
        case "duplicates":
            return (
                f"{_part(finding)} have user, item, event and time in common with another; at most"
                f" {percent(gate.max_duplicate_share)} may (gate.max_duplicate_share)"
            )
        case "unknown_items":
            return (
                f"{_part(finding)} are on items that the items table does not have; at most"
                f" {percent(gate.max_unknown_item_share)} may (gate.max_unknown_item_share)"
            )
        case "event_mix" if mix is not None:
            moved = mix.iloc[finding.broken]
            changes = (
                f"{event} from {percent(before)} to {percent(share)}"
                for event, before, share in zip(moved["event"], moved["before"], moved["share"], strict=True)
            )
            return (
                f"against the last good data, the share of {', '.join(changes)} of all events; at most"
                f" {percent(gate.max_event_mix_shift)} up or down are allowed (gate.max_event_mix_shift)"
            )
    raise ValueError(f"no words for rule {finding.rule}")


def _part(finding: Finding, noun: str = "interactions") -> str:
    count = len(finding.broken)
    return f"{count:,} of {finding.rows:,} {noun} ({percent(count, finding.rows)})"


_NAMES = {
    "interactions": "interactions",
    "feedback": "interactions taken at the endpoint",
    "items": "items",
    "users": "users",
}
