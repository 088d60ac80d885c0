"""Evidently's figures of the lists, and the workspace that keeps them. Its import takes seconds: one worker runs it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from math import log2, sqrt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Connection

from monitoring import recsys
from monitoring.backend import duckdb
from monitoring.feedback import read_feedback
from monitoring.figures import drift_figures, figures_snapshot, quality_figures
from monitoring.live import LiveModel
from monitoring.moments import from_micros
from monitoring.policy import Signal
from monitoring.recsys import recsys_snapshot
from monitoring.window import HOUR, Window
from monitoring.workspace import keep
from recloop.config import Watching
from recloop.data.schema import INTERACTIONS, ITEMS
from recloop.errors import RecloopError, StageError
from recloop.project import Project
from recloop.storage import connect
from tests.unit.test_monitoring_quality import act, judged, serve

pytestmark = pytest.mark.xdist_group("evidently")

WINDOW, ATTRIBUTION = Window(1000, 2000), 100
LIVE = LiveModel(version=1, since=0, newest=None, feedback_watermark=7)
CATEGORIES: dict[str, list[str] | None] = {
    "a": ["Drama"],
    "b": ["Drama", "Crime"],
    "c": ["Comedy"],
    "d": None,
    "e": [],
}
LEARNT = ["u1 a", "u2 a", "u2 a", "u3 a", "u4 a", "u1 b", "u2 b", "u3 c", "u3 e"]
"""Who had an event on what: 4 users know a, 2 b, 1 c and e, nobody d"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "params.yaml").write_bytes((Path(__file__).parents[2] / "params.yaml").read_bytes())
    gated = tmp_path / "data" / "gated"
    gated.mkdir(parents=True)
    users, names = zip(*(pair.split() for pair in LEARNT), strict=True)
    count = len(LEARNT)
    log = {
        "user_id": users,
        "item_id": names,
        "event": ["click"] * count,
        "value": pa.array([1.0] * count, pa.float32()),
        "timestamp": pa.array(range(count)).cast(INTERACTIONS.field("timestamp").type),
    }
    # The last event came in after the version was trained: user 3 on e.
    seqs = pa.array([None] * (count - 1) + [8], pa.int64())
    pq.write_table(
        pa.table(log, schema=INTERACTIONS).append_column("feedback_seq", seqs), gated / "interactions.parquet"
    )
    pq.write_table(
        pa.table(
            {
                "item_id": list(CATEGORIES),
                "title": list(CATEGORIES),
                "categories": pa.array(list(CATEGORIES.values()), pa.list_(pa.string())),
            },
            schema=ITEMS,
        ),
        gated / "items.parquet",
    )
    return Project(tmp_path)


@pytest.fixture
def connection(project: Project) -> Iterator[Connection]:
    engine = connect(project.database_url)
    with engine.begin() as opened:
        yield opened
    engine.dispose()


def snapshot_of(connection: Connection, project: Project, k: int = 10) -> Any:
    with duckdb() as backend:
        feedback = read_feedback(backend, connection, WINDOW, ATTRIBUTION)
        return recsys_snapshot(backend, feedback, project.gated, LIVE, WINDOW, k)


def figures(snapshot: Any) -> dict[str, float]:
    """Evidently's figures by the names it shows them under; of the ranked ones, at the longest list."""
    return {
        result.display_name: float(result.value["value"].iloc[-1] if hasattr(result.value, "iloc") else result.value)
        for result in snapshot.metric_results.values()
    }


def serve_some(connection: Connection) -> None:
    serve(connection, 1500, "abc", user="u")
    serve(connection, 1501, "cba", user="v")
    serve(connection, 1502, "ad", user="w", strategy="popular")
    serve(connection, 1503, "b", user="u")
    for at, item, user in ((1510, "b", "u"), (1511, "c", "u"), (1512, "b", "v"), (1513, "d", "w")):
        act(connection, at, item, user=user)


def test_without_a_list_of_the_version_there_is_no_snapshot(connection: Connection, project: Project) -> None:
    serve(connection, 1500, "abc", version=2)
    serve(connection, 1500, "abc", variant="shadow")
    assert snapshot_of(connection, project) is None


def test_what_the_version_learnt_from_has_to_be_there(connection: Connection, project: Project) -> None:
    (project.gated / "interactions.parquet").unlink()
    with pytest.raises(StageError, match=r"interactions\.parquet is missing"):
        snapshot_of(connection, project)


