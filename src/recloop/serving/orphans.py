"""No process of the endpoint outlives the one that started it, however that one ended."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys

import psutil  # type: ignore[import-untyped] # comes with BentoML


def end_with_parent() -> None:
    """Have the kernel send this process a SIGTERM when its parent dies. Only Linux can; elsewhere a no-op."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def kill_family(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to `process` and all its descendants; parents first, so that none is started again."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.kill()
    process.wait()
    for member in family:
        try:
            os.kill(member.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    psutil.wait_procs(family, timeout=10)
