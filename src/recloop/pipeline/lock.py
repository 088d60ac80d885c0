"""What dvc.lock says: the hashes of everything that a stage read and wrote when it last ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ruamel.yaml import YAML

from recloop.errors import StageError


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
        content = YAML(typ="safe").load(text)
        try:
            return cls(
                {
                    stage: {out["path"]: out["md5"] for out in entry.get("outs", [])}
                    for stage, entry in (content or {}).get("stages", {}).items()
                }
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise StageError(
                f"dvc.lock is damaged: {error!r}",
                remedy="`git checkout dvc.lock`, or delete it and `dvc repro`",
            ) from error

    def md5_of(self, path: str) -> str | None:
        """MD5 of an output, whichever stage wrote it."""
        return next((outs[path] for outs in self.outputs.values() if path in outs), None)
