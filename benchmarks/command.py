"""What the benchmarks' commands have in common: a person's mistake ends in one line, which says how to mend it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import wraps

from recloop.errors import RecloopError, explained


def command(main: Callable[[], None]) -> Callable[[], None]:
    """`main`, where what cannot be done is said on stderr in a line and ends with exit code 2, and Ctrl-C with 130.

    Where a process fails that `main` has started, that process has said why.
    """

    @wraps(main)
    def run() -> None:
        try:
            main()
        except RecloopError as error:
            _end(error)
        except OSError as error:
            _end(explained(error))
        except subprocess.CalledProcessError as error:
            sys.exit(error.returncode if error.returncode > 0 else 1)
        except KeyboardInterrupt:
            sys.exit(130)

    return run


def _end(error: RecloopError) -> None:
    print("benchmarks:", *str(error).split(), file=sys.stderr)
    sys.exit(error.exit_code)
