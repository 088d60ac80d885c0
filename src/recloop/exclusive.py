"""What only one may have: a port of the machine, and the platform of a project."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from pathlib import Path

from recloop.errors import BusyError, ConfigError, PlatformError


def choose_port(host: str, port: int, key: str, variable: str) -> int:
    """The port that the settings name, if nothing listens there; any free one for 0.

    Args:
        host: an IP address.
        port: as params.yaml has it; the environment wins.
        key: its key in params.yaml.
        variable: its name in the environment.

    Raises:
        ConfigError: the environment holds no port.
        PlatformError: it is in use, or cannot be had.
    """
    chosen = os.environ.get(variable, str(port))
    if not chosen.isdecimal() or int(chosen) > 65535:
        raise ConfigError(f"{variable}={chosen!r} is not a port", remedy="a number from 0 (any) to 65535")
    return free_port(host, int(chosen), remedy=f"stop what listens there, or set {key} in params.yaml, or {variable}")


def free_port(host: str, port: int, *, remedy: str = "stop what listens there, or take another") -> int:
    """`port` if nothing listens there; any free one for 0.

    Raises:
        PlatformError: it is in use, or cannot be had.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # As servers do: a port whose last connections are still being closed is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            what = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
            raise PlatformError(f"port {port} on {host} {what}", remedy=remedy) from error
        return int(probe.getsockname()[1])


def origin(host: str, port: int) -> str:
    """The URL of a server at an IP address."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Lock:
    """One of its kind at a time. Held until the last process that has the descriptor is gone.

    Args:
        path: of the lock file.
        what: is one of a kind; for the error.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._path, self._what = path, what

    def __enter__(self) -> Lock:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self.descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self.descriptor, 32).decode()
            os.close(self.descriptor)
            raise BusyError(
                f"{self._what} runs already, or is stopping (process {holder})",
                remedy=f"use it, or stop it: `kill {holder}`",
            ) from error
        os.truncate(self.descriptor, 0)
        os.write(self.descriptor, str(os.getpid()).encode())
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self.descriptor)
