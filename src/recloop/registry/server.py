"""MLflow's server and UI for a project, on loopback."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from recloop.errors import RegistryError
from recloop.exclusive import choose_port, free_port
from recloop.project import Project
from recloop.registry.tracking import open_tracking, without_password

HOST = "127.0.0.1"


def serve_mlflow(project: Project, *, port: int | None = None) -> NoReturn:
    """Become `mlflow server` on the project's database.

    The database is made first, as in every other use of it: a server that migrates a file which another process
    is putting in place breaks both.

    Args:
        port: in place of `platform.mlflow_port`.

    Raises:
        PlatformError: the port is in use.
        RegistryError: MLflow's database cannot be used, or belongs to a server that runs elsewhere.
    """
    url = project.mlflow_url
    if url.startswith("http"):
        raise RegistryError(
            f"MLflow runs elsewhere, at {without_password(url)}",
            remedy="open that address; or name a database in storage.mlflow_url (or RECLOOP_MLFLOW_URL)",
        )
    if port is None:
        port = choose_port(HOST, project.params.platform.mlflow_port, "platform.mlflow_port", "RECLOOP_MLFLOW_PORT")
    else:
        port = free_port(HOST, port)
    open_tracking(project)
    os.environ["MLFLOW_BACKEND_STORE_URI"] = url  # it may hold a password: not an argument
    # MLflow's jobs are for judging language models: seven processes, which outlive the server.
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    arguments = ("server", "--workers", "1", "--host", HOST, "--port", str(port))
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *arguments])  # noqa: S606 (ours)
