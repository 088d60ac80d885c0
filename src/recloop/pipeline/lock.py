"""What dvc.lock says: the hashes of everything that a stage read and wrote when it last ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from recloop.errors import StageError
from recloop.files import replacing
from recloop.project import Project


@dataclass(frozen=True)
class Locked:
    """A dvc.lock."""

    outputs: Mapping[str, Mapping[str, str]]
    """Stage → path → MD5 (with `.dir` at its end for a folder)."""

    @classmethod
    def parse(cls, text: str) -> Locked:
        """Read the text of a dvc.lock.

        Raises:
            StageError: it is not one.
        """
        try:
            content = YAML(typ="safe").load(text)
            return cls(
                {
                    stage: {out["path"]: out["md5"] for out in entry.get("outs", [])}
                    for stage, entry in (content or {}).get("stages", {}).items()
                }
            )
        except (YAMLError, AttributeError, KeyError, TypeError) as error:
            said = str(error).replace("\n", " ") if isinstance(error, YAMLError) else repr(error)
            raise StageError(
                f"dvc.lock is damaged: {said}",
                remedy="settle the conflict in it, if there is one; or `git checkout dvc.lock`; or delete it and "
                "`dvc repro`",
            ) from error

    def md5_of(self, path: str) -> str | None:
        """MD5 of an output, whichever stage wrote it."""
        return next((outs[path] for outs in self.outputs.values() if path in outs), None)


def arrange(project: Project, stages: Sequence[str]) -> bool:
    """Put the entries of dvc.lock in the order of `stages`, which is how one `dvc repro` of them all leaves them.

    Stages that were run side by side stand in the order in which they ended: the next diff would show that, too.
    While another process uses DVC, nothing is done.

    Returns:
        whether anything was moved.
    """
    path = project.root / "dvc.lock"
    if not path.exists():
        return False
    from dvc.lock import LockError
    from dvc.repo import Repo

    yaml = YAML()  # as DVC writes it
    yaml.default_flow_style = False
    try:
        with Repo(str(project.root)) as repo, repo.lock:
            content = yaml.load(path)
            entries = dict(content["stages"])
            order = [*(stage for stage in stages if stage in entries), *(e for e in entries if e not in stages)]
            if order == list(entries):
                return False
            content["stages"] = {stage: entries[stage] for stage in order}
            with replacing(path) as part:
                yaml.dump(content, part)
            return True
    except LockError:
        return False
