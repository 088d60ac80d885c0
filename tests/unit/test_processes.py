"""Programs that run together: what happens when one is ready, does not start, dies, or will not stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from recloop.errors import PlatformError
from recloop.processes import Program, Programs

Start = Callable[..., Programs]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def programs(tmp_path: Path, said: list[str]) -> Iterator[Programs]:
    with Programs(tmp_path, tmp_path / "log", {}, say=said.append, first_pause=0.2, stop_seconds=2.0) as running:
        yield running


def python(name: str, code: str, answers: Callable[[], bool] | None) -> Program:
    return Program(name, (sys.executable, "-c", code), answers)


def written(path: Path) -> Callable[[], bool]:
    """Whether a program has written its process id to `path`."""
    return lambda: path.exists() and path.read_text().endswith("\n")


def write_pid(path: Path, then: str = "time.sleep(600)") -> str:
    """A program that writes its process id to `path`, a line each time it starts."""
    return (
        f"import os, signal, subprocess, sys, time; "
        f"print(os.getpid(), file=open({str(path)!r}, 'a'), flush=True); {then}"
    )


def pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().splitlines()]


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_it_waits_until_a_program_answers_and_tells_how_long_that_took(
    programs: Programs, said: list[str], tmp_path: Path
) -> None:
    programs.start(python("server", write_pid(tmp_path / "pid"), written(tmp_path / "pid")))
    programs.wait("server", seconds=20)
    assert len(said) == 1
    assert said[0].startswith("server     ready after")


def test_a_program_that_ends_by_itself_is_ready_when_it_has_ended_well(programs: Programs, said: list[str]) -> None:
    programs.start(python("deploy", "print('two deployed')", None))
    programs.wait("deploy", seconds=20)
    assert programs.said("deploy") == ["two deployed"]


@pytest.mark.parametrize("answers", [None, lambda: False], ids=["ends by itself", "runs on"])
def test_a_program_that_fails_at_the_start_is_an_error_with_its_last_words(
    programs: Programs, tmp_path: Path, answers: Callable[[], bool] | None
) -> None:
    programs.start(python("server", "import sys; print('no disk left'); sys.exit(3)", answers))
    with pytest.raises(PlatformError) as caught:
        programs.wait("server", seconds=20)
    log = tmp_path / "log" / "server.log"
    assert caught.value.message == f"server ended with exit code 3; {log} ends:\n    no disk left"


def test_another_program_that_dies_meanwhile_ends_the_wait(programs: Programs, tmp_path: Path) -> None:
    programs.start(python("slow", "import time; time.sleep(600)", lambda: False))
    programs.start(python("server", write_pid(tmp_path / "pid", "time.sleep(0.3)"), written(tmp_path / "pid")))
    with pytest.raises(PlatformError, match="server ended with exit code 0"):
        programs.wait("slow", seconds=20)


def test_a_program_that_is_never_ready_is_named(programs: Programs) -> None:
    programs.start(python("server", "import time; time.sleep(600)", lambda: False))
    with pytest.raises(PlatformError, match=r"server was not ready after 0 s; .*\n    \(it said nothing\)"):
        programs.wait("server", seconds=0.3)


def test_what_dies_is_told_and_started_again_and_the_others_run_on(
    programs: Programs, said: list[str], tmp_path: Path
) -> None:
    for name in ("server", "worker"):
        programs.start(python(name, write_pid(tmp_path / name), written(tmp_path / name)))
    programs.wait("server", "worker", seconds=20)
    programs.watch()
    os.kill(pids(tmp_path / "server")[0], signal.SIGKILL)
    until(lambda: len(pids(tmp_path / "server")) == 2)
    assert "server ended by SIGKILL; it is started again in 0 s" in said[-1]
    assert not gone(pids(tmp_path / "server")[1])
    assert len(pids(tmp_path / "worker")) == 1
    assert not gone(pids(tmp_path / "worker")[0])


def test_what_a_dead_program_leaves_behind_is_ended_before_it_starts_again(programs: Programs, tmp_path: Path) -> None:
    """Its child would keep the port."""
    child = f"subprocess.Popen([sys.executable, '-c', {write_pid(tmp_path / 'child')!r}], start_new_session=True)"
    programs.start(
        python(
            "server",
            write_pid(tmp_path / "pid", f"{child}; time.sleep(600)"),
            lambda: written(tmp_path / "pid")() and written(tmp_path / "child")(),
        )
    )
    programs.wait("server", seconds=20)
    programs.watch()
    os.kill(pids(tmp_path / "pid")[0], signal.SIGKILL)
    until(lambda: len(pids(tmp_path / "pid")) == 2)
    assert gone(pids(tmp_path / "child")[0])


def test_leaving_ends_children_in_other_sessions_and_those_that_do_not_listen(tmp_path: Path) -> None:
    deaf = write_pid(tmp_path / "deaf", "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)")
    child = f"subprocess.Popen([sys.executable, '-c', {deaf!r}], start_new_session=True)"
    with Programs(tmp_path, tmp_path / "log", {}, say=lambda _: None, stop_seconds=2.0) as programs:
        programs.start(
            python(
                "server",
                write_pid(tmp_path / "pid", f"{child}; time.sleep(600)"),
                lambda: written(tmp_path / "pid")() and written(tmp_path / "deaf")(),
            )
        )
        programs.wait("server", seconds=20)
    assert gone(pids(tmp_path / "pid")[0])
    assert gone(pids(tmp_path / "deaf")[0])


def test_the_last_one_started_is_stopped_first(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    with Programs(tmp_path, tmp_path / "log", {}, say=lambda _: None) as programs:
        for name in ("server", "worker"):
            report = f"print({name!r}, file=open({str(ended)!r}, 'a')); sys.exit()"
            listen = f"signal.signal(signal.SIGTERM, lambda *_: exec({report!r}))"
            code = f"import signal, sys; {listen}; {write_pid(tmp_path / name)}"
            programs.start(python(name, code, written(tmp_path / name)))
        programs.wait("server", "worker", seconds=20)
    assert ended.read_text().split() == ["worker", "server"]


def test_nothing_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "supervisor.py"
    script.write_text(
        "import sys, time\n"
        "from pathlib import Path\n"
        "from recloop.processes import Program, Programs\n"
        "with Programs(Path('.'), Path('log'), {}) as programs:\n"
        f"    code = {write_pid(tmp_path / 'pid')!r}\n"
        "    programs.start(Program('server', (sys.executable, '-c', code), lambda: False))\n"
        "    time.sleep(600)\n"
    )
    supervisor = subprocess.Popen([sys.executable, str(script)], cwd=tmp_path)
    until(written(tmp_path / "pid"))
    supervisor.kill()
    supervisor.wait()
    until(lambda: gone(pids(tmp_path / "pid")[0]))
