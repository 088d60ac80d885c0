"""The whole monitor, with Evidently, on made-up traffic; and the report that it leaves."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import insert, update

from monitoring.live import live_model
from monitoring.probation import worse_than_before
from monitoring.report import write_report
from monitoring.run import monitor, worse
from monitoring.verdicts import Verdict, latest, store
from monitoring.window import HOUR, Window
from recloop.data.schema import INTERACTIONS, ITEMS
from recloop.errors import PlatformError, RecloopError, RegistryError, StageError
from recloop.exclusive import Lock
from recloop.project import Project
from recloop.serving.events import events
from recloop.serving.impressions import impressions
from recloop.serving.refusals import ADD
from recloop.storage import connect
from tests.shop import change_params

SECOND, MINUTE = 1_000_000, 60_000_000
SINCE = int(datetime(2026, 11, 24, tzinfo=UTC).timestamp()) * 1_000_000
CATALOGUE, NEW_ITEMS, USERS = 200, 20, 300
TRAFFIC = 2000


@dataclass(frozen=True)
class World:
    """How people behave: visits of some five events, popular items first."""

    new_items: float = 0.0
    """Share of events on items that came out lately"""
    reversed_taste: bool = False
    """What was popular is not any more, and the other way round"""
    low_values: bool = False

    def events(self, count: int, seed: int) -> dict[str, list[Any]]:
        rng = np.random.default_rng(seed)
        weights = 1 / np.arange(1, CATALOGUE + 1) ** 0.7
        items = rng.choice(CATALOGUE, count, p=weights / weights.sum())
        if self.reversed_taste:
            items = CATALOGUE - 1 - items
        is_new = rng.random(count) < self.new_items
        items = np.where(is_new, CATALOGUE + rng.integers(NEW_ITEMS, size=count), items)
        values = rng.choice([1.0, 2.0, 3.0, 4.0, 5.0], count, p=[0.05, 0.1, 0.3, 0.35, 0.2])
        visits = np.repeat(np.arange(count), rng.integers(3, 8, size=count))[:count]
        users = rng.integers(USERS, size=count)[visits]
        return {
            "user_id": [f"u{user}" for user in users],
            "timestamp": (MINUTE * visits + SECOND * np.arange(count)).tolist(),
            "item_id": [f"i{item}" for item in items],
            "event": ["rating"] * count,
            "value": (6 - values if self.low_values else values).tolist(),
        }


def write_project(root: Path) -> Project:
    """A project whose live model knows 6,000 events of a plain world."""
    root.mkdir()
    (root / "params.yaml").write_bytes((Path(__file__).parents[2] / "params.yaml").read_bytes())
    change_params(root, {"monitoring.window_events": 1000, "monitoring.new_data": 0.9})
    log = World().events(6000, seed=1)
    log["timestamp"] = pa.array(log["timestamp"]).cast(INTERACTIONS.field("timestamp").type)
    table = pa.table(log, schema=INTERACTIONS)
    gated = root / "data" / "gated"
    gated.mkdir(parents=True)
    pq.write_table(table.append_column("feedback_seq", pa.nulls(6000, pa.int64())), gated / "interactions.parquet")
    names = [f"i{item}" for item in range(CATALOGUE + NEW_ITEMS)]
    kinds = [[f"kind {item % 5}"] for item in range(CATALOGUE + NEW_ITEMS)]
    pq.write_table(
        pa.table({"item_id": names, "title": names, "categories": kinds}, schema=ITEMS),
        gated / "items.parquet",
    )
    package = root / "var" / "live" / "v1"
    package.mkdir(parents=True)
    (package / "package.json").write_text(json.dumps({"newest": None, "feedback_watermark": 0}))
    pointer = {"version": 1, "folder": "v1", "since": datetime.fromtimestamp(SINCE / 1e6, UTC).isoformat()}
    (root / "var" / "live" / "champion.json").write_text(json.dumps(pointer))
    return Project(root)


def receive(project: Project, world: World, at: int, count: int = TRAFFIC) -> None:
    log = world.events(count, seed=at % 1000 + 2)
    database = connect(project.database_url)
    with database.begin() as connection:
        rows = [
            {column: values[n] for column, values in log.items()}
            | {"event_id": f"{at}-{n}", "timestamp": at + log["timestamp"][n], "received_at": at + n}
            for n in range(count)
        ]
        connection.execute(insert(events), rows)
    database.dispose()


def serve(project: Project, at: int, strategy: str, count: int = 1500, version: int = 1) -> None:
    rng = np.random.default_rng(3)
    database = connect(project.database_url)
    with database.begin() as connection:
        rows = [
            {
                "request_id": f"{at}-{n}",
                "user_id": f"u{n // 5}",
                "served_at": at + n,
                "version": version,
                "variant": "champion",
                "strategy": strategy,
                "items": [f"i{item}" for item in rng.integers(CATALOGUE, size=5)],
                "scores": rng.random(5).tolist(),
                "history_length": 3,
            }
            for n in range(count)
        ]
        connection.execute(insert(impressions), rows)
    database.dispose()


def drifted(verdict: Verdict) -> list[str]:
    return [signal.name for signal in verdict.signals if signal.drifted]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return write_project(tmp_path / "project")


# Without Evidently.


def test_an_empty_database_is_insufficient_and_no_error(project: Project) -> None:
    verdict = monitor(project, lambda: SINCE + HOUR)

    assert verdict.verdict == "insufficient"
    assert verdict.reasons == ("0 events in the window; monitoring.min_events is 1,000",)
    assert verdict.report is None
    assert not (project.reports / "drift").exists()


def test_two_monitors_at_once_do_not_judge_the_same_window_twice(project: Project) -> None:
    with Lock(project.var / "monitor.lock", "a monitor"), pytest.raises(PlatformError, match="a monitor runs already"):
        monitor(project, lambda: SINCE + HOUR)

    assert monitor(project, lambda: SINCE + HOUR).id == 1


def test_without_a_champion_there_is_nothing_to_judge(project: Project) -> None:
    (project.live / "champion.json").unlink()
    with pytest.raises(RegistryError, match="no model is live"):
        monitor(project, lambda: SINCE + HOUR)


def test_without_its_training_data_there_is_nothing_to_compare_with(project: Project) -> None:
    receive(project, World(), SINCE)
    (project.gated / "interactions.parquet").unlink()
    with pytest.raises(StageError, match=r"interactions\.parquet is missing"):
        monitor(project, lambda: SINCE + HOUR)


class Page:
    """What `write_report` needs of Evidently's snapshot."""

    def __init__(self, body: str = "<body></body>") -> None:
        self._body = body

    def get_html_str(self, *, as_iframe: bool) -> str:
        assert not as_iframe
        return f"<html>{self._body}</html>"

    def dumps(self) -> str:
        return "{}"


