"""`recloop replay`: on the project's own gated data, written to `reports/replay`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection
from pathlib import Path

from rich.console import Console

from recloop.errors import ConfigError
from recloop.files import read_json, write_json
from recloop.project import Project
from recloop.replay.log import read_log
from recloop.replay.over_http import play
from recloop.replay.run import replay
from recloop.serving.client import Client


def compare_policies(project: Project, windows: int, *, policies: Collection[str], model: str | None) -> None:
    """Play it in this process, under several policies; print the table, and write JSON, table and picture.

    Raises:
        RecloopError: as `replay`; or no model is named, and none has won a comparison.
    """
    from recloop.replay.picture import draw
    from recloop.replay.table import show

    name = model or _best(project)
    log = read_log(project.gated, windows)
    with tempfile.TemporaryDirectory(prefix="recloop-replay-") as scratch:
        report = replay(log, project.params, name, Path(scratch), policies=policies)
    folder = project.reports / "replay"
    write_json(folder / "replay.json", report.model_dump(mode="json"))
    draw({project.root.name: report}, folder / "replay.png")
    table = show(project.root.name, report)
    with (folder / "replay.txt").open("w", encoding="utf-8") as file:
        Console(file=file, width=80).print(table)
    Console().print(table)
    print(f"the same with a picture: {folder}")


def against(project: Project, windows: int, endpoint: str) -> None:
    """Play it against an endpoint that runs; print what came of it, and write it as JSON.

    Raises:
        RecloopError: as `play`.
    """
    log = read_log(project.gated, windows)
    with Client(endpoint, key=os.environ.get("RECLOOP_KEY")) as client:
        report = play(client, endpoint, log)
    path = project.reports / "replay" / "endpoint.json"
    write_json(path, report.model_dump(mode="json"))
    print(f"{report}\nthe same by window: {path}")


def _best(project: Project) -> str:
    path = project.reports / "comparison.json"
    if not path.is_file():
        raise ConfigError(
            "no model has won a comparison yet",
            remedy=f"`dvc repro`; or say which, --model {project.params.zoo[-1]}",
        )
    return str(read_json(path, remedy="`dvc repro compare` writes it anew")["best"])
