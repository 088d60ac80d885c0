"""The environment of LitServe and Ray Serve: `python -m benchmarks.servers.environment` makes it from peers.txt.

The project is not installed in it: the peers find `recloop` in `src`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).parent / "peers.txt"
FOLDER = Path(__file__).parent / ".venv"
PYTHON = FOLDER / "bin" / "python"
STAMP = FOLDER / ".installed"
"""The list that is installed, once all of it is."""


def is_there() -> bool:
    """Whether the environment holds what peers.txt says."""
    return STAMP.exists() and STAMP.read_bytes() == PEERS.read_bytes()


def make() -> None:
    """Make it anew, unless it is there."""
    if is_there():
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    # uv does not read pip's setting for a folder of wheels.
    finds = {"UV_FIND_LINKS": os.environ["PIP_FIND_LINKS"]} if "PIP_FIND_LINKS" in os.environ else {}
    uv = [sys.executable, "-m", "uv"]
    # Compiled at once: Ray gives its own processes only so long to import what they need.
    install = ["pip", "install", "-q", "--compile-bytecode", "--python", str(PYTHON), "-r", str(PEERS)]
    for command in (["venv", "-q", "--python", sys.executable, str(FOLDER)], install):
        subprocess.run([*uv, *command], env=finds | os.environ, check=True)
    shutil.copyfile(PEERS, STAMP)


if __name__ == "__main__":
    make()