def test_only_the_newest_reports_are_kept_and_latest_leads_to_the_last(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for second in range(5):
        path = write_report(tmp_path, second * 1_000_000, {"report": Page()}, "ok", keep=2)

    assert path == tmp_path / "19700101T000004.000000Z" / "report.html"
    assert sorted(folder.name for folder in tmp_path.iterdir()) == [
        "19700101T000003.000000Z",
        "19700101T000004.000000Z",
        "latest.html",
        "mine",
    ]
    assert 'href="19700101T000004.000000Z/report.html"' in (tmp_path / "latest.html").read_text()


def test_words_from_outside_cannot_become_markup(tmp_path: Path) -> None:
    path = write_report(tmp_path, 0, {"report": Page()}, "drift\nevent: <script>: 0% → 9%", keep=1)

    assert "&lt;script&gt;: 0% → 9%" in path.read_text(encoding="utf-8")
    assert "<script>" not in path.read_text(encoding="utf-8")


def test_a_page_of_an_unknown_shape_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(RecloopError, match="without a body"):
        write_report(tmp_path, 0, {"report": Page(body="")}, "ok", keep=1)
    assert list(tmp_path.iterdir()) == []


# With Evidently: its import takes seconds, so one worker runs them all.

evidently = pytest.mark.xdist_group("evidently")


@evidently
def test_traffic_like_the_reference_is_ok(project: Project) -> None:
    receive(project, World(), SINCE)

    verdict = monitor(project, lambda: SINCE + HOUR)

    assert verdict.verdict == "ok"
    assert verdict.events == TRAFFIC
    assert drifted(verdict) == []
    assert {signal.name: signal.figure for signal in verdict.signals}["event"] == 0


@evidently
@pytest.mark.parametrize(
    ("world", "signals"),
    [
        (World(new_items=0.1), ["unknown_items"]),
        (World(reversed_taste=True), ["item_popularity"]),
        (World(low_values=True), ["value"]),
    ],
    ids=["new items", "other taste", "low values"],
)
def test_a_shift_is_drift_and_the_right_signal_is_named(project: Project, world: World, signals: list[str]) -> None:
    receive(project, world, SINCE)

    verdict = monitor(project, lambda: SINCE + HOUR)

    assert verdict.verdict == "drift"
    assert drifted(verdict) == signals
    assert [reason.split(":")[0] for reason in verdict.reasons] == signals
    assert verdict.should_retrain


@evidently
def test_the_next_window_begins_where_the_last_one_ended(project: Project) -> None:
    receive(project, World(new_items=0.3), SINCE)
    first = monitor(project, lambda: SINCE + HOUR)
    receive(project, World(), SINCE + 2 * HOUR)

    second = monitor(project, lambda: SINCE + 3 * HOUR)

    assert (first.verdict, second.verdict) == ("drift", "ok")
    assert (second.window_from, second.window_to) == (first.window_to, SINCE + 3 * HOUR)


@evidently
def test_old_traffic_does_not_accuse_a_new_model(project: Project) -> None:
    receive(project, World(new_items=0.3), SINCE - HOUR)

    assert monitor(project, lambda: SINCE + HOUR).verdict == "insufficient"


@evidently
def test_the_verdict_and_its_report_are_kept(project: Project) -> None:
    receive(project, World(new_items=0.3), SINCE)

    verdict = monitor(project, lambda: SINCE + HOUR)

    database = connect(project.database_url)
    assert latest(database) == (verdict,)
    database.dispose()
    assert verdict.report == "reports/drift/20261124T010000.000000Z/report.html"
    page = project.root / verdict.report
    assert page.stat().st_size < 5_000_000
    text = page.read_text(encoding="utf-8")
    assert "drift: 2,000 events received 2026-11-24 00:00:00 UTC to 2026-11-24 01:00:00 UTC" in text
    assert "unknown_items: Jensen-Shannon distance" in text
    assert "Reference: 1,201 events" in text
    assert "Served lists were not compared" in text
    assert "<script src=" not in text and "<link" not in text  # it opens without a network
    snapshot = json.loads(page.with_suffix(".json").read_text())
    assert len(snapshot["metric_results"]) == 9  # eight signals, and how many drifted


@evidently
def test_served_lists_are_compared_with_what_the_same_version_served_before(project: Project) -> None:
    for start, strategy in ((SINCE, "model"), (SINCE + 24 * HOUR, "popular")):
        serve(project, start + HOUR, strategy)
        receive(project, World(), start + HOUR)
        verdict = monitor(project, lambda now=start + 24 * HOUR: now)

    assert drifted(verdict) == ["strategy"]
    figures = {signal.name: signal for signal in verdict.signals}
    # Nothing in common: the greatest distance there is, the root of ln 2.
    assert figures["strategy"].figure == pytest.approx(np.sqrt(np.log(2)))
    assert figures["list_popularity"].figure == pytest.approx(0)
    assert figures["top_score"].threshold is None
    assert (project.root / str(verdict.report)).with_name("lists.html").stat().st_size < 5_000_000
    assert 'href="lists.html"' in (project.root / str(verdict.report)).read_text(encoding="utf-8")


@evidently
def test_of_a_version_that_has_just_gone_live_fallbacks_are_compared_with_those_of_the_one_before_it(
    project: Project,
) -> None:
    pointer = project.live / "champion.json"
    pointer.write_text(json.dumps(json.loads(pointer.read_text()) | {"version": 2, "previous": 1}))
    serve(project, SINCE - 2 * HOUR, "model")
    serve(project, SINCE + HOUR, "popular", version=2)
    receive(project, World(), SINCE + HOUR)

    verdict = monitor(project, lambda: SINCE + 24 * HOUR)

    assert drifted(verdict) == ["strategy"]
    assert {"list_popularity", "top_score"}.isdisjoint(signal.name for signal in verdict.signals)
    said = (project.root / str(verdict.report)).read_text(encoding="utf-8")
    assert "compared with what version 1, which was live before it, served before" in said


@evidently
def test_where_the_policy_says_so_a_signal_rolls_back(project: Project) -> None:
    change_params(project.root, {"monitoring.signals.strategy.severity": "roll back"})
    project = Project(project.root)  # which reads them
    pointer = project.live / "champion.json"
    pointer.write_text(json.dumps(json.loads(pointer.read_text()) | {"version": 2, "previous": 1}))
    serve(project, SINCE - 2 * HOUR, "model")
    serve(project, SINCE + HOUR, "popular", version=2)
    receive(project, World(new_items=0.3), SINCE + HOUR)

    verdict = monitor(project, lambda: SINCE + 24 * HOUR)

    assert (verdict.verdict, verdict.wants_training) == ("worse", False)
    assert verdict.reasons[0].startswith("strategy: ")
    assert worse(project) == verdict


@evidently
def test_that_fewer_lists_fall_back_is_no_drift(project: Project) -> None:
    for start, strategy in ((SINCE, "popular"), (SINCE + 24 * HOUR, "model")):
        serve(project, start + HOUR, strategy)
        receive(project, World(), start + HOUR)
        verdict = monitor(project, lambda now=start + 24 * HOUR: now)

    assert (verdict.verdict, drifted(verdict)) == ("ok", [])


@evidently
def test_some_late_events_do_not_hide_that_many_are_on_unknown_items(project: Project) -> None:
    receive(project, World(new_items=0.3), SINCE + HOUR)
    database = connect(project.database_url)
    with database.begin() as connection:
        late = events.c.seq % 10 == 0
        connection.execute(update(events).where(late).values(timestamp=events.c.timestamp - 5 * 24 * HOUR))
    database.dispose()

    assert "unknown_items" in drifted(monitor(project, lambda: SINCE + 24 * HOUR))


def take(project: Project, at: int, share: float, count: int = 1500) -> None:
    """Let users click on the first item of so many of the lists that `serve` made."""
    database = connect(project.database_url)
    with database.begin() as connection:
        shown = connection.execute(impressions.select().where(impressions.c.served_at >= at)).all()
        rows = [
            {
                "event_id": f"taken {row.request_id}",
                "user_id": row.user_id,
                "item_id": row.items[0],
                "event": "rating",
                "value": 3.0,
                "timestamp": at + MINUTE,
                "received_at": at + MINUTE,
                "request_id": row.request_id,
            }
            for number, row in enumerate(shown[:count])
            if number % 100 < 100 * share
        ]
        connection.execute(insert(events), rows)
    database.dispose()


@evidently
def test_where_many_more_events_are_refused_than_before_somebody_is_told_why(project: Project) -> None:
    """Of 1,500 events and some: none, five, and then a tenth."""
    found = []
    for start, refused in ((SINCE, 0), (SINCE + 2 * HOUR, 5), (SINCE + 4 * HOUR, 166)):
        receive(project, World(), start, 1500)
        database = connect(project.database_url)
        with database.begin() as connection:
            row = {"hour": start, "reason": "value: missing", "events": refused, "requests": refused}
            connection.execute(ADD, row)
        database.dispose()
        found.append(monitor(project, lambda now=start + 2 * HOUR: now))

    assert [(verdict.verdict, drifted(verdict)) for verdict in found] == [("ok", []), ("ok", []), ("warn", ["fields"])]
    assert "refused 0.2% → 10.0%; value: missing 0.2% → 10.0%" in found[-1].reasons[0]


@evidently
def test_where_users_take_much_less_of_the_lists_than_before_quality_has_dropped(project: Project) -> None:
    for start, share in ((SINCE, 0.5), (SINCE + 24 * HOUR, 0.2)):
        serve(project, start + HOUR, "model")
        take(project, start + HOUR, share)
        receive(project, World(), start + HOUR)
        verdict = monitor(project, lambda now=start + 24 * HOUR: now)

    assert verdict.verdict == "quality drop"
    assert drifted(verdict) == ["quality"]
    assert verdict.reasons[0].startswith("quality: a fall by 0.")
    assert "NDCG@10" in verdict.reasons[0]
    assert verdict.should_retrain


def test_when_nothing_comes_in_any_more_it_says_since_when(project: Project) -> None:
    receive(project, World(), SINCE, count=10)

    verdicts = [monitor(project, lambda now=SINCE + hours * HOUR: now) for hours in (23, 25)]
    receive(project, World(), SINCE + 25 * HOUR, count=10)
    verdicts.append(monitor(project, lambda: SINCE + 26 * HOUR))

    assert [verdict.verdict for verdict in verdicts] == ["insufficient", "silent", "insufficient"]
    assert verdicts[1].reasons[0].startswith("no event has come in for 25 h, since 2026-11-24 00:00:00 UTC")
    assert not any(verdict.should_retrain for verdict in verdicts)
    assert verdicts[2].window_from == SINCE, "the window goes on"


def test_where_most_is_refused_nobody_waits_for_the_windows_end(project: Project) -> None:
    database = connect(project.database_url)
    for hour, refused in ((0, 999), (1, 1)):
        with database.begin() as connection:
            row = {"hour": SINCE + hour * HOUR, "reason": "value: missing", "events": refused, "requests": refused}
            connection.execute(ADD, row)
        receive(project, World(), SINCE + hour * HOUR, count=100)
    database.dispose()

    verdicts = [monitor(project, lambda now=SINCE + hours * HOUR: now) for hours in (1, 2)]

    assert [verdict.verdict for verdict in verdicts] == ["insufficient", "silent"]
    assert verdicts[1].reasons == ("1,000 of 1,200 events that were sent were refused: value: missing 1,000",)


def test_a_trickle_after_days_of_traffic_is_as_good_as_silence(project: Project) -> None:
    database = connect(project.database_url)
    days = [Window(SINCE + day * 24 * HOUR, SINCE + (day + 1) * 24 * HOUR) for day in range(4)]
    for window in days[:3]:
        store(database, a_verdict(window, 5000))
    database.dispose()
    receive(project, World(), days[3].start - HOUR, count=3000)
    receive(project, World(), days[3].start + HOUR, count=100)

    verdicts = [monitor(project, lambda now=days[3].start + hours * HOUR: now) for hours in (12, 24)]

    assert [verdict.verdict for verdict in verdicts] == ["insufficient", "silent"]
    assert verdicts[1].reasons[0].startswith("4.2 events an hour came in for 24 h, where 208 are usual; monitoring.")


def test_a_window_that_a_clock_judged_that_went_ahead_keeps_nothing_from_being_judged(project: Project) -> None:
    database = connect(project.database_url)
    store(database, a_verdict(Window(SINCE, SINCE + 24 * HOUR), 5000))
    store(database, a_verdict(Window(SINCE + 24 * HOUR, SINCE + 9 * 24 * HOUR), 5000))
    database.dispose()

    assert monitor(project, lambda: SINCE + 30 * HOUR).window_from == SINCE + 24 * HOUR


def a_verdict(window: Window, events: int) -> Verdict:
    """One on a window of version 1 in which nothing was wrong."""
    return Verdict(0, window.end, window.start, window.end, 1, events, "ok", (), (), None)


def test_silence_may_be_what_is_expected(project: Project) -> None:
    change_params(project.root, {"monitoring.silence_hours": None})
    assert monitor(Project(project.root), lambda: SINCE + 100 * HOUR).verdict == "insufficient"


def test_a_version_that_does_worse_is_found_out_before_its_window_is_over_which_goes_on(project: Project) -> None:
    show_two_versions(project, 0.1)

    found = [monitor(project, lambda now=SINCE + hours * HOUR: now) for hours in (3, 4)]

    for verdict in found:
        assert verdict.verdict == "worse"
        assert verdict.reasons[1].startswith("151 events in the window")
        assert verdict.report is None
    assert worse(project) == found[1]
    assert found[1].window_from == SINCE


def test_where_events_stopped_coming_in_nobody_is_accused_for_it(project: Project) -> None:
    """Of both versions' lists half were taken, until an hour ago; since then lists are shown, and nothing comes in."""
    show_two_versions(project, 0.5)
    serve(project, SINCE + 2 * HOUR, "model", version=2, count=3000)

    assert monitor(project, lambda: SINCE + 4 * HOUR).verdict == "insufficient"


@evidently
def test_what_goes_wrong_with_a_page_keeps_nobody_from_hearing_of_the_verdict(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise KeyError("a column")

    receive(project, World(new_items=0.3), SINCE)
    monkeypatch.setattr("monitoring.run.write_pages", fails)
    heard: list[Verdict] = []

    verdict = monitor(project, lambda: SINCE + HOUR, tell=heard.append)

    assert (verdict.verdict, verdict.report) == ("drift", None)
    assert heard == [verdict]


@evidently
def test_a_version_on_probation_that_does_worse_than_the_one_before_it_is_found_out(project: Project) -> None:
    show_two_versions(project, 0.1)
    receive(project, World(), SINCE + MINUTE)

    verdict = monitor(project, lambda: SINCE + 3 * HOUR)

    assert verdict.verdict == "worse"
    assert verdict.reasons[0].startswith("NDCG@10 of what was shown is 0.1")
    assert "under version 1: -0.3" in verdict.reasons[0]
    assert verdict.quality is not None
    assert verdict.quality["overall"]["lists"] == 1500
    assert verdict.quality["overall"]["hit_rate"]["mean"] == pytest.approx(0.1, abs=0.1)
    assert verdict.report is not None
    assert "All lists: 1,500 shown to 300 users, NDCG@10 0.1" in (project.root / verdict.report).read_text()
    names = {json.loads(path.read_text())["name"] for path in project.reports.glob("evidently/*/snapshots/*.json")}
    assert names == {"drift: report", "drift: lists", "signals", "quality", "recsys"}


@pytest.mark.parametrize(("share", "hours", "worse"), [(0.1, 3, True), (0.5, 3, False), (0.1, 100, False)])
def test_only_on_probation_is_a_version_compared_with_the_one_before_it(
    project: Project, share: float, hours: int, worse: bool
) -> None:
    show_two_versions(project, share)
    database = connect(project.database_url)
    with database.connect() as connection:
        window = Window(SINCE, SINCE + hours * HOUR)
        found = worse_than_before(connection, project.params, window, live_model(project.live))
    database.dispose()

    assert (found is not None) is worse


def test_what_was_rolled_back_to_is_not_measured_by_what_it_took_the_place_of(project: Project) -> None:
    show_two_versions(project, 0.1)
    live = replace(live_model(project.live), rolled_back=True)
    database = connect(project.database_url)
    with database.connect() as connection:
        assert worse_than_before(connection, project.params, Window(SINCE, SINCE + 3 * HOUR), live) is None
    database.dispose()


def test_a_version_that_went_live_in_the_evening_is_measured_by_the_evening_before(project: Project) -> None:
    """In the evening people take a tenth of what they are shown, in the afternoon half, whatever version it is."""
    show_two_versions(project, 0.1)
    serve(project, SINCE - 24 * HOUR + MINUTE, "model", version=1)
    take(project, SINCE - 24 * HOUR + MINUTE, 0.1)
    database = connect(project.database_url)
    with database.connect() as connection:
        window = Window(SINCE, SINCE + 3 * HOUR)
        assert worse_than_before(connection, project.params, window, live_model(project.live)) is None
    database.dispose()


def test_where_the_version_before_has_shown_too_little_the_one_before_that_is_the_measure(project: Project) -> None:
    show_two_versions(project, 0.1)
    pointer = json.loads((project.live / "champion.json").read_text())
    (project.live / "champion.json").write_text(json.dumps(pointer | {"previous": 7}))
    serve(project, SINCE - 10 * MINUTE, "model", count=900, version=7)
    database = connect(project.database_url)
    with database.connect() as connection:
        window = Window(SINCE, SINCE + 3 * HOUR)
        found = worse_than_before(connection, project.params, window, live_model(project.live))
    database.dispose()

    assert found is not None
    assert "under version 1: -0.4" in found


def show_two_versions(project: Project, share: float) -> None:
    """Version 1, of whose lists half were taken, and then version 2, of whose lists so many were."""
    pointer = json.loads((project.live / "champion.json").read_text())
    (project.live / "champion.json").write_text(json.dumps(pointer | {"version": 2, "previous": 1}))
    for version, start, taken in ((1, SINCE - HOUR, 0.5), (2, SINCE + MINUTE, share)):
        serve(project, start, "model", version=version)
        take(project, start, taken)
    receive(project, World(), SINCE + 2 * HOUR, count=1)  # something still comes in
