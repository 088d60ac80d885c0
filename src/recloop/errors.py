"""Every error a user can cause, as one tree.

    RecloopError
    ├── ConfigError       params.yaml, or another setting, is wrong
    ├── SourceError       the data source cannot be read, or is not what it should be
    ├── GateError         the data is not fit to learn from
    ├── StageError        a stage's inputs are missing or damaged
    ├── ModelError        a model cannot be built, trained, saved or loaded
    │   └── ShortOfMemory       this process has not enough memory to train it
    ├── RegistryError     the registry does not hold, or will not take, what was asked of it
    │   └── PromotionConflict   somebody else changed the champion meanwhile
    ├── ServingError      the endpoint cannot start or cannot answer
    │   ├── RequestError        it was asked for something that cannot be
    │   ├── OverloadError       it has more to do than it can do soon
    │   ├── NotFoundError       what was asked about is not there
    │   ├── ConflictError       as things are, it cannot be done
    │   └── EndpointError       what the endpoint said to a client of it instead of an answer
    ├── DatabaseError     the SQL database does not answer, is damaged, or refuses what it was given
    └── PlatformError     a process of the platform does not start or answer
        └── BusyError           another one has what only one may have

The command line prints `message` and `remedy`, without a traceback, and exits with `exit_code`.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
ROOM_REMEDY = "free some space and run the command again"


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


class ShortOfMemory(ModelError):
    """This process has not enough memory to train a model."""


class RegistryError(RecloopError):
    """The registry does not hold, or will not take, what was asked of it."""


class PromotionConflict(RegistryError):
    """The champion changed while the challenger was being compared with it."""

    exit_code = 4


class ServingError(RecloopError):
    """The endpoint cannot start or cannot answer."""


class RequestError(ServingError):
    """What was asked for cannot be: an attribute that items do not have, a value that it cannot have."""


class OverloadError(ServingError):
    """The endpoint has more to do than it can do soon, and refuses what comes on top."""


class NotFoundError(ServingError):
    """What was asked about is not there."""


class ConflictError(ServingError):
    """As things are, what was asked for cannot be done."""


class EndpointError(ServingError):
    """What the endpoint said to a client of it instead of an answer.

    Args:
        status: of HTTP, e.g. 404; None where nothing answered.
    """

    event_ids: tuple[str, ...] = ()
    """Of the events that were sent, in their order: sent again by these, none is counted twice."""

    def __init__(self, message: str, *, remedy: str | None = None, status: int | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class DatabaseError(RecloopError):
    """The SQL database does not answer, is damaged, or refuses what it was given.

    Args:
        database: its URL, without a password.
        said: its own words.
        transient: whether it may answer the next time.
    """

    def __init__(self, database: str, said: str, *, remedy: str, transient: bool) -> None:
        super().__init__(f"the database {database}: {said}", remedy=remedy)
        self.said = said
        self.transient = transient


class PlatformError(RecloopError):
    """A process of the platform does not start, answer or stop."""


class BusyError(PlatformError):
    """Another process has what only one may have."""


def explained(error: OSError) -> RecloopError:
    """What the operating system refused, as an error for people."""
    what = error.strerror or str(error)
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in NO_ROOM:
        return RecloopError(f"{where}the disk is full", remedy=ROOM_REMEDY)
    remedies: dict[int | None, str] = {
        errno.EACCES: "give the user who runs recloop the right to read and write there",
        errno.EROFS: "give the user who runs recloop the right to read and write there",
        errno.ENOTDIR: "a file stands where a folder is to be: move it away",
        errno.EEXIST: "a file stands where a folder is to be: move it away",
        errno.EISDIR: "a folder stands where a file is to be: move it away",
    }
    return RecloopError(f"{where}{what}", remedy=remedies.get(error.errno, "mend that, and run the command again"))


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """The end of a message about a name that is not known: the nearest that is, where one is near."""
    close = difflib.get_close_matches(given, list(known), n=1)
    return f"; did you mean `{close[0]}`?" if close else ""
