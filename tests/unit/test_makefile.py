"""What make starts ends with make."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT
from tests.endpoint import until

RECLOOP = """#!{python}
import os, signal
from pathlib import Path
def end(*_):
    Path("{folder}/ended").touch()
    os._exit(0)
signal.signal(signal.SIGTERM, end)
Path("{folder}/started").write_text(f"{{os.getpid()}} {{os.environ['RECLOOP_ROOT']}}")
signal.pause()
"""


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("verb", ["serve", "platform"])
def test_a_kill_of_make_ends_recloop_in_good_order(tmp_path: Path, verb: str) -> None:
    (tmp_path / "bin").mkdir()
    recloop = tmp_path / "bin" / "recloop"
    recloop.write_text(RECLOOP.format(python=sys.executable, folder=tmp_path))
    recloop.chmod(0o755)
    (tmp_path / ".installed").touch()
    make = subprocess.Popen(["make", verb, f"VENV={tmp_path}", "IN=var/demo"], cwd=ROOT, stderr=subprocess.DEVNULL)
    started = tmp_path / "started"
    until(lambda: started.is_file() and len(started.read_text().split()) == 2, 30)
    pid, root = started.read_text().split()
    try:
        assert root == str(ROOT / "var" / "demo")
        make.terminate()
        assert make.wait(30) == -signal.SIGTERM
        assert (tmp_path / "ended").exists()
        assert not psutil.pid_exists(int(pid))
    finally:
        make.kill()
        if psutil.pid_exists(int(pid)):
            os.kill(int(pid), signal.SIGKILL)
