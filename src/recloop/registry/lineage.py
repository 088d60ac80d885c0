"""Where a version comes from: run, commit, dvc.lock, data hashes; and how to make it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from recloop.errors import RegistryError
from recloop.pipeline.lock import Locked
from recloop.project import Project
from recloop.registry import versions
from recloop.registry.provenance import UNKNOWN
from recloop.registry.tracking import Tracking, open_tracking, speaking, without_password
from recloop.registry.versions import Version

SHOWN = ("data/raw", "data/feedback/interactions.parquet", "data/gated", "data/prepared", "data/warm")
"""Outputs whose hashes are told, beside the model's own."""


@dataclass(frozen=True)
class Lineage:
    """All that is known of how a version came to be."""

    version: int
    model: str
    run_id: str
    reason: str
    """Why it was trained."""
    verdict: str
    commit: str
    changed: str
    """Files that differed from the commit when it was trained; empty if none did."""
    logged_afterwards: bool
    """MLflow was not there at the training: commit and settings are those of the promotion."""
    data_sha256: str
    model_sha256: str
    hashes: Mapping[str, str]
    """Path → DVC's MD5, from the version's dvc.lock; empty if it has none."""
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    """Means over the test period."""
    commands: tuple[str, ...]
    """They make it again, in a clone of the repository."""

    def __str__(self) -> str:
        commit = self.commit + (f", with changes to {self.changed}" if self.changed else "")
        if self.logged_afterwards:
            commit += " (as of its promotion: MLflow was not there at the training)"
        lines = [
            f"v{self.version} ({self.model})",
            f"  verdict   {self.verdict}",
            f"  reason    {self.reason}",
            f"  run       {self.run_id}",
            f"  commit    {commit}",
            f"  data      sha256 {self.data_sha256}",
            f"  model     sha256 {self.model_sha256}",
            "  dvc.lock" + ("" if self.hashes else "  none: the project was not under DVC"),
            *(f"    {path:<36} {md5}" for path, md5 in self.hashes.items()),
            "  metrics   "
            + ", ".join(f"{name} {value:.4f}" for name, value in sorted(self.metrics.items()) if "_at_10" in name),
            "  params    " + ", ".join(f"{name} {value}" for name, value in sorted(self.params.items())),
            "  to make it again, in a clone"
            + (" (after `dvc push` here, or there is nothing to pull):" if "dvc pull" in self.commands else ":"),
            *(f"    {command}" for command in self.commands),
        ]
        return "\n".join(lines)


def lineage(project: Project, version: int) -> Lineage:
    """Where version `version` comes from.

    Raises:
        RegistryError: there is no such version, or MLflow does not answer.
    """
    tracking = open_tracking(project)
    found = versions.get(tracking, version)
    with speaking(tracking.url):
        run = tracking.client.get_run(found.run_id).data
    files = versions.fetch_lineage(tracking, found)
    outputs = Locked.parse(files["dvc.lock"]) if "dvc.lock" in files else None
    paths = (*SHOWN, f"models/{found.model}")
    hashes = {path: md5 for path in paths if outputs and (md5 := outputs.md5_of(path))}
    commit = run.tags.get("recloop.commit", UNKNOWN)
    return Lineage(
        version=found.number,
        model=found.model,
        run_id=found.run_id,
        reason=found.tags.get("recloop.reason", "?"),
        verdict=_verdict(found),
        commit=commit,
        changed=run.tags.get("recloop.changed", ""),
        logged_afterwards="recloop.logged" in run.tags,
        data_sha256=_tag(found, "recloop.data_sha256"),
        model_sha256=_tag(found, "recloop.model_sha256"),
        hashes=hashes,
        params={name: value for name, value in run.params.items() if name.startswith(("train.", "model."))},
        metrics=json.loads(_tag(found, "recloop.metrics")),
        commands=_commands(tracking, found, commit, sorted(files)),
    )


def _verdict(version: Version) -> str:
    verdict = version.tags.get("recloop.verdict", "none yet")
    why = version.tags.get("recloop.why")
    text = f"{verdict}: {why}" if why else verdict
    back = version.tags.get("recloop.rolled_back")
    return f"{text}; rolled back later: {back}" if back else text


def _tag(version: Version, name: str) -> str:
    try:
        return version.tags[name]
    except KeyError as error:
        raise RegistryError(
            f"v{version.number} has no tag {name}: it was not registered by recloop",
            remedy="`recloop promote` registers a version with all its tags",
        ) from error


def _commands(tracking: Tracking, version: Version, commit: str, files: list[str]) -> tuple[str, ...]:
    url = without_password(tracking.url)
    fetch = (
        f"MLFLOW_TRACKING_URI={shlex.quote(url)} mlflow artifacts download "
        f"--artifact-uri {shlex.quote(version.source + '/lineage')} --dst-path ."
    )
    return (
        *([f"git checkout {commit}"] if commit != UNKNOWN else []),
        f"{fetch} && mv {' '.join(f'lineage/{name}' for name in files)} .",
        *(["dvc pull", "dvc repro"] if "dvc.lock" in files else [f"dvc repro evaluate@{version.model}"]),
    )
