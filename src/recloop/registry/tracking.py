"""The way to MLflow: its database made once, its server reached, its errors turned into ours."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from recloop import telemetry
from recloop.errors import ROOM_REMEDY, RegistryError
from recloop.project import Project
from recloop.registry.locks import held

if TYPE_CHECKING:
    from mlflow import MlflowClient

REMEDY = "start MLflow (`make platform`), or set storage.mlflow_url (or RECLOOP_MLFLOW_URL)"

SETTINGS = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # MLflow's defaults wait four minutes for a server that is down; a stage or the endpoint's follower can't.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


@dataclass(frozen=True)
class Tracking:
    """MLflow, as this project uses it: one experiment and one registered model, both of one name."""

    client: MlflowClient
    experiment_id: str
    name: str
    """`promotion.model_name`"""
    url: str


def open_tracking(project: Project) -> Tracking:
    """Connect to MLflow; the first use of an SQLite URL creates the database (about 4 s).

    Artifacts go to `var/mlartifacts` for a database URL, and to where the server keeps them for a server's
    URL.

    Raises:
        RegistryError: MLflow does not answer, or its database cannot be used.
    """
    telemetry.silence()
    for variable, value in SETTINGS.items():
        os.environ.setdefault(variable, value)
    url, name = project.mlflow_url, project.params.promotion.model_name
    with speaking(url):
        from mlflow import MlflowClient

        _quiet()
        if url.startswith("sqlite:///"):
            ensure_database(Path(url.removeprefix("sqlite:///")))
        client = MlflowClient(tracking_uri=url, registry_uri=url)
        artifacts = (project.var / "mlartifacts").as_uri() if "sql" in urlsplit(url).scheme else None
        return Tracking(client, _experiment(client, name, artifacts), name, url)


@contextmanager
def speaking(url: str) -> Iterator[None]:
    """Turn whatever MLflow throws inside into a RegistryError that names the server and the cause."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:  # requests' errors are OSErrors
        cause = _cause(error, url)
        remedy = ROOM_REMEDY if "is full" in cause or "No space left" in cause else REMEDY
        raise RegistryError(f"MLflow at {without_password(url)}: {cause}", remedy=remedy) from error


def without_password(url: str) -> str:
    """`url`, fit to be shown."""
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":…@") if parts.password else url


def _cause(error: BaseException, url: str) -> str:
    """The bottom of `error` in one line: "Connection refused", not the five wrappers around it."""
    inner = error
    while (below := inner.__cause__ or inner.__context__) is not None:
        inner = below
    if not isinstance(inner, OSError | sqlite3.Error):
        inner = error
    lines = str(inner).strip().splitlines() or [type(inner).__name__]
    return lines[0].replace(url, without_password(url))


def ensure_database(path: Path) -> None:
    """Create MLflow's schema beside `path` and put it in place whole, one process at a time.

    MLflow itself runs its seventy migrations on the live file: two processes at once fail ("duplicate column
    name"), and a killed one leaves a schema that no later start repairs.
    """
    if path.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    _quiet()
    with held(path.with_name(f".{path.name}.lock")):
        if path.exists():
            return
        part = path.with_name(f".{path.name}.part")
        part.unlink(missing_ok=True)
        store = SqlAlchemyStore(f"sqlite:///{part}", (path.parent / "mlartifacts").as_uri())
        store.engine.dispose()
        part.replace(path)


def _experiment(client: MlflowClient, name: str, artifacts: str | None) -> str:
    from mlflow.exceptions import MlflowException

    known = client.get_experiment_by_name(name)
    if known is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts))
        except MlflowException:
            known = client.get_experiment_by_name(name)
            if known is None:  # another process has not created it meanwhile: the error is real
                raise
    if known.lifecycle_stage != "active":
        client.restore_experiment(known.experiment_id)
    return str(known.experiment_id)


def _quiet() -> None:
    """Warnings and errors only: MLflow and alembic tell of every migration and every sampled metric."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It shows a traceback of what it raises: we tell that in one line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
