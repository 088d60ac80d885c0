"""Which code made something: the git commit, and what was changed since."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

UNKNOWN = "unknown"
NAMED_FILES = 20


@dataclass(frozen=True)
class Provenance:
    """The state of the working tree."""

    commit: str
    """Hash of the commit; `unknown` outside a git repository, or where there is no git."""
    changed: tuple[str, ...]
    """Files that differ from the commit, new ones included. Not dvc.lock: every stage writes it, and it is
    kept with each version as a whole."""

    @property
    def dirty(self) -> bool:
        return bool(self.changed)

    def tags(self) -> dict[str, str]:
        """For an MLflow run."""
        tags = {"recloop.commit": self.commit, "recloop.dirty": str(self.dirty).lower()}
        if self.changed:
            more = len(self.changed) - NAMED_FILES
            tags["recloop.changed"] = ", ".join(self.changed[:NAMED_FILES]) + (f", and {more} more" if more > 0 else "")
        return tags

    @classmethod
    def of(cls, root: Path) -> Provenance:
        """The state of the checkout at `root`."""
        commit = _git(root, "rev-parse", "HEAD")
        if commit is None:
            return cls(UNKNOWN, ())
        status = _git(root, "status", "--porcelain", "-z", "--", ".", ":(exclude)dvc.lock") or ""
        # "XY path", and for a renamed file its former path as an entry of its own, without "XY ".
        entries = [entry for entry in status.split("\0") if len(entry) > 3 and entry[2] == " "]
        return cls(commit.strip(), tuple(entry[3:] for entry in entries))


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
