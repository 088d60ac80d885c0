"""The gate: bad rows go to quarantine with the rule they broke, bad data goes nowhere."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from recloop.data.schema import INTERACTIONS, ITEMS, SCHEMAS, USERS
from recloop.errors import GateError, StageError
from recloop.files import sha256
from recloop.project import Project
from recloop.quality.gate import run_gate
from recloop.quality.report import GateReport

pytestmark = pytest.mark.xdist_group("gate")

NOW = datetime(2026, 1, 10, tzinfo=UTC)
THEN = datetime(2026, 1, 1, tzinfo=UTC)
FEEDBACK = pa.schema([*INTERACTIONS, pa.field("feedback_seq", pa.int64())])

Row = tuple[Any, ...]


def good(count: int, **changes: Any) -> list[Row]:
    """Rows that break no rule, each of another user and at another second."""
    row = {"item": "a", "event": "rating", "value": 3.0} | changes
    return [
        (f"u{index}", row["item"], row["event"], row["value"], THEN + timedelta(seconds=index))
        for index in range(count)
    ]


def table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    schema = pa.schema([field.with_nullable(True) for field in schema])
    columns = zip(*rows, strict=True) if rows else [[] for _ in schema]
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema)


def project(
    root: Path,
    rows: Sequence[Row] | pa.Table,
    *,
    items: Sequence[str | None] = ("a", "b"),
    users: Sequence[str | None] = (),
    feedback: Sequence[Row] | pa.Table = (),
    source: dict[str, Any] | None = None,
    **gate: Any,
) -> Project:
    """A project whose raw tables hold this. Called again, it replaces what is raw and keeps what passed."""
    (root / "data" / "raw").mkdir(parents=True, exist_ok=True)
    (root / "data" / "feedback").mkdir(parents=True, exist_ok=True)
    params = {
        "source": source or {"kind": "movielens-100k"},
        "split": {"kind": "leave_one_out"},
        "zoo": ["mf"],
        "models": {"mf": {}},
        "gate": {"min_rows": 1, "max_quarantine_share": 0.5} | gate,
    }
    with (root / "params.yaml").open("w") as file:
        YAML().dump(params, file)
    log = rows if isinstance(rows, pa.Table) else table(rows, INTERACTIONS)
    taken = feedback if isinstance(feedback, pa.Table) else table(feedback, FEEDBACK)
    pq.write_table(log, root / "data/raw/interactions.parquet")
    pq.write_table(table([(item, None, None) for item in items], ITEMS), root / "data/raw/items.parquet")
    pq.write_table(table([(user,) for user in users], USERS), root / "data/raw/users.parquet")
    pq.write_table(taken, root / "data/feedback/interactions.parquet")
    return Project(root)


def gated(found: Project, name: str = "interactions") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(found.gated / f"{name}.parquet").to_pylist()
    return rows


def outputs(found: Project) -> dict[str, str]:
    """What the stage writes, by its bytes."""
    paths = (found.gated, found.quarantine, found.reports / "gate.json")
    return {path.name: sha256(path) for path in paths}


# Row rules. Each fault is planted once, in rows that are otherwise good.

PLANTED: dict[str, list[Row]] = {
    "user_id_present": [(None, "a", "rating", 3.0, THEN), ("", "a", "rating", 3.0, THEN)],
    "item_id_present": [("u", None, "rating", 3.0, THEN), ("u", "", "rating", 3.0, THEN)],
    "event_known": [("u", "a", name, 3.0, THEN) for name in (None, "", "Rating", "<script>alert(1)</script>")],
    "value_present": [("u", "a", "rating", None, THEN), ("u", "a", "rating", math.nan, THEN)],
    "value_range": [
        ("u", "a", "rating", 0.49, THEN),
        ("u", "a", "rating", 5.01, THEN),
        ("u", "a", "rating", math.inf, THEN),
        ("u", "a", "purchase", math.inf, THEN),
        ("u", "a", "purchase", -math.inf, THEN),
        ("u", "a", "purchase", -0.01, THEN),
        ("u", "a", "it's `odd`", 1.0, THEN),
    ],
    "timestamp_present": [("u", "a", "rating", 3.0, None)],
    "timestamp_range": [
        ("u", "a", "rating", 3.0, datetime(1989, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("u", "a", "rating", 3.0, NOW + timedelta(days=1, seconds=1)),
        ("u", "a", "rating", 3.0, datetime(9999, 12, 31, tzinfo=UTC)),
    ],
}
EVENTS = {"rating": [0.5, 5.0], "purchase": [0.0, math.inf], "it's `odd`": [0.1, 0.9]}
AT_THE_LIMITS: list[Row] = [
    ("low", "a", "rating", 0.5, datetime(1990, 1, 1, tzinfo=UTC)),
    ("high", "a", "rating", 5.0, NOW + timedelta(days=1)),
    ("large", "a", "purchase", 3e38, THEN),
    ("f32", "a", "it's `odd`", 0.9, THEN),  # 0.9 in f32 is more than 0.9
    ("f32", "a", "it's `odd`", 0.1, THEN),
    ("a blank is an id", " ", "rating", 1.0, THEN),
]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, GateReport]]:
    rows = [row for bad in PLANTED.values() for row in bad]
    mixed = good(20) + rows + AT_THE_LIMITS
    log = table(mixed, INTERACTIONS).append_column("device", pa.array([f"d{i}" for i in range(len(mixed))]))
    found = project(
        tmp_path_factory.mktemp("planted"),
        log,
        items=["a", "b", "a", None, "", "c", "a"],
        users=["x", "x", None, "y"],
        feedback=[("f", "b", "rating", 4.0, THEN, 8), ("f", "b", "rating", 99.0, THEN, 7)],
        events=EVENTS,
        max_quarantine_share=0.9,
        max_unknown_item_share=0.5,
        max_duplicate_share=0.5,
    )
    yield found, run_gate(found, now=NOW)


@pytest.mark.parametrize("rule", PLANTED)
def test_a_row_rule_quarantines_exactly_the_planted_rows(planted: tuple[Project, GateReport], rule: str) -> None:
    found, report = planted
    rows = [row for row in pq.read_table(found.quarantine).to_pylist() if row["rule"] == rule]
    before = sum(len(bad) for name, bad in PLANTED.items() if list(PLANTED).index(name) < list(PLANTED).index(rule))
    raw = [row for row in rows if row["feedback_seq"] is None]
    assert [row["row"] for row in raw] == [20 + before + place for place in range(len(PLANTED[rule]))]
    assert {row["table"] for row in rows} == {"interactions"}
    assert report.rules[rule] == len(rows) == len(PLANTED[rule]) + (rule == "value_range")


def test_everything_else_goes_on_in_its_order_context_columns_included(
    planted: tuple[Project, GateReport],
) -> None:
    found, _ = planted
    rows = gated(found)
    assert [row["user_id"] for row in rows] == [
        *(f"u{index}" for index in range(20)),
        *(row[0] for row in AT_THE_LIMITS),
        "f",
    ]
    assert [row["device"] for row in rows[:2]] == ["d0", "d1"]
    assert rows[-1]["device"] is None, "the endpoint's events have no such column"
    schema = pq.read_schema(found.gated / "interactions.parquet")
    assert schema.names == [*INTERACTIONS.names, "device", "feedback_seq"]
    assert [schema.field(name) for name in INTERACTIONS.names] == list(INTERACTIONS)


def test_quarantine_keeps_a_row_as_found(planted: tuple[Project, GateReport]) -> None:
    found, _ = planted
    row = next(r for r in pq.read_table(found.quarantine).to_pylist() if r["rule"] == "value_range" and r["row"] == 30)
    assert (row["user_id"], row["value"], row["device"]) == ("u", pytest.approx(0.49), "d30")


def test_the_endpoints_events_are_judged_too(planted: tuple[Project, GateReport]) -> None:
    found, report = planted
    bad = [row for row in pq.read_table(found.quarantine).to_pylist() if row["feedback_seq"] is not None]
    assert [(row["feedback_seq"], row["rule"], row["row"]) for row in bad] == [(7, "value_range", 0)]
    assert [row["feedback_seq"] for row in gated(found)[-2:]] == [None, 8]
    assert (report.feedback.rows, report.feedback.quarantined) == (2, 1)


def test_of_several_rows_of_an_item_or_user_the_first_is_kept(planted: tuple[Project, GateReport]) -> None:
    found, report = planted
    assert [row["item_id"] for row in gated(found, "items")] == ["a", "b", "c"]
    assert [row["user_id"] for row in gated(found, "users")] == ["x", "y"]
    rules = ("items_id_present", "items_id_unique", "users_id_present", "users_id_unique")
    assert [report.rules[rule] for rule in rules] == [2, 2, 1, 1]
    bad = [r for r in pq.read_table(found.quarantine).to_pylist() if r["table"] != "interactions"]
    assert [(r["table"], r["row"], r["rule"]) for r in bad] == [
        ("items", 2, "items_id_unique"),
        ("items", 3, "items_id_present"),
        ("items", 4, "items_id_present"),
        ("items", 6, "items_id_unique"),
        ("users", 1, "users_id_unique"),
        ("users", 2, "users_id_present"),
    ]


def test_the_report_counts_what_the_files_hold(planted: tuple[Project, GateReport]) -> None:
    found, report = planted
    written = json.loads((found.reports / "gate.json").read_text())
    assert written == report.to_json()
    bad = pq.read_table(found.quarantine)["table"].to_pylist().count("interactions")
    assert (written["rows"], written["passed"], written["quarantined"]) == (
        len(gated(found)) + bad,
        len(gated(found)),
        bad,
    )
    assert sum(written["rules"].values()) == pq.read_table(found.quarantine).num_rows
    assert f"{written['passed']} of {written['rows']} interactions passed" in str(report)
    assert "value_range                8" in str(report)


def test_data_docs_name_the_broken_rules_and_need_nothing_from_outside(
    planted: tuple[Project, GateReport],
) -> None:
    found, _ = planted
    docs = found.reports / "data-docs"
    pages = {path: path.read_text() for path in docs.rglob("*") if path.is_file()}
    assert {path.suffix for path in pages} == {".html"}
    index = (docs / "index.html").read_text()
    assert "value_range" in index
    assert "fa-times" in index, "a suite that was not kept"
    for suite in ("interactions", "items", "users", "quarantine", "batch"):
        assert f"expectations/{suite}.html" in index
    page = next(text for path, text in pages.items() if "validations" in path.parts and "interactions" in path.parts)
    assert "value_range (if broken: quarantine): the value of a rating is from 0.5 to 5" in page
    for path, text in pages.items():
        assert "http" not in text.replace("http-equiv", ""), path
        assert "<script" not in text, f"{path}: a value of the data became markup"


# Batch rules, just at and just over their limits.


def stops(found: Project, **clock: datetime) -> str:
    with pytest.raises(GateError) as caught:
        run_gate(found, **({"now": NOW} | clock))
    assert caught.value.exit_code == 3
    return str(caught.value)


def test_volume_is_asked_of_the_rows_that_passed(tmp_path: Path) -> None:
    rows = [*good(5), ("u", "a", "rating", 9.0, THEN)]
    assert run_gate(project(tmp_path, rows, min_rows=5), now=NOW).warnings == ()
    message = stops(project(tmp_path, rows, min_rows=6))
    assert "volume: 5 rows passed; at least 6 are needed (gate.min_rows)" in message


def test_quarantine_may_hold_its_share_and_no_row_more(tmp_path: Path) -> None:
    bad = ("u", "a", "rating", 9.0, THEN)
    run_gate(project(tmp_path, [*good(49), bad], max_quarantine_share=0.02), now=NOW)
    message = stops(project(tmp_path, [*good(48), bad], max_quarantine_share=0.02))
    assert "quarantine_share: 1 of 49 interactions (2.041%) broke a row rule; at most 2% may" in message
    assert "(gate.max_quarantine_share): value_range 1" in message


def test_a_poisoned_items_table_stops_the_run(tmp_path: Path) -> None:
    found = project(tmp_path, good(50), items=["a", "b", "b"], max_quarantine_share=0.02)
    assert "1 of 3 items (33.33%) broke a row rule" in stops(found)


def test_poisoned_feedback_stops_the_run_however_large_the_source_is(tmp_path: Path) -> None:
    poison = [("bot", "a", "rating", 77.0, THEN, seq) for seq in range(10)]
    settings: dict[str, Any] = {"feedback": poison, "max_quarantine_share": 0.1}
    run_gate(project(tmp_path, good(200), min_feedback_rows=11, **settings), now=NOW)
    message = stops(project(tmp_path, good(200), min_feedback_rows=10, **settings))
    assert "10 of 10 interactions taken at the endpoint (100%) broke a row rule" in message
    rejected = pq.read_table(tmp_path / "reports/rejected/rows.parquet").to_pylist()
    assert [row["feedback_seq"] for row in rejected] == list(range(10))


def test_duplicates_count_all_rows_that_share_user_item_event_and_time(tmp_path: Path) -> None:
    pair = [("twin", "a", "rating", 1.0, THEN), ("twin", "a", "rating", 2.0, THEN)]
    run_gate(project(tmp_path, good(18) + pair, max_duplicate_share=0.1), now=NOW)
    message = stops(project(tmp_path, good(17) + pair, max_duplicate_share=0.1))
    assert "duplicates: 2 of 19 interactions (10.53%) have user, item, event and time in common" in message
    rejected = pq.read_table(tmp_path / "reports/rejected/rows.parquet").to_pylist()
    assert [(row["rule"], row["row"]) for row in rejected] == [("duplicates", 17), ("duplicates", 18)]


def test_unknown_items_are_those_the_items_table_lacks(tmp_path: Path) -> None:
    strange = good(1, item="zzz")
    run_gate(project(tmp_path, good(9) + strange, max_unknown_item_share=0.1), now=NOW)
    message = stops(project(tmp_path, good(8) + strange, max_unknown_item_share=0.1))
    assert "unknown_items: 1 of 9 interactions (11.11%) are on items that the items table does not have" in message


def test_without_an_items_table_no_item_is_unknown(tmp_path: Path) -> None:
    found = project(tmp_path, good(5, item="zzz"), items=[])
    assert run_gate(found, now=NOW).tables["items"].rows == 0
    assert len(gated(found)) == 5
    assert gated(found, "items") == []


def test_freshness_looks_at_the_newest_event_that_passed_and_only_if_asked(tmp_path: Path) -> None:
    rows = [*good(1), ("late", "a", "rating", 3.0, NOW + timedelta(days=300))]
    week: dict[str, Any] = {"max_age_days": 7, "severity": {"freshness": "stop"}}
    run_gate(project(tmp_path, rows), now=NOW)
    run_gate(project(tmp_path, rows, **week), now=THEN + timedelta(days=7))
    message = stops(project(tmp_path, rows, **week), now=THEN + timedelta(days=7, seconds=1))
    assert "freshness: the newest event is of 2026-01-01 00:00 UTC; it may be at most 7 days old" in message


def test_event_mix_is_compared_with_what_last_passed(tmp_path: Path) -> None:
    events: dict[str, Any] = {"events": {"rating": [0, 5], "click": [0, 5]}, "max_event_mix_shift": 0.2}
    first = run_gate(project(tmp_path, good(7) + good(3, event="click"), **events), now=NOW)
    assert first.warnings == (), "the first time there is nothing to compare with"
    second = run_gate(project(tmp_path, good(9) + good(1, event="click"), **events), now=NOW)
    assert second.warnings == (), "from 70% to 90% is at the limit"
    third = run_gate(project(tmp_path, good(69) + good(31, event="click"), **events), now=NOW)
    assert str(third.warnings[0]).startswith(
        "event_mix: against the last good data, the share of click from 10% to 31%, rating from 90% to 69%"
    )
    message = stops(project(tmp_path, good(9), severity={"event_mix": "stop"}, **events))
    assert "click from 31% to 0%" in message


def test_severity_turns_a_stop_into_a_warning(tmp_path: Path) -> None:
    found = project(tmp_path, good(5), min_rows=6, severity={"volume": "warn"})
    report = run_gate(found, now=NOW)
    warning = "volume: 5 rows passed; at least 6 are needed (gate.min_rows)"
    assert f"warning: {warning}" in str(report)
    assert json.loads((found.reports / "gate.json").read_text())["warnings"] == [warning]
    assert warning in (found.reports / "data-docs/index.html").read_text()


def test_no_rows_at_all_stop_the_run_whatever_the_severity(tmp_path: Path) -> None:
    found = project(tmp_path, [], items=[], severity={"volume": "warn"})
    assert "volume: 0 rows passed" in stops(found)
    assert not found.gated.exists()


# What a run leaves behind.


def test_a_stop_leaves_the_last_good_data_alone_and_shows_what_is_wrong(tmp_path: Path) -> None:
    found = project(tmp_path, good(20))
    run_gate(found, now=NOW)
    before = outputs(found)
    message = stops(project(tmp_path, good(5) + [("u", "a", "rating", 9.0, THEN)] * 20))
    assert outputs(found) == before
    assert "quarantine_share: 20 of 25 interactions (80%)" in message
    assert "value_range 20 ('rating 9'; gate.events has the ranges)" in message
    assert "reports/rejected/rows.parquet" in message
    assert "Traceback" not in message
    assert "quarantine_share: 20 of 25" in (found.reports / "rejected/data-docs/index.html").read_text()
    assert pq.read_table(found.reports / "rejected/rows.parquet")["rule"].to_pylist() == ["value_range"] * 20


def test_the_next_good_run_clears_away_the_rejected_rows(tmp_path: Path) -> None:
    stops(project(tmp_path, good(1), min_rows=2))
    assert (tmp_path / "reports/rejected/rows.parquet").exists()
    run_gate(project(tmp_path, good(2), min_rows=2), now=NOW)
    assert not (tmp_path / "reports/rejected/rows.parquet").exists()


def test_the_same_data_gives_the_same_bytes_at_another_time_and_place(tmp_path: Path) -> None:
    rows = [*good(30), ("u", "a", "rating", 9.0, THEN)]
    stale: dict[str, Any] = {"max_age_days": 5, "feedback": [("f", "b", "rating", 4.0, THEN, 1)]}
    here, there = project(tmp_path / "here", rows, **stale), project(tmp_path / "there", rows, **stale)
    fresh, old = run_gate(here, now=THEN), run_gate(there, now=NOW)
    assert (len(fresh.warnings), len(old.warnings)) == (0, 1), "the clock shows in the verdict only"
    assert outputs(here) == outputs(there)
    run_gate(here, now=NOW)
    assert outputs(here) == outputs(there)


def test_nothing_but_what_is_named_is_written(tmp_path: Path) -> None:
    run_gate(project(tmp_path, good(3)), now=NOW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "params.yaml", "reports"]
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == ["data-docs", "gate.json"]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        "feedback",
        "gated",
        "quarantine.parquet",
        "raw",
    ]


def test_a_source_without_times_is_not_asked_for_them(tmp_path: Path) -> None:
    rows = [("u", "a", "rating", 3.0, datetime(1970, 1, 1, 0, 0, place, tzinfo=UTC)) for place in range(3)]
    run_gate(project(tmp_path, rows, source={"kind": "sequences", "folder": ".", "path": "x.txt"}), now=NOW)
    assert "timestamp_range 3" in stops(project(tmp_path, rows))


def test_the_command_prints_the_stop_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from recloop.cli import main

    project(tmp_path, good(1), min_rows=2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["recloop", "gate"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 3
    printed = capsys.readouterr()
    assert printed.err.startswith("recloop: the data is not fit to learn from; the last good data was left as it was")
    assert "volume: 1 rows passed" in printed.err
    assert "Calculating Metrics" not in printed.err


# Faults that are not the data's content.


def test_an_expectation_that_raises_is_an_error_and_not_a_pass() -> None:
    import pandas as pd
    from great_expectations import ExpectationSuite
    from great_expectations.expectations import ExpectColumnValuesToNotBeNull

    from recloop.quality.validation import Judge

    meta = {"rule": "user_id_present", "level": "row", "severity": "quarantine"}
    suite = ExpectationSuite(name="s", expectations=[ExpectColumnValuesToNotBeNull(column="missing", meta=meta)])
    with pytest.raises(GateError, match=r"rule user_id_present: Great Expectations could not evaluate"):
        Judge(NOW).examine(suite, pd.DataFrame({"user_id": ["a"]}), stage="rows as found")


@pytest.mark.parametrize(("name", "column"), [("interactions", "event"), ("items", "item_id"), ("users", "user_id")])
def test_a_missing_column_is_named(tmp_path: Path, name: str, column: str) -> None:
    found = project(tmp_path, good(3))
    path = found.raw / f"{name}.parquet"
    pq.write_table(pq.read_table(path).drop_columns([column]), path)
    with pytest.raises(StageError, match=rf"{name}\.parquet has no column {column}"):
        run_gate(found, now=NOW)


def test_a_missing_file_is_named_with_what_makes_it(tmp_path: Path) -> None:
    found = project(tmp_path, good(3))
    (found.raw / "items.parquet").unlink()
    with pytest.raises(StageError, match=r"items\.parquet is missing\n.*dvc repro ingest"):
        run_gate(found, now=NOW)
    found.feedback.unlink()
    with pytest.raises(StageError, match=r"feedback/interactions\.parquet is missing\n.*recloop feedback"):
        run_gate(found, now=NOW)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    found = project(tmp_path, good(3))
    path = found.raw / "interactions.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StageError, match=r"interactions\.parquet is damaged"):
        run_gate(found, now=NOW)


def test_a_wrong_type_is_named(tmp_path: Path) -> None:
    log = table(good(3), INTERACTIONS)
    text = log.set_column(3, "value", pa.array(["three"] * 3))
    with pytest.raises(StageError, match=r"does not have the canonical types.*three"):
        run_gate(project(tmp_path, text), now=NOW)


def test_a_context_column_of_two_types_is_named(tmp_path: Path) -> None:
    log = table(good(3), INTERACTIONS).append_column("device", pa.array(["x"] * 3))
    taken = table([("f", "a", "rating", 3.0, THEN, 1)], FEEDBACK).append_column("device", pa.array([7]))
    with pytest.raises(StageError, match=r"a context column is of one type in .*device"):
        run_gate(project(tmp_path, log, feedback=taken), now=NOW)


@pytest.mark.parametrize("name", ["feedback_seq", "rule", "table", "row"])
def test_the_projects_own_column_names_are_refused_in_a_source(tmp_path: Path, name: str) -> None:
    log = table(good(3), INTERACTIONS).append_column(name, pa.array([1, 2, 3]))
    with pytest.raises(StageError, match=rf"column name {name} is taken"):
        run_gate(project(tmp_path, log), now=NOW)


def test_damaged_last_good_data_is_not_passed_over(tmp_path: Path) -> None:
    found = project(tmp_path, good(3))
    run_gate(found, now=NOW)
    (found.gated / "interactions.parquet").write_bytes(b"PAR1")
    with pytest.raises(StageError, match=r"which passed before, is damaged"):
        run_gate(found, now=NOW)


def test_gated_tables_keep_the_canonical_schemas(planted: tuple[Project, GateReport]) -> None:
    found, _ = planted
    for name, schema in SCHEMAS.items():
        written = pq.read_schema(found.gated / f"{name}.parquet")
        assert [written.field(field.name) for field in schema] == list(schema)
