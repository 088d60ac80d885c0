"""`recloop package`: a Bento with the champion inside. It serves without a checkout, MLflow or a network.

What goes in is what `bentofile.yaml` names, and of the versions in `var/live/` the champion alone. A plain
`bentoml build` gives the same; this one loads the champion first, to see that it works, keeps the Bento in
the project's own store (`var/bentoml`, or `$BENTOML_HOME`), and looks at what came out.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from recloop import telemetry
from recloop.errors import ServingError
from recloop.project import Project
from recloop.serving.pointer import pack_only, read_pointer

SERVE_IT = "RECLOOP_DATABASE_URL=sqlite:///recloop.db bentoml serve --host 127.0.0.1"
"""What BentoML and a Bento do without it: listen on all addresses; the same file."""


@dataclass(frozen=True)
class Built:
    """A Bento on disk."""

    tag: str
    folder: Path
    version: int
    """The model version inside."""

    def __str__(self) -> str:
        return (
            f"built {self.tag} with version {self.version} inside\n"
            f"serve it from any folder, where its events then go: {SERVE_IT} {self.folder}"
        )


def build_bento(project: Project) -> Built:
    """Build a Bento of the live champion.

    Raises:
        ServingError: there is no champion, its package is damaged, or the build failed.
        ModelError: the model in the package cannot be loaded.
    """
    from recloop.serving.engine import Engine

    pointer = read_pointer(project.live)
    if pointer is None:
        raise ServingError(
            f"there is no champion to package in {project.live}",
            remedy="`recloop deploy` puts the champion there; `make train` makes one",
        )
    Engine.load(project.live / pointer.folder)
    pack_only(project.live, pointer.folder)
    home = Path(os.environ.get("BENTOML_HOME", project.var / "bentoml")).resolve()
    command = [sys.executable, "-m", "bentoml", "build", "-o", "tag"]
    built = subprocess.run(
        [*command, "--label", f"model_version={pointer.version}", str(project.root)],
        cwd=project.root,
        env=telemetry.QUIET | os.environ | {"BENTOML_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        raise ServingError(
            f"`bentoml build` failed:\n{built.stderr.strip()}", remedy="bentofile.yaml says what is built"
        )
    tag = built.stdout.strip().removeprefix("__tag__:")
    name, _, number = tag.partition(":")
    folder = home / "bentos" / name / number
    packed = folder / "src" / "var" / "live"
    if read_pointer(packed) != pointer or not (packed / pointer.folder).is_dir():
        raise ServingError(
            f"{tag} does not hold version {pointer.version}: another went live meanwhile, "
            "or bentofile.yaml leaves it out",
            remedy="run it again; `git checkout bentofile.yaml` brings the default back",
        )
    return Built(tag, folder, pointer.version)
