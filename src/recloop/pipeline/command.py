"""Running `dvc` as a process of its own: its locks, its signal handlers and its imports stay out of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from recloop import telemetry
from recloop.project import Project

OnLine = Callable[[str], None]


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    exit_code: int
    lines: tuple[str, ...]
    """What it and the stage's own command said, standard error included, in order."""


def run_dvc(project: Project, arguments: Sequence[str], on_line: OnLine) -> Done:
    """Run `dvc …` in the project, and hand each line to `on_line` as it comes.

    Another DVC process in the same project is waited for. If the wait is broken off (a cancelled flow,
    Ctrl-C), the command and the stage it runs are ended too.
    """
    telemetry.silence()
    with subprocess.Popen(
        [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments],
        cwd=project.root,
        env=_environment(project),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:
        assert process.stdout is not None  # noqa: S101 (for the type checker)
        lines = []
        try:
            for line in process.stdout:
                lines.append(line.rstrip())
                on_line(line.rstrip())
            return Done(process.wait(), tuple(lines))
        except BaseException:
            _end(process)
            raise


def _environment(project: Project) -> dict[str, str]:
    """Ours, with the `recloop` beside this Python found first, and the stage's output not held back."""
    found_first = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": found_first, "PYTHONUNBUFFERED": "1", "RECLOOP_ROOT": str(project.root)}


def _end(process: subprocess.Popen[str], seconds: float = 10) -> None:
    """End a command and all that it started, gently first."""
    import signal

    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
