"""The demo's parts: a workspace apart, traffic in the users' order, and a report that keeps its promises."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console

from recloop.data.schema import INTERACTIONS
from recloop.demo.report import (
    ChampionFacts,
    DemoReport,
    DriftFacts,
    GateFacts,
    ModelFacts,
    RetrainingFacts,
    ServingFacts,
    SignalFacts,
    SwapFacts,
    show,
)
from recloop.demo.run import check_nothing_failed, demo_params, run_demo
from recloop.demo.traffic import Visit, sittings, visits_between
from recloop.demo.workspace import make_workspace
from recloop.errors import PlatformError, RecloopError
from recloop.exclusive import Lock
from recloop.platform import Platform
from recloop.project import Project


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def visit(user: str, number: int) -> Visit:
    return Visit(str(number), user, f"i{number}", "rating", 1.0, "1998-03-01T00:00:00+00:00")


def test_the_workspace_is_the_working_tree_with_the_demos_params_and_nothing_of_it_reaches_the_project(
    checkout: Path,
) -> None:
    (checkout / "README.md").write_text("changed, not committed")
    (checkout / "Makefile").unlink()
    before = git(checkout, "status", "--porcelain")

    workspace = make_workspace(Project(checkout), checkout / "var" / "demo", demo_params())

    assert (workspace.root / "README.md").read_text() == "changed, not committed"
    assert not (workspace.root / "Makefile").exists()
    assert workspace.params == demo_params()
    assert git(workspace.root, "status", "--porcelain") == ""
    assert str(workspace.var) in (workspace.root / ".dvc" / "config.local").read_text()
    assert workspace.database_url.startswith(f"sqlite:///{workspace.root}/")
    assert git(checkout, "status", "--porcelain") == before


def test_a_second_demo_starts_anew(checkout: Path) -> None:
    folder = checkout / "var" / "demo"
    make_workspace(Project(checkout), folder, demo_params())
    (folder / "left over").touch()
    make_workspace(Project(checkout), folder, demo_params())
    assert not (folder / "left over").exists()


def test_outside_git_one_is_told_to_clone(tmp_path: Path) -> None:
    with pytest.raises(RecloopError, match="needs a git checkout"):
        make_workspace(Project(tmp_path), tmp_path / "demo", demo_params())


def test_traffic_begins_at_its_time_in_order_and_every_nth_event_is_broken() -> None:
    times = [datetime(1998, 3, day, tzinfo=UTC) for day in (4, 2, 1, 3)]
    log = pa.Table.from_pylist(
        [{"user_id": "u", "item_id": str(at.day), "event": "rating", "value": 3.0, "timestamp": at} for at in times],
        schema=INTERACTIONS,
    )
    visits = visits_between(log, datetime(1998, 3, 2, tzinfo=UTC), count=3, spoil_every=2)
    assert [(each.item_id, each.timestamp[:10]) for each in visits] == [
        ("2", "1998-03-02"), ("3", "1970-01-01"), ("4", "1998-03-04"),
    ]  # fmt: skip


def test_a_sitting_is_one_users_successive_events() -> None:
    visits = [visit(user, number) for number, user in enumerate("ababaa")]
    assert [[each.event_id for each in group] for group in sittings(visits, 2)] == [["0", "2"], ["1", "3"], ["4", "5"]]


def test_the_report_has_the_promised_keys_and_is_shown_whole() -> None:
    report = DemoReport(
        gate=GateFacts(rows=48_306, quarantined=110, rules={"timestamp_range": 110}),
        models={
            "sasrec": ModelFacts(
                ndcg_at_10=0.0692, ndcg_at_10_ci=(0.0487, 0.09), recall_at_10=0.1329, recall_at_10_ci=(0.0971, 0.1703)
            )
        },
        champion=ChampionFacts(model="sasrec", version=2, reason="drift; a gain of +0.03"),
        serving=ServingFacts(requests=9060, failed=0, p50_ms=4.1, p99_ms=8.7),
        drift=DriftFacts(
            verdict="drift",
            signals={"unknown_items": SignalFacts(figure=0.12, threshold=0.1, drifted=True, moved="1% → 8%")},
            reasons=["unknown_items: 0.12 ≥ 0.1"],
        ),
        retraining=RetrainingFacts(reason="drift", run="fine-agama", seconds=62.0),
        swap=SwapFacts(**{"from": 1}, to=2, requests=747, failed=0),
        places={"Data Docs": "open it"},
        seconds=191.0,
    )
    check_nothing_failed(report)
    failed = report.model_copy(update={"swap": report.swap.model_copy(update={"failed": 3})})
    with pytest.raises(RecloopError, match=r"3 of .* requests failed, 3 of them around the swap"):
        check_nothing_failed(failed)

    facts = json.loads(json.dumps(report.model_dump(mode="json", by_alias=True)))
    assert set(facts) >= {"gate", "models", "champion", "serving", "drift", "retraining", "swap", "seconds"}
    assert facts["swap"] == {"from": 1, "to": 2, "requests": 747, "failed": 0}
    assert facts["models"]["sasrec"]["ndcg_at_10_ci"] == [0.0487, 0.09]

    console = Console(record=True, width=100)
    console.print(show(report))
    text = console.export_text()
    for told in (
        "48,306 rows, 110 quarantined (timestamp_range 110)",
        "0.0692 [0.0487, 0.0900]",
        "v1 → v2",
        "747",
        "191 s",
    ):
        assert told in text


def test_a_demo_while_another_runs_in_the_workspace_is_refused(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVING", "PREFECT", "MLFLOW"):
        monkeypatch.setenv(f"RECLOOP_{name}_PORT", "0")  # as the demo sets them, for this test alone
    with Lock(checkout / "var" / "demo.lock", "a demo"), pytest.raises(PlatformError, match="a demo runs already"):
        run_demo(Project(checkout))
    workspace = Project(checkout / "var" / "demo")
    with Platform.lock(workspace), pytest.raises(PlatformError, match=r"the platform of .*demo runs already"):
        run_demo(Project(checkout))
    assert (workspace.var / "platform.lock").exists(), "the files of a running platform were deleted"
