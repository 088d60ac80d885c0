"""Who becomes champion: the challenger that beats it on the same users, and nobody else's by accident.

Promoting again what is champion already changes nothing. Of two promotions at once only one wins: the other
finds another champion than the one it was compared with, and says so (`PromotionConflict`).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from recloop.data.prepared import Prepared
from recloop.errors import PromotionConflict, ServingError, StageError
from recloop.files import read_json
from recloop.pipeline.repro import outdated
from recloop.project import Project
from recloop.registry import history, versions
from recloop.registry.contest import Contest, compete, latency_ms
from recloop.registry.deploy import deploy
from recloop.registry.history import Ledger
from recloop.registry.package import Package, build_package
from recloop.registry.runs import Run, ensure_run
from recloop.registry.tracking import Tracking, open_tracking
from recloop.registry.versions import Version

Verdict = Literal["first", "promoted", "rejected", "unchanged"]
Outdated = Callable[[Project, Sequence[str]], tuple[str, ...]]


@dataclass(frozen=True)
class PromotionReport:
    """What came of a promotion."""

    verdict: Verdict
    """`first`: there was no champion. `unchanged`: the model at hand is champion already."""
    model: str
    version: int
    champion: int
    """Who is champion now."""
    previous: int | None
    """Who was champion before, if anybody."""
    why: str
    objections: tuple[str, ...] = ()
    """Why it was rejected."""
    numbers: dict[str, Any] = field(default_factory=dict)
    """Of the comparison; empty where there was none."""

    @property
    def changed(self) -> bool:
        """Whether the champion is another now."""
        return self.verdict in ("first", "promoted")

    def __str__(self) -> str:
        if self.verdict == "unchanged":
            return f"v{self.version} ({self.model}) is champion already: {self.why}"
        if self.verdict == "first":
            return f"v{self.version} ({self.model}) is champion: {self.why}"
        if self.verdict == "promoted":
            return f"v{self.version} ({self.model}) is champion in v{self.previous}'s place: {self.why}"
        lines = [f"v{self.version} ({self.model}) does not become champion, v{self.champion} stays: {self.why}"]
        return "\n".join(lines + [f"  - {objection}" for objection in self.objections])


@dataclass(frozen=True)
class Standing:
    """Who is champion, and by which row of the history: what must not have changed while we compared."""

    champion: Version | None
    seq: int | None


def promote(
    project: Project, model: str | None = None, *, reason: str, outdated: Outdated = outdated
) -> PromotionReport:
    """Register a trained model; make it champion if it is better than the champion; then deploy it.

    Args:
        project: the checkout, its stages up to date.
        model: which of the zoo; the best one of the comparison by default.
        reason: why it was trained; kept with the version.
        outdated: tells which stages are not up to date.

    Raises:
        StageError: the model, or a report on it, is missing or not up to date.
        RegistryError: MLflow does not answer.
        PromotionConflict: the champion changed meanwhile; nothing was changed here.
    """
    name = model or best_model(project)
    stages = ["prepare", f"train@{name}", f"evaluate@{name}", *([] if model else ["compare"])]
    _require_fresh(project, stages, outdated)
    tracking, ledger = open_tracking(project), history.ledger(project)
    before = _standing(tracking, ledger)
    run = ensure_run(tracking, project, name)
    with tempfile.TemporaryDirectory(prefix="recloop-") as scratch:
        package = build_package(project, name, Path(scratch) / "challenger")
        champion = before.champion
        if champion is not None and champion.package_sha256 == package.sha256:
            deploy(project)
            return PromotionReport(
                "unchanged",
                name,
                champion.number,
                champion.number,
                champion.number,
                "the same model from the same data",
            )
        latency = _try_out(package)
        challenger = _register(tracking, ledger, project, run, package, reason)
        contest = None
        if champion is not None:
            versions.fetch(tracking, champion, Path(scratch) / "champion")
            contest = compete(
                package,
                Package.load(Path(scratch) / "champion"),
                Prepared.load(project.prepared),
                project.params.promotion,
                project.params.evaluate,
                latency,
            )
    report = _judge(project, challenger, champion, contest, latency)
    if report.changed:
        _crown(tracking, ledger, before, challenger, report, reason)
    _note(tracking, report, reason)
    if report.changed:
        deploy(project)
    return report


def best_model(project: Project) -> str:
    """The model that the stage `compare` chose."""
    content = read_json(project.reports / "comparison.json", remedy="`dvc repro` writes it")
    return str(content["best"])


def _require_fresh(project: Project, stages: Sequence[str], outdated: Outdated) -> None:
    """A model judged on other data, or by another report, than the ones at hand must not be registered."""
    if not (project.root / ".dvc").is_dir():
        return  # not versioned by DVC: there is nothing that could tell
    stale = outdated(project, stages)
    if stale:
        raise StageError(f"not up to date: {', '.join(stale)}", remedy="`dvc repro` brings the stages up to date")


def _standing(tracking: Tracking, ledger: Ledger) -> Standing:
    with ledger.turn():
        champion = versions.champion(tracking)
        ledger.reconcile(champion)
        newest = ledger.last()
    return Standing(champion, newest.seq if newest else None)


def _try_out(package: Package) -> float:
    """Its latency. This loads it as the endpoint would: what cannot be served is not registered."""
    try:
        return latency_ms(package)
    except ServingError as error:
        raise StageError(
            f"the model {package.model} cannot be served: {error.message}",
            remedy="`dvc repro` trains it on the data at hand",
        ) from error


def _register(tracking: Tracking, ledger: Ledger, project: Project, run: Run, package: Package, reason: str) -> Version:
    info = package.parcel.info
    tags = {
        "recloop.reason": reason,
        "recloop.data_sha256": info.data_sha256,
        "recloop.model_sha256": info.model_sha256,
        "recloop.metrics": json.dumps(info.metrics, sort_keys=True),
    }
    lineage = {name: project.root / name for name in ("dvc.lock", "params.yaml")}
    version = versions.register(tracking, run.run_id, package, tags, lineage)
    with ledger.turn():  # MLflow looks for an alias and then inserts it: of two at once one would fail
        versions.point(tracking, "challenger", version.number)
    return version


def _judge(
    project: Project, challenger: Version, champion: Version | None, contest: Contest | None, latency: float
) -> PromotionReport:
    number, model = challenger.number, challenger.model
    if champion is None or contest is None:
        numbers = {"latency_ms": latency}
        return PromotionReport("first", model, number, number, None, "there was none before", numbers=numbers)
    objections = contest.objections(project.params.promotion)
    if "recloop.rolled_back" in challenger.tags:
        back = f"it was rolled back before: {challenger.tags['recloop.rolled_back']}"
        objections = (f"{back} (train anew, or delete its tag recloop.rolled_back in MLflow)", *objections)
    verdict: Verdict = "rejected" if objections else "promoted"
    now = champion.number if objections else number
    return PromotionReport(verdict, model, number, now, champion.number, str(contest), objections, contest.numbers())


def _crown(
    tracking: Tracking, ledger: Ledger, before: Standing, challenger: Version, report: PromotionReport, reason: str
) -> None:
    """Make the challenger champion, if the champion is still who it was compared with."""
    with ledger.turn():
        now, newest = versions.champion(tracking), ledger.last()
        if _identity(now) != _identity(before.champion) or (newest.seq if newest else None) != before.seq:
            raise PromotionConflict(
                f"v{challenger.number} was compared with {_name(before.champion)}, but meanwhile "
                f"{_name(now)} became champion; nothing was changed",
                remedy="run `recloop promote` again: it compares with the new champion",
            )
        versions.point(tracking, "champion", challenger.number)
        previous = before.champion.number if before.champion else None
        ledger.append(challenger, previous, "promote", f"{reason}; {report.why}", report.numbers)
        versions.point(tracking, "challenger", None)


def _note(tracking: Tracking, report: PromotionReport, reason: str) -> None:
    tags = {
        "recloop.verdict": report.verdict,
        "recloop.why": "; ".join((report.why, *report.objections)),
        "recloop.numbers": json.dumps(report.numbers, sort_keys=True),
        "recloop.reason": reason,
    }
    versions.note(tracking, report.version, tags)


def _identity(version: Version | None) -> tuple[int, str] | None:
    return None if version is None else version.identity


def _name(version: Version | None) -> str:
    return "no champion" if version is None else f"v{version.number}"
