"""Putting the champion where the endpoint serves it from: `var/live/`, without MLflow in the endpoint's way.

`champion.json` names the version that is live and its folder; the endpoint watches that file alone. A new
version's folder is whole before the file names it, and the version before it stays on disk, for requests that
still use it.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from recloop.errors import RegistryError
from recloop.files import write_json
from recloop.project import Project
from recloop.registry import history, versions
from recloop.registry.locks import held
from recloop.registry.tracking import Tracking, open_tracking
from recloop.serving.pointer import pack_only
from recloop.storage import connect


@dataclass(frozen=True)
class Deployed:
    """`champion.json`."""

    version: int
    folder: str
    """The package's folder, beside `champion.json`."""
    since: str
    """Since when it is champion (ISO, UTC)."""
    previous: int | None
    """The version that was live here before; its folder is still there."""
    reason: str

    def __str__(self) -> str:
        return f"v{self.version} is live in {self.folder} since {self.since} ({self.reason})"


def deploy(project: Project) -> Deployed:
    """Put the champion at `var/live/v<N>/` and point `champion.json` at it. Doing it again changes nothing.

    Raises:
        RegistryError: there is no champion, or its artifacts are damaged, or MLflow does not answer.
    """
    tracking = open_tracking(project)
    engine = connect(project.database_url)
    with held(project.live / ".lock"):
        with history.turn(engine):
            number = versions.champion(tracking)
            if number is None:
                raise RegistryError(
                    f"model {tracking.name!r} has no champion",
                    remedy="`recloop promote` makes the best trained model champion",
                )
            history.reconcile(engine, number)
            newest = history.last(engine)
        assert newest is not None  # noqa: S101 (reconcile has just seen to it)
        live = current(project)
        if live is not None and live.version == number and (project.live / live.folder).is_dir():
            return live
        since = datetime.fromtimestamp(newest.at / 1e6, UTC).isoformat(timespec="microseconds")
        previous = None if live is None else live.previous if live.version == number else live.version
        return _switch(project, tracking, Deployed(number, f"v{number}", since, previous, newest.reason))


def deploy_if_changed(project: Project) -> bool:
    """Deploy if the champion in MLflow is not the one that is live here. Cheap when it is.

    Raises:
        RegistryError: MLflow does not answer, or has no champion; what is live stays live.
    """
    number = versions.champion(open_tracking(project))
    live = current(project)
    if (
        number is not None
        and live is not None
        and live.version == number
        and (project.live / live.folder).is_dir()
    ):
        return False
    deploy(project)
    return True


def current(project: Project) -> Deployed | None:
    """What is live here now; None where nothing is, or where `champion.json` is damaged and is to be written
    anew."""
    path = project.live / "champion.json"
    try:
        return Deployed(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _switch(project: Project, tracking: Tracking, live: Deployed) -> Deployed:
    versions.fetch(tracking, versions.get(tracking, live.version), project.live / live.folder)
    pack_only(project.live, live.folder)
    write_json(project.live / "champion.json", asdict(live))
    kept = {live.folder, f"v{live.previous}"}
    for folder in project.live.glob("v*"):
        if folder.is_dir() and folder.name not in kept:
            shutil.rmtree(folder)
    return live
