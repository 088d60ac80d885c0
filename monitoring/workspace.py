"""Evidently's workspace: snapshots of the judged windows, and a dashboard of them over time.

`evidently ui --workspace reports/evidently` shows it. The dashboard is made once: what people change in it stays.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitoring.dashboard import dashboard
from monitoring.moments import from_micros
from monitoring.quiet import quiet
from recloop.errors import RecloopError
from recloop.project import Project
from recloop.serving.events import DISMISS

if TYPE_CHECKING:
    from evidently.ui.workspace import Workspace


def keep(project: Project, at: int, snapshots: Mapping[str, Any | None], version: int, keep: int) -> None:
    """Put snapshots into the workspace, and remove those that are older than the newest `keep` of the same name.

    Args:
        project: whose workspace.
        at: the window's end: µs since 1970, UTC.
        snapshots: name → Evidently's snapshot; what is None is left out.
        version: of the model that was live.
        keep: at least 1.

    Raises:
        RecloopError: the workspace is damaged.
    """
    folder = project.reports / "evidently"
    _tidy(folder, keep)
    with quiet():
        from evidently import Run
        from evidently.ui.workspace import Workspace

        try:
            workspace = Workspace(str(folder))
            shelf = _shelf(workspace, project)
        except ValueError as error:
            raise RecloopError(
                f"{folder} is damaged: {error}", remedy="delete it; the next window makes another"
            ) from error
        for name, snapshot in snapshots.items():
            if snapshot is not None:
                facts = {"timestamp": from_micros(at), "tags": [f"version {version}"]}
                workspace.add_run(shelf, Run.load_model(snapshot.to_snapshot_model().copy(update=facts)), name=name)
    _tidy(folder, keep)


def _shelf(workspace: Workspace, project: Project) -> Any:
    """The id of the project in the workspace. It, and its dashboard, are made where they are not there."""
    name = project.params.promotion.model_name
    found = workspace.search_project(name)
    shelf = found[0] if found else workspace.create_project(name, description="What users are shown, and what they do")
    if not shelf.dashboard.model().panels:
        kinds = (kind for kind in project.params.gate.events if kind != DISMISS)
        workspace.save_dashboard(shelf.id, dashboard(kinds))
    return shelf.id


def _tidy(folder: Path, keep: int) -> None:
    """Remove old snapshots, and any that was half written when somebody was killed: Evidently would not start on it."""
    by_name = defaultdict(list)
    for path in folder.glob("*/snapshots/*.json"):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            path.unlink()
        else:
            by_name[content["name"]].append((content["timestamp"], path.name, path))
    for kept in by_name.values():
        for *_, path in sorted(kept)[:-keep]:
            path.unlink()
