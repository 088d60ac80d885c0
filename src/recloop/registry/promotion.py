"""Who becomes champion: the challenger that beats it on the same users, or whom a person names; nobody by accident.

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
from recloop.errors import ServingError, StageError
from recloop.files import read_json
from recloop.pipeline.repro import outdated
from recloop.project import Project
from recloop.registry import history, versions
from recloop.registry.contest import Contest, compete, latency_ms
from recloop.registry.crowning import crown, standing
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
        lines += [f"  - {objection}" for objection in self.objections]
        beside = f"v{self.version} is the challenger now: `POST /admin/split` tries it beside v{self.champion}"
        return "\n".join([*lines, beside])


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
    before = standing(tracking, ledger)
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
        crown(tracking, ledger, before, challenger, f"{reason}; {report.why}", report.numbers)
    _note(tracking, report, reason)
    if report.changed:
        deploy(project)
    return report


def promote_version(project: Project, number: int, *, reason: str) -> PromotionReport:
    """Make a registered version champion because a person says so, without the test; then deploy it.

    It is for what the test cannot see, such as what people did with the lists of a challenger.

    Args:
        project: the checkout; its stages need not be up to date.
        number: the version.
        reason: what the person goes by; kept in the history, and with the version.

    Raises:
        RegistryError: there is no such version, its artifacts are damaged, or MLflow does not answer.
        StageError: it cannot be served.
        PromotionConflict: the champion changed meanwhile; nothing was changed here.
    """
    tracking, ledger = open_tracking(project), history.ledger(project)
    before, version = standing(tracking, ledger), versions.get(tracking, number)
    model, previous = version.model, before.champion.number if before.champion else None
    if before.champion is not None and before.champion.identity == version.identity:
        deploy(project)
        return PromotionReport("unchanged", model, number, number, number, "there is nothing to change")
    with tempfile.TemporaryDirectory(prefix="recloop-") as scratch:
        versions.fetch(tracking, version, Path(scratch) / "package")
        numbers = {"latency_ms": _try_out(Package.load(Path(scratch) / "package"))}
    verdict: Verdict = "first" if previous is None else "promoted"
    report = PromotionReport(verdict, model, number, number, previous, "without the test", numbers=numbers)
    why = f"{reason}; {report.why}"
    crown(tracking, ledger, before, version, why, numbers)
    said = version.tags.get("recloop.why")
    tags = {"recloop.verdict": verdict, "recloop.why": f"{why}, which said: {said}" if said else why}
    versions.note(tracking, number, tags)
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


def _note(tracking: Tracking, report: PromotionReport, reason: str) -> None:
    tags = {
        "recloop.verdict": report.verdict,
        "recloop.why": "; ".join((report.why, *report.objections)),
        "recloop.numbers": json.dumps(report.numbers, sort_keys=True),
        "recloop.reason": reason,
    }
    versions.note(tracking, report.version, tags)
