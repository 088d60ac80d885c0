"""Putting the champion where the endpoint serves it from: `var/live/`, without MLflow in the endpoint's way.

`champion.json` names the version that is live and its folder, `challenger.json` the one that traffic may be split
with; the endpoint watches these files alone. A new version's folder is whole before a file names it, and the version
before it stays on disk, for requests that still use it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime

from recloop.errors import RegistryError, ServingError
from recloop.files import write_json
from recloop.project import Project
from recloop.registry import history, versions
from recloop.registry.locks import held
from recloop.registry.tracking import Tracking, open_tracking
from recloop.registry.versions import Version
from recloop.serving.parcel import check_package
from recloop.serving.pointer import CHALLENGER, CHAMPION, Pointer, pack_only, read_pointer


@dataclass(frozen=True)
class Deployed:
    """What a deployment came to."""

    live: Pointer
    changed: bool
    """Whether it was not live before."""

    def __str__(self) -> str:
        state = "is live now" if self.changed else "is live already"
        return f"v{self.live.version} {state}, champion since {self.live.since}: {self.live.reason}"


def deploy(project: Project) -> Deployed:
    """Put the champion at `var/live/v<N>/` and point `champion.json` at it, unless it is there and whole already.

    Raises:
        RegistryError: there is no champion, or its artifacts are damaged, or MLflow does not answer.
    """
    tracking, ledger = open_tracking(project), history.ledger(project)
    with held(project.live / ".lock"):
        with ledger.turn():
            champion = versions.champion(tracking)
            if champion is None:
                raise RegistryError(
                    f"model {tracking.name!r} has no champion",
                    remedy="`recloop promote` makes the best trained model champion",
                )
            ledger.reconcile(champion)
            newest = ledger.last()
        assert newest is not None  # noqa: S101 (reconcile has just seen to it)
        before = current(project)
        _place_challenger(project, tracking, champion)
        if before is not None and before.identity == champion.identity and _is_whole(project, before):
            return Deployed(before, changed=False)
        same = before is not None and before.version == champion.number
        previous = None if before is None else before.previous if same else before.version
        live = Pointer(
            version=champion.number,
            folder=f"v{champion.number}",
            package_sha256=champion.package_sha256,
            since=datetime.fromtimestamp(newest.at / 1e6, UTC).isoformat(timespec="microseconds"),
            previous=previous,
            rolled_back=newest.action == "rollback",
            reason=newest.reason,
        )
        _switch(project, tracking, champion, live)
    return Deployed(live, changed=True)


def deploy_if_changed(project: Project) -> bool:
    """Deploy if champion or challenger in MLflow are not those that are here. Cheap when they are: two questions to
    MLflow.

    Raises:
        RegistryError: MLflow does not answer, or has no champion; what is live stays live.
    """
    tracking = open_tracking(project)
    champion, challenger = versions.champion(tracking), versions.challenger(tracking)
    if champion is not None and challenger is not None and challenger.identity == champion.identity:
        challenger = None
    if _is_here(project, champion, CHAMPION) and _is_here(project, challenger, CHALLENGER):
        return False
    return deploy(project).changed


def _is_here(project: Project, version: Version | None, pointer: str) -> bool:
    here = current(project, pointer)
    if version is None or here is None:
        return version is None and here is None
    return version.identity == here.identity and (project.live / here.folder).is_dir()


def current(project: Project, pointer: str = CHAMPION) -> Pointer | None:
    """What a pointer names here; None where there is none, or where it is damaged."""
    try:
        return read_pointer(project.live, pointer)
    except ServingError:
        return None


def _is_whole(project: Project, live: Pointer) -> bool:
    try:
        check_package(project.live / live.folder, live.package_sha256)
    except ServingError:
        return False
    return True


def _switch(project: Project, tracking: Tracking, champion: Version, live: Pointer) -> None:
    versions.fetch(tracking, champion, project.live / live.folder)
    pack_only(project.live, live.folder)
    write_json(project.live / CHAMPION, live.model_dump())
    beside = current(project, CHALLENGER)
    kept = {live.folder, f"v{live.previous}", None if beside is None else beside.folder}
    for folder in project.live.glob("v*"):
        if folder.is_dir() and folder.name not in kept:
            shutil.rmtree(folder)


def _place_challenger(project: Project, tracking: Tracking, champion: Version) -> None:
    """Put the challenger beside the champion, or take away one that is none any more."""
    challenger, here = versions.challenger(tracking), current(project, CHALLENGER)
    if challenger is None or challenger.identity == champion.identity:
        (project.live / CHALLENGER).unlink(missing_ok=True)
    elif here is None or here.identity != challenger.identity or not _is_whole(project, here):
        folder = f"v{challenger.number}"
        versions.fetch(tracking, challenger, project.live / folder)
        pointer = Pointer(
            version=challenger.number,
            folder=folder,
            package_sha256=challenger.package_sha256,
            since=datetime.now(UTC).isoformat(timespec="microseconds"),
            previous=None,
            reason=challenger.tags.get("recloop.reason", ""),
        )
        write_json(project.live / CHALLENGER, pointer.model_dump())
