"""Every error a user can cause, as one tree.

    RecloopError
    ├── ConfigError       params.yaml, or another setting, is wrong
    ├── SourceError       the data source cannot be read, or is not what it should be
    ├── GateError         the data is not fit to learn from
    ├── StageError        a stage's inputs are missing or damaged
    ├── ModelError        a model cannot be built, trained, saved or loaded
    ├── RegistryError     the registry does not hold, or will not take, what was asked of it
    │   └── PromotionConflict   somebody else changed the champion meanwhile
    ├── ServingError      the endpoint cannot start or cannot answer
    └── PlatformError     a process of the platform does not start or answer

The command line prints `message` and `remedy`, without a traceback, and exits with `exit_code`.
"""

from __future__ import annotations


class RecloopError(Exception):
    """What happened and where (`message`), and the command or setting that mends it (`remedy`)."""

    exit_code = 2

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message if remedy is None else f"{message}\n  → {remedy}")
        self.message = message
        self.remedy = remedy


class ConfigError(RecloopError):
    """params.yaml, an environment variable or an argument is wrong."""


class SourceError(RecloopError):
    """The data source cannot be read, or is not what it should be."""


class GateError(RecloopError):
    """The data is not fit to learn from; the last good data was left alone."""

    exit_code = 3


class StageError(RecloopError):
    """A stage's inputs are missing or damaged."""


class ModelError(RecloopError):
    """A model cannot be built, trained, saved or loaded."""


class RegistryError(RecloopError):
    """The registry does not hold, or will not take, what was asked of it."""


class PromotionConflict(RegistryError):
    """The champion changed while the challenger was being compared with it."""

    exit_code = 4


class ServingError(RecloopError):
    """The endpoint cannot start or cannot answer."""


class PlatformError(RecloopError):
    """A process of the platform does not start, answer or stop."""
