"""Evidently, without what it says beside its figures."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from recloop import telemetry


@contextmanager
def quiet() -> Iterator[None]:
    """Evidently sends nothing home, and the libraries under it keep their deprecations to themselves."""
    telemetry.silence()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
