"""Removing what runs left behind."""

from __future__ import annotations

import shutil
import subprocess

from recloop.exclusive import Lock
from recloop.platform import Platform
from recloop.project import Project

LEFT_BEHIND = (
    *("data", "models", "reports", "var", "dist", "dvc_plots", ".dvc/cache", ".dvc/tmp"),
    *(".pytest_cache", ".mypy_cache", ".ruff_cache", ".import_linter_cache", ".hypothesis"),
)


def clean(project: Project) -> str:
    """Remove data, models, reports, databases and DVC's cache. What is in DVC's remote or in git stays.

    Raises:
        PlatformError: a platform or a demo is running on them.
    """
    if (project.var).is_dir():
        with Lock(project.var / "demo.lock", "a demo"), Platform.lock(project):
            demo = Project(project.var / "demo")
            if demo.var.is_dir():
                with Platform.lock(demo):
                    pass
    gone = [name for name in LEFT_BEHIND if (project.root / name).exists()]
    for name in gone:
        shutil.rmtree(project.root / name)
    lock = project.root / "dvc.lock"
    tracked = subprocess.run(
        ["git", "ls-files", "--error-unmatch", "dvc.lock"], cwd=project.root, capture_output=True, check=False
    )
    if lock.exists() and tracked.returncode:
        lock.unlink()
        gone.append(lock.name)
    return f"removed: {', '.join(gone) or 'nothing'}"
