"""Where a benchmark's figures go, and what stands beside every one of them: hardware, commit, time."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(os.environ.get("RECLOOP_RESULTS", ROOT / "benchmarks" / "results")).resolve()


def machine() -> dict[str, Any]:
    """The hardware and the versions that figures depend on."""
    facts = {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def _commit() -> str:
    name = _git("rev-parse", "--short", "HEAD") or "unknown"
    return name + "+" * bool(_git("status", "--porcelain", "--", ".", ":!benchmarks/results"))


def write(name: str, content: dict[str, Any]) -> Path:
    """Write `benchmarks/results/<name>.json`: `content`, with hardware, commit and time."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    facts = {"hardware": machine(), "commit": COMMIT, "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    path.write_text(json.dumps(facts | content, indent=1) + "\n")
    return path


def read(name: str) -> dict[str, Any]:
    """What `write` wrote; nothing where it has not."""
    path = RESULTS / f"{name}.json"
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return content


def _git(*command: str) -> str:
    return subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


COMMIT = _commit()
"""What is measured, with `+` where the working tree differs from it in more than results. Asked at the start: what is
committed while a long run goes on is not what runs."""


def _cpu() -> str:
    """The processor's name and generation: clouds call them all alike, so what it can do is told as well."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    facts = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    able = [name for name in ("avx2", "avx512f", "amx_bf16") if name in facts.get("flags", "").split()]
    name = facts.get("model name", platform.processor() or platform.machine())
    return f"{name} (model {facts.get('model', '?')}; {', '.join(able) or 'no vector extensions known'})"
