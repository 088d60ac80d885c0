"""Champion and challenger: each is told of as what it is, and is refused as what it was to be."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from recloop.config import Rerank, Serving
from recloop.errors import ServingError
from recloop.serving.endpoint import Endpoint
from recloop.serving.metrics import Metrics
from recloop.serving.traffic import Split
from recloop.storage import connect
from tests.packages import point_at, write_package


class Running:
    """An endpoint without the web that looks only when it is told to, and its figures."""

    def __init__(self, folder: Path, **serving: Any) -> None:
        self.metrics = Metrics()
        database = connect(f"sqlite:///{folder / 'recloop.db'}")
        self.endpoint = Endpoint(folder / "live", database, Serving(poll_seconds=3600.0, **serving), self.metrics)
        self.endpoint.start()

    def count(self, name: str) -> float:
        return float(getattr(self.metrics, name).collect()[0].samples[0].value)


@pytest.fixture
def start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., Running]]:
    """Starts an endpoint that is stopped after the test; what it logs is caught."""
    started: list[Running] = []

    def start(**serving: Any) -> Running:
        started.append(Running(tmp_path, **serving))
        return started[-1]

    write_package(tmp_path / "live" / "v1")
    point_at(tmp_path / "live", 1)
    with caplog.at_level(logging.INFO, "recloop.serving"):
        yield start
    for running in started:
        running.endpoint.stop()


def test_a_challenger_is_not_said_to_be_live_and_is_no_swap(
    tmp_path: Path, start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    write_package(tmp_path / "live" / "v3")
    point_at(tmp_path / "live", 3, pointer="challenger.json")
    running = start()
    running.endpoint.set_split(Split(0.5), "a test")
    assert [record.getMessage() for record in caplog.records] == [
        "version 1 is live (popularity): it was better",
        "version 3 is the challenger (popularity): it was better",
    ]
    assert (running.count("swaps"), running.count("version")) == (1, 1)


def test_a_challenger_that_is_refused_is_no_outage_and_is_not_told_of_once_nobody_asks_for_one(
    tmp_path: Path, start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    point_at(tmp_path / "live", 3, pointer="challenger.json")
    running = start()
    running.endpoint.set_split(Split(0.5), "a test")
    refused = running.endpoint.describe().refused
    assert refused is not None
    assert refused.version == 3
    assert "version 3 is refused as challenger, the champion goes on answering: " in caplog.text
    running.endpoint.set_split(Split(), "a test")
    assert running.endpoint.describe().refused is None
    running.endpoint.set_split(Split(0.5), "a test")
    assert running.endpoint.describe().refused is not None, "it is tried again at once when it is asked for again"


def test_a_challenger_just_asked_for_is_not_dropped_by_who_looked_before(
    tmp_path: Path, start: Callable[..., Running]
) -> None:
    write_package(tmp_path / "live" / "v3")
    point_at(tmp_path / "live", 3, pointer="challenger.json")
    lineup = start().endpoint._lineup
    looking, go = threading.Event(), threading.Event()

    class Slow(Split):
        """Nobody asks for a challenger, which takes a while to be seen."""

        @property
        def asks_for_challenger(self) -> bool:
            looking.set()
            go.wait(10)
            return False

    lineup.split = Slow()
    before = threading.Thread(target=lineup.follow)
    before.start()
    assert looking.wait(10)
    lineup.split = Split(0.5)
    after = threading.Thread(target=lineup.follow)
    after.start()
    after.join(0.5)
    go.set()
    before.join()
    after.join()
    assert lineup.challenger is not None


def test_a_first_version_that_is_refused_leaves_nobody_and_says_what_mends_that(
    start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    running = start(rerank=Rerank(keep={"in_stock": True}))
    assert "version 1 is refused, nothing answers: " in caplog.text
    with pytest.raises(ServingError, match=r"no champion is live yet: .* no attribute 'in_stock'") as caught:
        running.endpoint.describe()
    assert str(caught.value.remedy).startswith("correct serving.rerank.keep in params.yaml, or map the attribute")
