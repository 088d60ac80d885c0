"""The project's own endpoint, as `recloop serve` runs it, without a registry to follow.

python -m benchmarks.servers.recloop_endpoint --package FOLDER --port PORT

It writes impressions and events to an SQLite file, as it comes; all else is as in params.yaml.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.report import ROOT
from benchmarks.servers.recommender import address
from recloop.files import write_json
from recloop.serving.parcel import package_sha256
from recloop.serving.pointer import CHAMPION, Pointer
from recloop.serving.process import SERVICE


def main() -> None:
    given = address(__doc__)
    project = Path(tempfile.mkdtemp(dir=os.environ.get("BENTOML_HOME")))
    shutil.copyfile(ROOT / "params.yaml", project / "params.yaml")
    live = project / "var" / "live"
    live.mkdir(parents=True)
    (live / "v1").symlink_to(given.package.resolve())
    pointer = Pointer(
        version=1,
        folder="v1",
        package_sha256=package_sha256(given.package),
        since="2026-01-01T00:00:00+00:00",
        previous=None,
        reason="measured",
    )
    write_json(live / CHAMPION, pointer.model_dump())
    os.chdir(project)
    command = ["-m", "bentoml", "serve", SERVICE, "--host", "127.0.0.1", "--port", str(given.port)]
    os.execv(sys.executable, [sys.executable, *command])  # noqa: S606


if __name__ == "__main__":
    main()