@pytest.mark.parametrize("k", [1, 2, 3, 10])
def test_where_definitions_are_the_same_so_are_the_figures(connection: Connection, project: Project, k: int) -> None:
    serve_some(connection)
    found = figures(snapshot_of(connection, project, k))
    ours = judged(connection, k).overall
    assert ours is not None
    assert found["MRR@k"] == pytest.approx(ours.mrr.mean)
    assert found["HitRate@k"] == pytest.approx(ours.hit_rate.mean)
    if k >= 3:  # as long as the longest list
        assert found["NDCG@k"] == pytest.approx(ours.ndcg.mean)


def test_evidently_does_not_know_what_was_taken_from_behind_the_kth_place(
    connection: Connection, project: Project
) -> None:
    serve(connection, 1500, "abc")
    act(connection, 1510, "a")
    act(connection, 1511, "c")

    ours = judged(connection, 2).overall

    assert ours is not None and ours.ndcg.mean == pytest.approx(1 / (1 + 1 / log2(3)))
    assert figures(snapshot_of(connection, project, 2))["NDCG@k"] == 1


def test_beyond_accuracy(connection: Connection, project: Project) -> None:
    serve(connection, 1500, "abd")
    serve(connection, 1501, "ae", strategy="popular")  # nobody had an event on e when the version was trained

    found = figures(snapshot_of(connection, project))

    known = {"a": 4 / 4, "b": 2 / 4}  # shares of the users
    assert found["Novelty"] == pytest.approx((-(log2(known["a"]) + log2(known["b"])) / 2 + 0) / 2)
    assert found["Popularity Bias (arp)"] == pytest.approx(((4 + 2) / 4 / 2 + 1) / 2)
    assert found["Popularity Bias (coverage)"] == pytest.approx(2 / 3)  # a, b and c are known
    assert found["Mean value of 'diversity'"] == pytest.approx(1 - 1 / sqrt(2))  # of a and b; e and d have no category
    assert found["Mean value of 'fallback'"] == 1 / 2


def test_what_cannot_be_told_is_left_out(connection: Connection, project: Project) -> None:
    serve(connection, 1500, "d")
    assert list(figures(snapshot_of(connection, project))) == [
        "NDCG@k", "MRR@k", "HitRate@k", "Mean value of 'fallback'"
    ]  # fmt: skip


def test_of_many_lists_some_are_looked_at(
    connection: Connection, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recsys, "SAMPLE", 5)
    for number in range(10):
        serve(connection, 1500 + number, "ab" if number % 2 else "cd")  # the first, third and so on are of c and d
        serve(connection, 1500 + number, "ab", variant="shadow")

    found = figures(snapshot_of(connection, project))

    assert found["Popularity Bias (coverage)"] == pytest.approx(1 / 3)  # a, b and c are known


def test_a_page_of_many_lists_is_not_large(connection: Connection, project: Project) -> None:
    for number in range(300):
        serve(connection, 1500 + number, "abcd", user=f"u{number}")
    assert len(snapshot_of(connection, project).get_html_str(as_iframe=False)) < 5_000_000


# The workspace.


def signals(distance: float = 0.1) -> list[Signal]:
    return [
        Signal(name, "Jensen-Shannon distance", distance, 0.05, name == "event", "") for name in Watching.model_fields
    ]


def kept(project: Project) -> dict[str, list[Any]]:
    """The snapshots of each name, oldest first."""
    from evidently.ui.workspace import Workspace

    workspace = Workspace(str(project.reports / "evidently"))
    (shelf,) = workspace.list_projects()
    assert shelf.name == "recloop"
    found: dict[str, list[Any]] = {}
    for run in sorted(workspace.list_runs(shelf.id), key=str):
        model = workspace.get_run(shelf.id, run)
        assert model is not None
        found.setdefault(str(model.name), []).append(model)
    return found


