"""What the flows decide and say. That they run, and on what, is in tests/e2e."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State
from prefect.flows import load_flow_from_entrypoint
from prefect.logging import disable_run_logger
from prefect.states import Completed, Failed
from ruamel.yaml import YAML

from flows import monitoring, runs, training
from flows.deploy import declared_in
from flows.events import emit
from monitoring import run
from monitoring.channels import Channel, Message
from monitoring.live import LiveModel
from monitoring.policy import Signal
from monitoring.verdicts import Verdict, latest, store
from recloop.errors import GateError, PlatformError, RegistryError, StageError
from recloop.exclusive import Lock
from recloop.pipeline import repro
from recloop.platform import POOL, WORKERS
from recloop.project import Project
from recloop.registry.promotion import PromotionReport
from recloop.registry.rollback import RollbackReport
from recloop.storage import connect
from tests.conftest import ROOT

DEPLOYMENTS = YAML(typ="safe").load(ROOT / "prefect.yaml")["deployments"]


def verdict(*signals: Signal, reasons: tuple[str, ...]) -> Verdict:
    return Verdict(
        id=7,
        at=0,
        window_from=0,
        window_to=0,
        version=3,
        events=1200,
        verdict="drift",
        signals=signals,
        reasons=reasons,
        report="reports/drift/7/index.html",
    )


def report(verdict: Any, objections: tuple[str, ...] = ()) -> PromotionReport:
    return PromotionReport(verdict, "sasrec", 3, 3, 2, "NDCG@10 0.12 against 0.10", objections, {"users": 900})


class TestPrefectYaml:
    def test_it_declares_the_two_production_deployments(self) -> None:
        declared = declared_in(ROOT / "prefect.yaml")
        assert [(d.name, d.pool) for d in declared] == [
            ("training/production", POOL),
            ("monitoring/production", POOL),
        ]

    def test_each_queue_has_a_worker_of_the_platform(self) -> None:
        queues = {entry["work_pool"]["work_queue_name"] for entry in DEPLOYMENTS}
        assert queues == set(WORKERS.values())

    def test_two_trainings_never_run_at_once_and_none_is_lost(self) -> None:
        assert DEPLOYMENTS[0]["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}

    def test_the_trigger_listens_to_what_the_monitor_emits_and_hands_its_reason_on(self) -> None:
        (trigger,) = DEPLOYMENTS[0]["triggers"]
        assert trigger["expect"] == [monitoring.DRIFT]
        assert trigger["parameters"] == {
            "reason": "{{ event.payload.reason }}",
            "verdict": "{{ event.payload.verdict_id }}",
        }

    @pytest.mark.parametrize("entry", DEPLOYMENTS, ids=lambda entry: entry["entrypoint"])
    def test_each_parameter_is_one_of_the_flow(self, entry: dict[str, Any]) -> None:
        known = set(load_flow_from_entrypoint(entry["entrypoint"]).parameters.properties)
        given = [*entry["schedules"], *entry.get("triggers", [])]
        assert {name for each in given for name in each.get("parameters", {})} <= known

    def test_no_path_of_a_machine_is_in_it(self) -> None:
        assert "{{ $RECLOOP_ROOT }}" in (ROOT / "prefect.yaml").read_text()

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (None, "declares no deployment"),
            ("deployments: []", "declares no deployment"),
            ("deployments: [{name: production}]", "deployment 1: KeyError: 'entrypoint'"),
            ("deployments: [{name: x, entrypoint: flows.training.training}]", "KeyError: 'work_pool'"),
            ("deployments: [{name: x, entrypoint: flows.gone.gone, work_pool: {name: p}}]", "flows.gone"),
            ("deployments: [{name: x, entrypoint: flows.training.gone, work_pool: {name: p}}]", "gone"),
            ("deployments: [", "is not valid YAML"),
        ],
    )
    def test_a_broken_one_is_an_error_that_says_where(
        self, tmp_path: Path, content: str | None, complaint: str
    ) -> None:
        file = tmp_path / "prefect.yaml"
        if content is not None:
            file.write_text(content)
        with pytest.raises(PlatformError, match=complaint):
            declared_in(file)


class TestTraining:
    @pytest.mark.parametrize(
        ("outcome", "state"), [("ran", "Completed"), ("restored", "Cached"), ("unchanged", "Up to date")]
    )
    def test_the_state_of_a_task_says_what_came_of_its_stage(
        self, monkeypatch: pytest.MonkeyPatch, outcome: repro.Outcome, state: str
    ) -> None:
        monkeypatch.setattr(repro, "reproduce", lambda *_args, **_kwargs: outcome)
        with disable_run_logger():
            found = training.run_stage.fn(Project(Path()), "prepare", threading.Event())
        assert found.name == state
        assert found.is_completed()

    def test_a_run_that_is_ended_waits_no_longer_for_another_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def busy(*_args: Any, sleep: Any, **_kwargs: Any) -> repro.Outcome:
            sleep(600)
            return "ran"

        monkeypatch.setattr(repro, "reproduce", busy)
        ended = threading.Event()
        ended.set()
        with disable_run_logger(), pytest.raises(StageError, match="stage prepare: the run was ended"):
            training.run_stage.fn(Project(Path()), "prepare", ended)

    def test_only_reading_the_source_is_tried_again(self) -> None:
        ended = threading.Event()
        assert training.task_of("ingest", ended).retries == 2
        assert training.task_of("gate", ended).retries == 0
        assert training.task_of("train@sasrec", ended).name == "train@sasrec"

    def test_it_is_not_tried_again_after_another_error_or_once_the_run_is_ended(self) -> None:
        ended = threading.Event()
        again = training.task_of("ingest", ended).retry_condition_fn
        assert again(None, None, failed(StageError("the network is down")))
        assert not again(None, None, failed(GateError("too much rubbish")))
        ended.set()
        assert not again(None, None, failed(StageError("killed")))

    @pytest.mark.parametrize(
        ("line", "level"),
        [
            ("ERROR: failed to reproduce 'gate'", logging.ERROR),
            ("recloop: the gate stops", logging.ERROR),
            ("WARNING: stage is locked", logging.WARNING),
            ("Running stage 'gate':", logging.INFO),
        ],
    )
    def test_what_a_stage_prints_is_logged_by_its_weight(self, line: str, level: int) -> None:
        assert training.level_of(line) == level

    def test_outcomes_are_counted(self) -> None:
        counted = training.counted(["ran", "unchanged", "ran", "restored"])
        assert counted == "4 stages: 2 ran, 1 restored, 1 unchanged"

    def test_the_page_has_the_verdict_its_objections_and_the_table(self, tmp_path: Path) -> None:
        (tmp_path / "reports").mkdir()
        (tmp_path / "reports" / "comparison.csv").write_text("model,ndcg_at_10\nsasrec,0.12\nmf,0.10\n")
        page = training.page(Project(tmp_path), report("rejected", ("too slow",)))
        assert page.splitlines() == [
            "# rejected: v3 (sasrec)",
            "",
            "NDCG@10 0.12 against 0.10",
            "",
            "- too slow",
            "",
            "| model | ndcg_at_10 |",
            "| --- | --- |",
            "| sasrec | 0.12 |",
            "| mf | 0.10 |",
        ]

    @pytest.mark.parametrize(
        ("error", "state", "cause"),
        [
            (GateError("9% of the rows are broken"), "Stopped by the gate", "training failed: the gate"),
            (RegistryError("MLflow does not answer", remedy="start it"), "Failed", "training failed: RegistryError"),
        ],
    )
    def test_what_comes_to_nothing_is_told_and_the_champion_stays(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, state: str, cause: str
    ) -> None:
        (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
        live = tmp_path / "var" / "live" / "champion.json"
        live.parent.mkdir(parents=True)
        live.write_text("{}")

        def fails(_project: Project) -> None:
            raise error

        monkeypatch.setattr(training, "take_feedback", fails)
        project, told = Project(tmp_path), list[Message]()
        for _ in range(2):
            found = training.train(project, "a person asked", [Channel("list", told.append)])
        assert (found.name, found.message) == (state, str(error))
        assert [message.cause for message in told] == [cause], "once"
        assert live.read_text() == "{}"

    def test_without_the_database_no_training_begins_and_people_are_told_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
        (tmp_path / "var").mkdir()
        (tmp_path / "var" / "recloop.db").write_bytes(b"no database at all" * 100)
        told = list[Message]()
        monkeypatch.setattr(Project, "find", lambda: Project(tmp_path))
        monkeypatch.setattr(training, "channels", lambda _: (Channel("list", told.append),))
        monkeypatch.setattr(training, "train", lambda *_: pytest.fail("it has begun"))

        states = [training.training.fn("drift", verdict="1") for _ in range(2)]

        assert {state.name for state in states} == {"Failed"}
        assert [message.cause for message in told] == ["training failed: DatabaseError"]
        assert (tmp_path / "var" / "alerts-unrecorded.json").exists()


class TestFollowUp:
    @pytest.mark.parametrize(("verdict", "packaged"), [("promoted", True), ("rejected", False)])
    def test_only_a_new_champion_is_packaged(
        self, monkeypatch: pytest.MonkeyPatch, verdict: str, packaged: bool
    ) -> None:
        submitted = submit_to_a_list(monkeypatch, {})
        assert training.follow_up(Project(Path()), report(verdict)) == []
        assert submitted == ["announce", "push", *(["package"] if packaged else [])]

    def test_what_fails_is_told_and_undoes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        submit_to_a_list(monkeypatch, {"push": PlatformError("no remote", remedy="add one")})
        with disable_run_logger():
            warnings = training.follow_up(Project(Path()), report("promoted"))
        assert warnings == ["warning: no remote\n  → add one"]


class TestMonitoring:
    def test_the_reason_holds_the_verdict_and_its_figures(self) -> None:
        found = verdict(reasons=("unknown_items: share 0.300 ≥ 0.1", "event: distance 0.200 ≥ 0.15"))
        assert monitoring.reason(found) == (
            "drift, verdict 7: unknown_items: share 0.300 ≥ 0.1; event: distance 0.200 ≥ 0.15"
        )

    def test_a_version_that_does_worse_is_rolled_back_and_that_is_said(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
        project, told, reasons = Project(tmp_path), list[Message](), list[str]()
        database = connect(project.database_url)
        worse = store(database, replace(verdict(reasons=("NDCG@10 -0.1 [-0.2, -0.05]",)), verdict="worse"))

        def rollback(_project: Project, reason: str, expected: int) -> RollbackReport:
            assert expected == 3
            reasons.append(reason)
            return RollbackReport(version=2, rolled_back=3, model="sasrec")

        monkeypatch.setattr("recloop.registry.rollback.rollback", rollback)
        with disable_run_logger():
            said = monitoring.roll_back.fn(project, worse, [Channel("list", told.append)])

        assert said == "v2 (sasrec) is champion again, in v3's place"
        assert reasons == ["verdict 1: NDCG@10 -0.1 [-0.2, -0.05]"]
        assert latest(database)[0].acted == f"rolled back: {said}"
        database.dispose()
        assert [(message.severity, message.cause) for message in told] == [("roll back", "version 3 does worse")]

    def test_the_page_has_a_row_for_each_signal(self) -> None:
        signals = (
            Signal("unknown_items", "share", 0.3, 0.1, True, "more", chance=0.2),
            Signal("top_score", "distance", 0.04, None, False, "less"),
        )
        lines = monitoring.page(Project(Path("/p")), verdict(*signals, reasons=("it moved",))).splitlines()
        assert lines[0] == "# drift"
        assert "- it moved" in lines
        assert "| unknown_items | 0.300 | 0.1 | 0.200 | yes: retrain |" in lines
        assert "| top_score | 0.040 |  | 0.000 |  |" in lines
        assert lines[-1] == "Report: `/p/reports/drift/7/index.html`"

    def test_without_a_live_model_there_is_nothing_to_judge(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
        monkeypatch.setenv("RECLOOP_ROOT", str(tmp_path))
        state = monitoring.monitoring.fn()
        assert (state.name, state.is_completed()) == ("Nothing live", True)

    @pytest.fixture
    def project(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
        """Something is live."""
        (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
        (tmp_path / "var" / "live").mkdir(parents=True)
        (tmp_path / "var" / "live" / "champion.json").write_text("{}")
        monkeypatch.setenv("RECLOOP_ROOT", str(tmp_path))
        return Project(tmp_path)

    def test_where_a_person_runs_the_monitor_nobody_is_alerted_that_it_failed(
        self, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told = list[Message]()
        monkeypatch.setattr(monitoring, "channels", lambda _: [Channel("list", told.append)])
        monkeypatch.setattr(monitoring, "judge", lambda *_: run.monitor(project))
        monkeypatch.setattr(run, "live_model", lambda _: LiveModel(1, 0, None, 0))

        with Lock(project.var / "monitor.lock", "a monitor"):
            state = monitoring.monitoring.fn()

        assert (state.name, state.is_completed(), told) == ("Judged by another", True, [])

    def test_where_it_cannot_be_rolled_back_a_training_is_asked_for_all_the_same(
        self, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = list[Verdict]()

        def fails(*_: object) -> str:
            raise RegistryError("there is no earlier champion")

        for name, stub in {
            "judge": lambda *_: "worse",
            "killed": lambda _: None,
            "roll_back": fails,
            "ask_for_retraining": lambda _, found: asked.append(found) or found,
        }.items():
            monkeypatch.setattr(monitoring, name, stub)
        monkeypatch.setattr(run, "worse", lambda _: verdict(reasons=("it is worse",)))
        monkeypatch.setattr(run, "due", lambda *_, **__: verdict(reasons=("drift",)))

        with pytest.raises(RegistryError, match="no earlier champion"):
            monitoring.judge_and_act(project, ())
        assert len(asked) == 1

    def test_a_training_whose_process_is_gone_is_known_and_one_that_goes_on_is_not_taken_for_one(
        self, project: Project
    ) -> None:
        assert not runs._gone(project, "none that began here")
        with runs.alive(project, "run 1"):
            assert not runs._gone(project, "run 1")
        assert not runs._gone(project, "run 1"), "it says itself what came of it"
        script = (
            "import os, pathlib, flows.runs as r, recloop.project as p\n"
            f"with r.alive(p.Project(pathlib.Path({str(project.root)!r})), 'run 2'): os.kill(os.getpid(), 9)"
        )
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
        assert runs._gone(project, "run 2")

    def test_an_event_that_the_server_does_not_take_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with (
            temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),  # nobody listens at "discard"
            pytest.raises(PlatformError, match=r"did not take the event recloop\.drift: .*refused"),
        ):
            emit("recloop.drift", model_name="recloop", payload={"reason": "r"})


def failed(error: Exception) -> State[Any]:
    return Failed(data=error)


def submit_to_a_list(monkeypatch: pytest.MonkeyPatch, errors: dict[str, Exception]) -> list[str]:
    """Let the tasks that follow a promotion end at once, with these errors."""
    submitted: list[str] = []

    class Future:
        def __init__(self, name: str) -> None:
            self.state = failed(errors[name]) if name in errors else Completed()

        def wait(self) -> None: ...

    for name in ("announce", "push", "package"):

        def submit(*_args: Any, name: str = name) -> Future:
            submitted.append(name)
            return Future(name)

        monkeypatch.setattr(getattr(training, name), "submit", submit)
    return submitted
