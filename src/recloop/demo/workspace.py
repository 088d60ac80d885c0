"""The demo's own checkout. Demo traffic must never reach a team's real database, models or `dvc.lock`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from ruamel.yaml import YAML

from recloop.config import Params
from recloop.errors import RecloopError
from recloop.project import Project


def make_workspace(project: Project, folder: Path, params: Params) -> Project:
    """Clone `project` into `folder`, anew, as it stands in the working tree, but with `params`.

    The clone has its own git history, DVC cache and remote, databases and reports, all below `folder`.

    Args:
        project: the checkout to show.
        folder: replaced if it exists.
        params: written as the clone's `params.yaml`, and committed there.

    Raises:
        RecloopError: the project is not a git checkout.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _run(["git", "clone", "-q", str(project.root), str(folder)], project.root)
    _copy_uncommitted(project.root, folder)
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(params.model_dump(mode="json"), file)
    _run(
        ["dvc", "remote", "modify", "-q", "--local", "storage", "url", str(folder / "var" / "dvc-remote")],
        folder,
    )
    _run(["git", "add", "-A"], folder)
    identity = ["-c", "user.name=recloop demo", "-c", "user.email=demo@localhost"]
    _run(["git", *identity, "commit", "-q", "--no-verify", "-m", "The demo's settings"], folder)
    return Project(folder)


def _copy_uncommitted(root: Path, folder: Path) -> None:
    """What a developer has changed but not committed is shown too."""
    listed = _run(["git", "ls-files", "-z", "--modified", "--others", "--exclude-standard"], root)
    for name in filter(None, listed.split("\0")):
        source, target = root / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
        else:
            target.unlink(missing_ok=True)


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RecloopError(
            f"`{' '.join(command[:3])} …` failed in {folder}: {done.stderr.strip()}",
            remedy="the demo needs a git checkout of recloop: clone it rather than copying its files",
        )
    return done.stdout
