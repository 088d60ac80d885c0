"""What only one may have: a port of the machine, and the platform of a project."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from pathlib import Path

from recloop.errors import ConfigError, PlatformError


def choose_port(host: str, port: int, key: str, variable: str) -> int:
    """A port that nothing listens at; any for 0.

    Args:
        host: where.
        port: as params.yaml has it; the environment wins.
        key: its key in params.yaml.
        variable: its name in the environment.

    Raises:
        ConfigError: the environment holds no port.
        PlatformError: it is in use.
    """
    chosen = os.environ.get(variable, str(port))
    if not chosen.isdecimal() or int(chosen) > 65535:
        raise ConfigError(f"{variable}={chosen!r} is not a port", remedy="a number from 0 (any) to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(chosen)))
        except OSError as error:
            what = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
            raise PlatformError(
                f"port {chosen} on {host} {what}",
                remedy=f"stop what listens there, or set {key} in params.yaml, or {variable}",
            ) from error
        return int(probe.getsockname()[1])


class Lock:
    """One platform a project. Held until the last process that has the descriptor is gone."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Lock:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self.descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self.descriptor, 32).decode()
            os.close(self.descriptor)
            raise PlatformError(
                f"the platform of {self._path.parent.parent} runs already, or is stopping (process {holder})",
                remedy=f"use it, or stop it: `kill {holder}`",
            ) from error
        os.truncate(self.descriptor, 0)
        os.write(self.descriptor, str(os.getpid()).encode())
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self.descriptor)
