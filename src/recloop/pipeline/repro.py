"""Bringing one stage up to date, the way `dvc repro` does, and telling what came of it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from typing import Literal

from recloop.errors import GateError, PlatformError, RecloopError, StageError
from recloop.pipeline.command import Done, OnLine, run_dvc
from recloop.project import Project

Outcome = Literal["ran", "restored", "unchanged"]
"""`ran`: its command ran. `restored`: the same inputs were seen before, and DVC's cache had the outputs.
`unchanged`: there was nothing to do."""

GATE_STOPPED = GateError.exit_code
BUSY_SECONDS = 1800.0


def reproduce(
    project: Project,
    stage: str,
    on_line: OnLine,
    *,
    busy_seconds: float = BUSY_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Bring `stage` alone up to date; what it depends on is taken as it is.

    A run that was killed needs no clean-up: DVC's locks die with their holder, and what the stage had not
    finished is done again. While another process runs the same stage, or writes what it reads, this waits.

    Args:
        project: the checkout.
        stage: as `stage_graph` names it.
        on_line: is given each line that DVC and the stage print, as it comes.
        busy_seconds: how long to wait for that other process.
        sleep: how to wait.

    Raises:
        GateError: the gate stopped the data; running it again changes nothing.
        StageError: the stage failed.
    """
    waited = 0.0
    while True:
        done = run_dvc(project, ["repro", "--single-item", stage], on_line)
        if done.exit_code == 0:
            return _outcome(stage, done)
        if not _is_busy(done) or waited >= busy_seconds:
            raise _failure(stage, done)
        sleep(2.0)
        waited += 2.0


def outdated(project: Project, stages: Sequence[str]) -> tuple[str, ...]:
    """Those of `stages` whose inputs or outputs are not what they were when DVC last ran them.

    Raises:
        PlatformError: DVC cannot tell.
    """
    done = run_dvc(project, ["status", "--json", *stages], on_line=lambda _: None)
    text = "\n".join(done.lines)
    if done.exit_code != 0 or "{" not in text:
        raise PlatformError(f"`dvc status` failed: {_said(done)}", remedy="run `dvc status`")
    # Warnings come first, on standard error.
    found, _ = json.JSONDecoder().raw_decode(text, re.search(r"^\{", text, re.MULTILINE).start())  # type: ignore[union-attr]
    return tuple(stage for stage in stages if stage in found)


def push(project: Project, on_line: OnLine = print) -> str:
    """Send what DVC has versioned to its remote; what DVC says of it.

    Raises:
        PlatformError: there is no remote, or it cannot be reached. Nothing of what was trained is lost.
    """
    done = run_dvc(project, ["push"], on_line)
    if done.exit_code != 0:
        raise PlatformError(
            f"`dvc push` failed: {_said(done)}",
            remedy="`dvc remote list` shows the remote, `dvc remote modify` mends it; then `dvc push`",
        )
    return done.lines[-1] if done.lines else "everything is up to date"


def _outcome(stage: str, done: Done) -> Outcome:
    text = "\n".join(done.lines)
    if f"Running stage '{stage}':" in text:
        return "ran"
    if f"Stage '{stage}' is cached - skipping run" in text:
        return "restored"
    if f"Stage '{stage}' didn't change, skipping" in text:
        return "unchanged"
    raise StageError(
        f"`dvc repro --single-item {stage}` ended well but did not say what it did",
        remedy="another version of DVC? `make setup` installs the one in the lock",
    )


def _is_busy(done: Done) -> bool:
    return any("is busy, it is being blocked by" in line for line in done.lines)


def _failure(stage: str, done: Done) -> RecloopError:
    """The stage's own words and exit code as an error; DVC's, where the stage said nothing."""
    code = re.search(r"failed to run: .*, exited with (-?\d+)", "\n".join(done.lines))
    exit_code = int(code[1]) if code else None
    own = [number for number, line in enumerate(done.lines) if line.startswith("recloop: ")]
    if exit_code is not None and own:
        message, remedy = _words(done.lines[own[-1] :])
        kind = GateError if exit_code == GATE_STOPPED else StageError
        return kind(f"stage {stage}: {message}", remedy=remedy)
    if exit_code is None:  # DVC did not come to run it
        return StageError(f"stage {stage}: {_said(done)}", remedy=f"`dvc repro {stage}` shows all of it")
    if exit_code < 0 or exit_code > 128:  # a shell that waits for the command reports a signal as 128 + its number
        killer = -exit_code if exit_code < 0 else exit_code - 128
        return StageError(f"stage {stage} was killed by signal {killer}", remedy=f"`dvc repro {stage}` runs it again")
    spoken = [line for line in done.lines if line.strip() and not line.startswith("ERROR: ")]
    return StageError(
        f"stage {stage} ended with exit code {exit_code}: {spoken[-1]}",
        remedy=f"`dvc repro {stage}` shows all of it",
    )


def _words(lines: Sequence[str]) -> tuple[str, str | None]:
    """The message and the remedy of the error that the command line printed, starting at the first of
    `lines`."""
    message, remedy = [lines[0].removeprefix("recloop: ")], None
    for line in lines[1:]:
        if line.startswith("  → "):
            remedy = line.removeprefix("  → ")
            break
        if not line or line.startswith(("ERROR: ", "WARNING: ")):
            break
        message.append(line)
    return "\n".join(message), remedy


def _said(done: Done) -> str:
    """DVC's own error, or whatever was said last."""
    errors = [line.removeprefix("ERROR: ") for line in done.lines if line.startswith("ERROR: ")]
    spoken = errors or [line for line in done.lines if line.strip()]
    return spoken[-1] if spoken else f"exit code {done.exit_code}"
