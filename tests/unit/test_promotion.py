"""Who becomes champion, and that only one ever does."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from recloop.errors import PromotionConflict, RegistryError, StageError
from recloop.files import sha256, write_json
from recloop.project import Project
from recloop.registry import history, promotion, versions
from recloop.registry.deploy import current
from recloop.registry.history import show_history
from recloop.registry.promotion import PromotionReport, promote, promote_version
from recloop.registry.rollback import rollback
from recloop.registry.tracking import open_tracking
from recloop.serving.engine import Engine
from recloop.serving.parcel import package_sha256
from recloop.serving.pointer import CHALLENGER
from tests.trained import USERS, make_project, write_model, write_prepared

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project")


def promoted(project: Project, best: str, reason: str = "a test") -> PromotionReport:
    """Train a model that puts `best` first (d is right), and promote it."""
    write_model(project, best)
    return promote(project, reason=reason)


def champion(project: Project) -> int | None:
    found = versions.champion(open_tracking(project))
    return found.number if found else None


def test_the_first_model_becomes_champion_and_goes_live(project: Project) -> None:
    report = promoted(project, "o", "the beginning")

    assert (report.verdict, report.version, report.previous) == ("first", 1, None)
    assert champion(project) == 1
    live = current(project)
    assert live is not None
    assert (live.version, live.folder, live.previous) == (1, "v1", None)
    assert live.reason == "the beginning; there was none before"
    assert (project.live / "v1" / "model.safetensors").is_file()


def test_a_better_model_takes_its_place_and_the_numbers_are_kept(project: Project) -> None:
    promoted(project, "o")
    report = promoted(project, "d", "drift in item_popularity")

    assert (report.verdict, report.version, report.previous, report.champion) == ("promoted", 2, 1, 2)
    tags = versions.get(open_tracking(project), 2).tags
    assert tags["recloop.verdict"] == "promoted"
    assert tags["recloop.reason"] == "drift in item_popularity"
    numbers = json.loads(tags["recloop.numbers"])
    assert numbers["challenger_ndcg"] == pytest.approx(1.0)
    assert numbers["champion_ndcg"] == pytest.approx(0.6309, abs=1e-4)
    assert numbers["gain"]["low"] == pytest.approx(0.3691, abs=1e-4)
    row = history.ledger(project).last()
    assert row is not None
    assert (row.version, row.previous, row.action, row.numbers) == (2, 1, "promote", numbers)
    assert "challenger" not in aliases(project)  # it is the champion now
    live = current(project)
    assert live is not None
    assert (live.version, live.previous) == (2, 1)


def test_a_model_that_is_not_better_is_registered_and_rejected_with_the_reason(project: Project) -> None:
    promoted(project, "o")
    report = promoted(project, "n")  # n, then d: as good as o, then d

    assert (report.verdict, report.version, report.champion) == ("rejected", 2, 1)
    assert "v2 (popularity) does not become champion, v1 stays" in str(report)
    assert "promotion.min_gain" in str(report)
    assert str(report).endswith("\nv2 is the challenger now: `POST /admin/split` tries it beside v1")
    assert champion(project) == 1
    assert aliases(project) == {"champion": 1, "challenger": 2}
    tags = versions.get(open_tracking(project), 2).tags
    assert tags["recloop.verdict"] == "rejected"
    assert "not surely above 0" in tags["recloop.why"]
    assert len(history.ledger(project).rows()) == 1


def test_promoting_the_champion_again_changes_nothing(project: Project) -> None:
    promoted(project, "d")
    report = promote(project, reason="again")

    assert report.verdict == "unchanged"
    assert str(report).startswith("v1 (popularity) is champion already")
    assert sorted(versions.models(open_tracking(project))) == [1]
    assert len(history.ledger(project).rows()) == 1


def test_the_same_model_from_newer_data_is_a_version_of_its_own(project: Project) -> None:
    """It brings newer histories along, which is what the endpoint wants; but it must win."""
    promoted(project, "d")
    write_prepared(project.prepared, users={**USERS, "new": ["a", "b", "d"]}, watermark=7)

    report = promoted(project, "d")

    assert (report.verdict, report.version) == ("rejected", 2)
    assert json.loads(versions.get(open_tracking(project), 2).tags["recloop.numbers"])["users"] == 41


def test_rolling_back_makes_the_one_before_champion_and_twice_goes_two_back(project: Project) -> None:
    promoted(project, "o")
    promoted(project, "d")
    # The third is best once most users take e instead.
    write_prepared(project.prepared, users={user: ["a", "b", "c", "e"] for user in USERS})
    assert promoted(project, "e").version == 3

    with pytest.raises(RegistryError, match="version 2 is champion no more: version 3 is"):
        rollback(project, "slow", expected=2)
    assert str(rollback(project, "slow", expected=3)) == "v2 (popularity) is champion again, in v3's place"
    live = current(project)
    assert live is not None
    assert (live.version, live.previous, live.reason) == (2, 3, "slow")
    assert rollback(project, "still slow").version == 1
    with pytest.raises(RegistryError, match="no earlier champion"):
        rollback(project, "and again")

    assert champion(project) == 1
    rows = history.ledger(project).rows()
    assert [(row.version, row.action) for row in rows] == [
        (1, "promote"),
        (2, "promote"),
        (3, "promote"),
        (2, "rollback"),
        (1, "rollback"),
    ]


def test_what_was_rolled_back_is_not_promoted_again_by_the_next_training(project: Project) -> None:
    promoted(project, "o")
    promoted(project, "d")
    rollback(project, "customers complained")

    report = promote(project, reason="the nightly run")

    assert (report.verdict, report.version, report.champion) == ("rejected", 2, 1)
    assert "it was rolled back before: customers complained" in report.objections[0]


def test_nothing_to_roll_back_to_before_anything_was_promoted(project: Project) -> None:
    with pytest.raises(RegistryError, match="no earlier champion") as caught:
        rollback(project, "why not")
    assert "recloop promote" in (caught.value.remedy or "")


def test_a_version_deleted_from_the_registry_is_passed_over(project: Project) -> None:
    promoted(project, "o")
    promoted(project, "d")
    write_prepared(project.prepared, users={user: ["a", "b", "c", "e"] for user in USERS})
    promoted(project, "e")
    tracking = open_tracking(project)
    tracking.client.delete_model_version(tracking.name, "2")

    assert rollback(project, "slow").version == 1


def test_who_was_compared_with_a_former_champion_does_not_win(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(project, "o")
    promoted(project, "n", "never champion")  # v2
    write_model(project, "d")
    compete = promotion.compete

    def meanwhile(*args: object) -> object:
        versions.point(open_tracking(project), "champion", 2)  # somebody moves the alias while we compare
        return compete(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(promotion, "compete", meanwhile)
    with pytest.raises(PromotionConflict, match="v3 was to follow v1, but meanwhile v2 became champion") as caught:
        promote(project, reason="a race")

    assert caught.value.exit_code == 4
    assert "again" in (caught.value.remedy or "")
    assert champion(project) == 2
    monkeypatch.undo()
    assert promote(project, reason="again").verdict == "promoted"
    assert [row.action for row in history.ledger(project).rows()] == [
        "promote",
        "outside",
        "promote",
    ]


def test_a_champion_that_left_and_came_back_meanwhile_is_a_conflict_too(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(project, "o")
    write_model(project, "d")
    ledger, compete = history.ledger(project), promotion.compete
    first = versions.get(open_tracking(project), 1)

    def meanwhile(*args: object) -> object:
        ledger.append(replace(first, number=9), 1, "outside", "", {})
        ledger.append(first, 9, "outside", "", {})
        return compete(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(promotion, "compete", meanwhile)
    with pytest.raises(PromotionConflict):
        promote(project, reason="a race")


def test_of_two_threads_at_once_only_one_wins(project: Project) -> None:
    promoted(project, "o")
    write_model(project, "d")
    write_model(project, "d", name="mf")
    outcomes: list[str] = []
    start = threading.Barrier(2)

    def run(model: str) -> None:
        start.wait()
        try:
            outcomes.append(promote(Project(project.root), model, reason="a race").verdict)
        except PromotionConflict:
            outcomes.append("conflict")

    threads = [threading.Thread(target=run, args=(model,)) for model in ("popularity", "mf")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    check_one_winner(project, outcomes)


def test_of_two_processes_at_once_only_one_wins(project: Project) -> None:
    promoted(project, "o")
    write_model(project, "d")
    write_model(project, "d", name="mf")
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from recloop.errors import PromotionConflict\n"
        "from recloop.project import Project\n"
        "from recloop.registry.promotion import promote\n"
        "import mlflow, torch\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "try:\n"
        "    print(promote(Project(Path(sys.argv[1])), sys.argv[2], reason='a race').verdict)\n"
        "except PromotionConflict:\n"
        "    print('conflict')\n"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(project.root), model],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for model in ("popularity", "mf")
    ]
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        outcomes = [racer.communicate(timeout=120)[0].strip() for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()

    check_one_winner(project, outcomes)


def check_one_winner(project: Project, outcomes: list[str]) -> None:
    assert len(outcomes) == 2
    assert outcomes.count("promoted") == 1
    (other,) = [outcome for outcome in outcomes if outcome != "promoted"]
    assert other in ("conflict", "rejected")  # rejected: it came so late that it met the winner
    rows = history.ledger(project).rows()
    assert [row.action for row in rows] == ["promote", "promote"]
    live = current(project)
    assert live is not None
    assert rows[-1].version == champion(project) == live.version


def test_a_promotion_killed_between_alias_and_record_is_told_as_found(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(project, "o")
    write_model(project, "d")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(history.Ledger, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            promote(project, reason="cut short")

    shown = show_history(project)

    assert [(row.version, row.action) for row in shown.rows] == [(1, "promote"), (2, "outside")]
    assert promote(project, reason="again").verdict == "unchanged"
    live = current(project)
    assert live is not None
    assert live.version == 2  # and it is brought live
    assert rollback(project, "back").version == 1


def test_damaged_artifacts_of_the_champion_before_stop_a_rollback_before_anything_changes(project: Project) -> None:
    promoted(project, "o")
    promoted(project, "d")
    tracking = open_tracking(project)
    (Path(versions.get(tracking, 1).source.removeprefix("file://")) / "items.parquet").write_bytes(b"half")

    with pytest.raises(RegistryError, match="the artifacts of v1"):
        rollback(project, "back")

    assert champion(project) == 2
    assert [row.action for row in history.ledger(project).rows()] == ["promote", "promote"]


def test_a_registry_that_begins_anew_serves_its_own_first_version(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(project, "o")
    monkeypatch.setenv("RECLOOP_MLFLOW_URL", f"sqlite:///{project.var / 'another.db'}")
    write_model(project, "d")

    assert promote(project, reason="a new registry").version == 1

    live = current(project)
    assert live is not None
    assert live.package_sha256 == package_sha256(project.live / "v1")
    assert Engine.load(project.live / "v1").info.model_sha256 == sha256(
        project.model("popularity") / "model.safetensors"
    )
    assert [row.action for row in show_history(project).rows] == ["promote", "promote"]


def test_a_model_that_cannot_be_served_is_not_even_registered(project: Project) -> None:
    promoted(project, "o")
    write_model(project, "d")
    # Reports and model of one catalogue, prepared data of a smaller one.
    write_prepared(project.prepared, users={"u": ["a", "b", "c"]}, items="abc")

    with pytest.raises(StageError, match=r"popularity cannot be served: .*15 items") as caught:
        promote(project, reason="mixed up")

    assert "dvc repro" in (caught.value.remedy or "")
    assert champion(project) == 1
    assert sorted(versions.models(open_tracking(project))) == [1]


def test_stages_that_are_not_up_to_date_are_named_before_anything_is_registered(project: Project) -> None:
    write_model(project, "d")
    (project.root / ".dvc").mkdir()
    asked: list[str] = []

    def outdated(_: Project, stages: object) -> tuple[str, ...]:
        asked.extend(stages)  # type: ignore[call-overload]
        return ("train@popularity",)

    with pytest.raises(StageError, match="not up to date: train@popularity") as caught:
        promote(project, reason="hasty", outdated=outdated)

    assert "dvc repro" in (caught.value.remedy or "")
    assert asked == ["prepare", "train@popularity", "evaluate@popularity", "compare"]
    assert champion(project) is None


def test_without_a_comparison_there_is_no_best_model(project: Project) -> None:
    with pytest.raises(StageError, match=r"comparison\.json is missing"):
        promote(project, reason="hasty")


def test_a_named_model_is_taken_instead_of_the_best(project: Project) -> None:
    write_model(project, "d", name="mf")
    write_json(project.reports / "comparison.json", {"best": "sasrec"})

    assert promote(project, "mf", reason="a person likes it").version == 1


def test_a_version_that_a_person_names_becomes_champion_without_the_test(project: Project) -> None:
    promoted(project, "o")
    promoted(project, "n", "the weekly schedule")

    report = promote_version(project, 2, reason="clicked twice as often")

    assert str(report) == "v2 (popularity) is champion in v1's place: without the test"
    assert aliases(project) == {"champion": 2}
    row = history.ledger(project).last()
    assert row is not None
    assert (row.version, row.previous, row.action) == (2, 1, "promote")
    assert row.reason == "clicked twice as often; without the test"
    live = current(project)
    assert live is not None
    assert (live.version, live.previous) == (2, 1)
    tags = versions.get(open_tracking(project), 2).tags
    assert tags["recloop.verdict"] == "promoted"
    assert tags["recloop.reason"] == "the weekly schedule"
    assert "clicked twice as often; without the test, which said: " in tags["recloop.why"]
    assert "not surely above 0" in tags["recloop.why"]
    assert json.loads(tags["recloop.numbers"])["champion_ndcg"] == pytest.approx(0.6309, abs=1e-4)

    assert promote_version(project, 2, reason="again").verdict == "unchanged"
    assert rollback(project, "a mistake").version == 1


def test_a_challenger_that_came_meanwhile_stays_the_challenger(project: Project) -> None:
    promoted(project, "o")
    promoted(project, "n")
    promoted(project, "m")  # v3, while v2 was tried

    promote_version(project, 2, reason="clicked twice as often")

    assert aliases(project) == {"champion": 2, "challenger": 3}
    beside = current(project, CHALLENGER)
    assert beside is not None
    assert beside.version == 3


def test_the_first_champion_may_be_named_by_a_person(project: Project) -> None:
    promoted(project, "o")
    tracking = open_tracking(project)
    tracking.client.delete_registered_model_alias(tracking.name, "champion")

    assert promote_version(project, 1, reason="it was taken away by mistake").verdict == "first"
    assert champion(project) == 1


def test_a_version_that_is_named_while_another_wins_is_a_conflict(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(project, "o")
    promoted(project, "n")
    promoted(project, "m")
    try_out = promotion._try_out

    def meanwhile(*args: object) -> object:
        versions.point(open_tracking(project), "champion", 3)
        return try_out(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(promotion, "_try_out", meanwhile)
    with pytest.raises(PromotionConflict, match="v2 was to follow v1, but meanwhile v3 became champion"):
        promote_version(project, 2, reason="a race")
    assert champion(project) == 3


def test_a_version_that_cannot_be_had_is_not_made_champion(project: Project) -> None:
    promoted(project, "o")
    promoted(project, "n")
    (Path(versions.get(open_tracking(project), 2).source.removeprefix("file://")) / "items.parquet").write_bytes(
        b"half"
    )

    with pytest.raises(RegistryError, match="the artifacts of v2"):
        promote_version(project, 2, reason="clicked twice as often")
    with pytest.raises(RegistryError, match="has no version 9") as caught:
        promote_version(project, 9, reason="a slip")

    assert "versions: v1, v2" in (caught.value.remedy or "")
    assert aliases(project) == {"champion": 1, "challenger": 2}
    assert len(history.ledger(project).rows()) == 1


def aliases(project: Project) -> dict[str, int]:
    tracking = open_tracking(project)
    found = tracking.client.get_registered_model(tracking.name).aliases
    return {alias: int(number) for alias, number in found.items()}
