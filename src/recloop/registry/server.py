"""MLflow's server and UI for a project, on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import FrameType

from recloop.errors import PlatformError, RegistryError
from recloop.exclusive import choose_port, free_port, origin
from recloop.processes import POLL_SECONDS, answers
from recloop.project import Project
from recloop.registry.tracking import open_tracking, without_password
from recloop.serving.orphans import end_with_parent
from recloop.watchdog import end_descendants

HOST = "127.0.0.1"


def serve_mlflow(project: Project, *, port: int | None = None) -> None:
    """Run `mlflow server` on the project's database until SIGTERM or SIGINT.

    The database is made first, as in every other use of it: a server that migrates a file which another process
    is putting in place breaks both.

    Args:
        port: in place of `platform.mlflow_port`.

    Raises:
        PlatformError: the port is in use, or the server ended by itself.
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
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, _interrupt)
    try:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *arguments],
            process_group=0,  # Ctrl-C is for us: the server would end with a traceback
            preexec_fn=end_with_parent,
        )
        url = origin(HOST, port)
        while server.poll() is None and not answers(f"{url}/health"):
            time.sleep(POLL_SECONDS)
        if server.poll() is None:
            print(f"MLflow is at {url} (Ctrl-C stops it)", flush=True)
        code = server.wait()
    except KeyboardInterrupt:
        return
    finally:
        end_descendants()
    raise PlatformError(f"MLflow's server ended by itself, with code {code}", remedy="its messages above say why")


def _interrupt(_sign: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