def test_a_snapshot_is_kept_under_its_windows_end_with_its_version(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    snapshot = figures_snapshot(drift_figures(1234, signals()))

    keep(project, 5 * HOUR, {"drift": snapshot, "recsys": None}, version=3, keep=2)

    (model,) = kept(project)["drift"]
    assert list(kept(project)) == ["drift"]
    assert model.timestamp == from_micros(5 * HOUR)
    assert model.tags == ["version 3"]
    assert figures(snapshot)["Mean value of 'events'"] == 1234
    assert figures(snapshot)["Mean value of 'drifted signals'"] == 1
    assert os.environ["DO_NOT_TRACK"] == "1"


def test_the_newest_of_each_name_stay(project: Project) -> None:
    snapshot = figures_snapshot({"events": 1.0})
    for hour in (3, 1, 2):
        keep(project, hour * HOUR, {"a": snapshot}, version=1, keep=2)
    keep(project, 0, {"b": snapshot}, version=1, keep=2)

    assert [model.timestamp.hour for model in kept(project)["a"]] == [3, 2]
    assert len(kept(project)["b"]) == 1


def test_what_was_half_written_is_removed(project: Project) -> None:
    snapshot = figures_snapshot({"events": 1.0})
    keep(project, 0, {"a": snapshot}, version=1, keep=2)
    (whole,) = (project.reports / "evidently").rglob("snapshots/*.json")
    (whole.with_name("00000000-0000-7000-8000-000000000000.json")).write_text(whole.read_text()[:100])

    keep(project, HOUR, {"a": snapshot}, version=1, keep=2)

    assert len(kept(project)["a"]) == 2


def test_a_damaged_workspace_is_named(project: Project) -> None:
    snapshot = figures_snapshot({"events": 1.0})
    keep(project, 0, {"a": snapshot}, version=1, keep=2)
    (facts,) = (project.reports / "evidently").rglob("metadata.json")
    facts.write_text("{")
    with pytest.raises(RecloopError, match=r"reports/evidently is damaged: .*\n.*delete it"):
        keep(project, 0, {"a": snapshot}, version=1, keep=2)


def test_what_people_change_in_the_dashboard_stays(project: Project) -> None:
    from evidently.ui.workspace import Workspace

    snapshot = figures_snapshot({"events": 1.0})
    keep(project, 0, {"a": snapshot}, version=1, keep=2)
    workspace = Workspace(str(project.reports / "evidently"))
    (shelf,) = workspace.list_projects()
    shelf.dashboard.delete_panel("Events", "Windows")

    keep(project, HOUR, {"a": snapshot}, version=1, keep=2)

    titles = [panel.title for panel in shelf.dashboard.model().panels]
    assert "Events" not in titles
    assert "Novelty" in titles


def test_every_line_of_the_dashboard_has_a_figure(connection: Connection, project: Project) -> None:
    """As Evidently's own service looks them up; two windows make one line with two points."""
    from evidently.ui.service.base import SeriesFilter
    from evidently.ui.service.storage.local.base import InMemoryDataStorage
    from evidently.ui.workspace import Workspace

    for number in range(2000):
        chances = [0.9, 0.001]
        serve(connection, 1500, "ab", user=f"u{number}", chances=chances)
        act(connection, 1510, "b", kind=("click", "view", "purchase", "rating")[number % 4], user=f"u{number}")
    quality = judged(connection, 2)
    for hour in (1, 2):
        pages = {
            "signals": figures_snapshot(drift_figures(1000, signals(hour / 10))),
            "quality": figures_snapshot(quality_figures(quality, version=1)),
            "recsys": snapshot_of(connection, project, 2),
        }
        keep(project, hour * HOUR, pages, version=1, keep=5)

    folder = str(project.reports / "evidently")
    (shelf,) = Workspace(folder).list_projects()
    storage = InMemoryDataStorage(folder)
    lines = [value for panel in shelf.dashboard.model().panels for value in panel.values]
    assert len(lines) == len(Watching.model_fields) + 2 + 3 + 4 + 2 + 1 + 1 + 1 + 2 + 1
    for line in lines:
        wanted = SeriesFilter(tags=[], metadata={}, metric=line.metric, metric_labels=line.metric_labels)
        found = asyncio.run(storage.get_data_series(shelf.id, [wanted], None, None))
        assert [len(series.values) for series in found.series] == [2], line.legend


def test_a_version_that_showed_nothing_has_no_figures(connection: Connection) -> None:
    serve(connection, 1500, "ab", version=2, variant="shadow")
    quality = judged(connection, 2)
    assert quality_figures(quality, version=2) == {}
    assert figures_snapshot({}) is None
