"""Versions in MLflow's registry: a package each, with its tags and aliases. Nothing is pickled.

A version's artifacts lie under `package-<hash>/` of its run: the package itself, `MLmodel` and
`input_example.json` (for MLflow's pages and clients), and `lineage/` with the `dvc.lock` and `params.yaml` it
came from. One package is one version: registering the same bytes again finds the version that exists.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recloop.errors import RegistryError
from recloop.files import replace_folder
from recloop.registry.package import Package
from recloop.registry.tracking import Tracking, speaking
from recloop.serving.parcel import PACKAGE_FILES, package_sha256

Alias = Literal["champion", "challenger"]


@dataclass(frozen=True)
class Version:
    """One version of the registered model."""

    number: int
    run_id: str
    source: str
    """URI of the folder with its artifacts."""
    tags: Mapping[str, str]

    @property
    def package_sha256(self) -> str:
        return self.tags.get("recloop.package_sha256", "")

    @property
    def identity(self) -> tuple[int, str]:
        return self.number, self.package_sha256

    @property
    def model(self) -> str:
        return self.tags.get("recloop.model", "?")


def champion(tracking: Tracking) -> Version | None:
    """The version that the alias `champion` names."""
    return _found(tracking, lambda: tracking.client.get_model_version_by_alias(tracking.name, "champion"))


def challenger(tracking: Tracking) -> Version | None:
    """The version that the alias `challenger` names: the last one that was trained and did not become champion."""
    return _found(tracking, lambda: tracking.client.get_model_version_by_alias(tracking.name, "challenger"))


def get(tracking: Tracking, number: int) -> Version:
    """Version `number`.

    Raises:
        RegistryError: there is no such version.
    """
    found = find(tracking, number)
    if found is None:
        known = ", ".join(f"v{version}" for version in sorted(models(tracking))) or "none yet"
        raise RegistryError(
            f"model {tracking.name!r} has no version {number} in the registry at hand",
            remedy=f"versions: {known}; `recloop history` shows who was champion",
        )
    return found


def find(tracking: Tracking, number: int) -> Version | None:
    """Version `number`, if the registry has it."""
    return _found(tracking, lambda: tracking.client.get_model_version(tracking.name, str(number)))


def models(tracking: Tracking) -> dict[int, str]:
    """Every version's number → the name of its model."""
    found: dict[int, str] = {}
    token = None
    with speaking(tracking.url):
        while True:
            page = tracking.client.search_model_versions(f"name = '{tracking.name}'", page_token=token)
            found |= {version.number: version.model for version in map(_version, page)}
            token = page.token
            if not token:
                return found


def register(
    tracking: Tracking, run_id: str, package: Package, tags: Mapping[str, str], lineage: Mapping[str, Path]
) -> Version:
    """Log `package` on its run and register it; or find the version that has these very bytes.

    Args:
        tags: kept with the version, beside the package's hash and the model's name.
        lineage: file name → file, logged under `lineage/`; a file that does not exist is left out.
    """
    from mlflow.exceptions import MlflowException

    sha256 = package.sha256
    tags = {**tags, "recloop.package_sha256": sha256, "recloop.model": package.model}
    client, name = tracking.client, tracking.name
    with speaking(tracking.url), tempfile.TemporaryDirectory() as scratch:
        try:
            client.create_registered_model(name, description="The recommender behind the endpoint (recloop).")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        known = client.search_model_versions(
            f"name = '{name}' and tags.`recloop.package_sha256` = '{sha256}'", max_results=1
        )
        if known:
            version = _version(known[0])
            note(tracking, version.number, tags)
            return version
        where = f"package-{sha256[:12]}"
        _fill(Path(scratch), package, lineage, run_id, where)
        client.log_artifacts(run_id, scratch, where)
        source = f"{client.get_run(run_id).info.artifact_uri}/{where}"
        return _version(client.create_model_version(name, source, run_id=run_id, tags=tags))


def point(tracking: Tracking, alias: Alias, number: int | None) -> None:
    """Let `alias` name version `number`, or nothing."""
    with speaking(tracking.url):
        if number is None:
            tracking.client.delete_registered_model_alias(tracking.name, alias)
        else:
            tracking.client.set_registered_model_alias(tracking.name, alias, str(number))


def note(tracking: Tracking, number: int, tags: Mapping[str, str]) -> None:
    """Set tags of version `number`."""
    with speaking(tracking.url):
        for key, value in tags.items():
            tracking.client.set_model_version_tag(tracking.name, str(number), key, value)


def fetch(tracking: Tracking, version: Version, target: Path) -> None:
    """Put the package of `version` at `target`, whole and verified, replacing what is there.

    Raises:
        RegistryError: the artifacts cannot be had, or are not what was registered.
    """

    def fill(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            got = _download(tracking, version.source, scratch)
            for name in PACKAGE_FILES:
                if not (got / name).is_file():
                    raise _damaged(version, f"{name} is missing")
                shutil.move(got / name, folder / name)
        if package_sha256(folder) != version.package_sha256:
            raise _damaged(version, "its files are not the ones that were registered")

    replace_folder(target, fill)


def fetch_lineage(tracking: Tracking, version: Version) -> dict[str, str]:
    """The text files that were registered beside the package, by name."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = _download(tracking, f"{version.source}/lineage", scratch)
        return {file.name: file.read_text(encoding="utf-8") for file in sorted(folder.iterdir())}


def _download(tracking: Tracking, uri: str, target: str) -> Path:
    from mlflow.artifacts import download_artifacts

    with speaking(tracking.url):
        return Path(download_artifacts(artifact_uri=uri, dst_path=target, tracking_uri=tracking.url))


def _damaged(version: Version, why: str) -> RegistryError:
    return RegistryError(
        f"the artifacts of v{version.number} at {version.source} are damaged: {why}",
        remedy="`recloop rollback` makes the version before it live; `recloop promote` registers a new one",
    )


def _found(tracking: Tracking, ask: Callable[[], Any]) -> Version | None:
    """What `ask` gets from MLflow; None where there is no such thing."""
    from mlflow.exceptions import MlflowException

    with speaking(tracking.url):
        try:
            return _version(ask())
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise


def _version(entity: Any) -> Version:
    return Version(int(entity.version), entity.run_id, entity.source, dict(entity.tags))


def _fill(folder: Path, package: Package, lineage: Mapping[str, Path], run_id: str, where: str) -> None:
    """Write what a version's artifacts are into `folder`."""
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    shutil.copytree(package.folder, folder, dirs_exist_ok=True)
    texts, numbers = Array(DataType.string), Array(DataType.double)
    example = {"history": package.example_history()}
    (folder / "input_example.json").write_text(json.dumps(example), encoding="utf-8")
    Model(
        artifact_path=where,
        run_id=run_id,
        flavors={"recloop": {"model": package.model, "format": package.parcel.info.format}},
        signature=ModelSignature(
            inputs=Schema([ColSpec(texts, "history"), ColSpec(DataType.string, "user_id", required=False)]),
            outputs=Schema([ColSpec(texts, "items"), ColSpec(numbers, "scores")]),
        ),
        saved_input_example_info={"artifact_path": "input_example.json", "type": "json_object"},
    ).save(folder / "MLmodel")
    (folder / "lineage").mkdir()
    for name, file in lineage.items():
        if file.is_file():
            shutil.copyfile(file, folder / "lineage" / name)
