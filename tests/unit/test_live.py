"""Following the pointer: a new version goes live whole, a bad one never does."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from pathlib import Path

import pytest

from recloop.errors import ServingError
from recloop.serving.engine import Engine
from recloop.serving.live import RETRY_SECONDS, Live, Refusal, Served
from recloop.serving.pointer import read_pointer
from tests.asking import ask, ids
from tests.packages import COUNTS, point_at, write_package


class Watched:
    """A `Live` with what it told, and a clock to turn."""

    def __init__(self, folder: Path) -> None:
        self.caught_up: list[int] = []
        self.swaps: list[tuple[int | None, int]] = []
        self.refused = 0
        self.now = 0.0
        self.live = Live(
            folder,
            before_swap=lambda engine: self.caught_up.append(engine.info.feedback_watermark),
            after_swap=self._swapped,
            on_refused=self._refused,
            clock=lambda: self.now,
        )

    def _swapped(self, old: Served | None, new: Served) -> None:
        self.swaps.append((None if old is None else old.version, new.version))

    def _refused(self, refusal: Refusal) -> None:
        self.refused += 1

    @property
    def version(self) -> int | None:
        return None if self.live.served is None else self.live.served.version


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "live"


@pytest.fixture
def watched(folder: Path) -> Watched:
    return Watched(folder)


def test_without_a_pointer_nothing_is_served_and_nothing_is_wrong(watched: Watched) -> None:
    assert watched.live.check() is False
    assert watched.live.served is None
    assert watched.live.refusal is None


def test_the_version_that_the_pointer_names_goes_live(folder: Path, watched: Watched) -> None:
    write_package(folder / "v3", watermark=17)
    point_at(folder, 3)
    assert watched.live.check() is True
    assert watched.version == 3
    assert watched.caught_up == [17]
    assert watched.swaps == [(None, 3)]


def test_an_unchanged_pointer_is_not_read_again(folder: Path, watched: Watched) -> None:
    write_package(folder / "v1")
    point_at(folder, 1)
    watched.live.check()
    served = watched.live.served
    assert watched.live.check() is False
    assert watched.live.served is served


def test_a_swap_goes_both_ways(folder: Path, watched: Watched) -> None:
    for version in (1, 2):
        write_package(folder / f"v{version}")
        point_at(folder, version)
        watched.live.check()
    point_at(folder, 1, previous=2)
    watched.live.check()
    assert watched.swaps == [(None, 1), (1, 2), (2, 1)]


def test_the_old_engine_is_freed_after_a_swap(folder: Path, watched: Watched) -> None:
    write_package(folder / "v1")
    write_package(folder / "v2")
    point_at(folder, 1)
    watched.live.check()
    assert watched.live.served is not None
    old = weakref.ref(watched.live.served.engine)
    gc.disable()  # it must not take the collector, which does not look at what was frozen
    try:
        point_at(folder, 2)
        watched.live.check()
        assert old() is None
    finally:
        gc.enable()
        gc.unfreeze()


def test_a_damaged_version_is_refused_and_the_old_one_stays(
    folder: Path, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    write_package(folder / "v1")
    point_at(folder, 1)
    watched.live.check()
    write_package(folder / "v2")
    (folder / "v2" / "model.safetensors").write_bytes(b"half a mod")
    point_at(folder, 2)
    with caplog.at_level(logging.ERROR):
        assert watched.live.check() is False
    assert watched.version == 1
    assert watched.live.refusal is not None
    assert watched.live.refusal.version == 2
    assert "model.safetensors is truncated or damaged" in watched.live.refusal.error
    assert "version 2 is refused, version 1 goes on answering" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_package_that_is_not_the_deployed_one_is_refused(folder: Path, watched: Watched) -> None:
    write_package(folder / "v1")
    point_at(folder, 1, sha256="0" * 64)
    assert watched.live.check() is False
    assert watched.live.refusal is not None
    assert "v1 is not the package that was deployed: its checksum differs" in watched.live.refusal.error


def test_the_same_number_of_another_registry_is_another_version(folder: Path, watched: Watched) -> None:
    write_package(folder / "v1")
    point_at(folder, 1)
    watched.live.check()
    write_package(folder / "v1", exclude_seen=False)
    point_at(folder, 1)
    assert watched.live.check() is True
    assert watched.live.served is not None
    assert watched.live.served.engine.info.exclude_seen is False


def test_a_refused_version_is_tried_again_and_told_of_once(folder: Path, watched: Watched) -> None:
    write_package(folder / "v2")
    point_at(folder, 2)
    sound = (folder / "v2" / "model.safetensors").read_bytes()
    (folder / "v2" / "model.safetensors").write_bytes(b"half a mod")
    watched.live.check()
    first = watched.live.refusal
    watched.live.check()
    assert watched.live.refusal is first, "it was tried again at once"
    watched.now = RETRY_SECONDS
    watched.live.check()
    assert watched.live.refusal is not first
    assert watched.refused == 1
    (folder / "v2" / "model.safetensors").write_bytes(sound)
    watched.now = 2 * RETRY_SECONDS
    assert watched.live.check() is True
    assert (watched.version, watched.live.refusal) == (2, None)


def test_whoever_asks_has_a_refused_version_tried_at_once(folder: Path, watched: Watched) -> None:
    write_package(folder / "v2")
    point_at(folder, 2)
    sound = (folder / "v2" / "model.safetensors").read_bytes()
    (folder / "v2" / "model.safetensors").write_bytes(b"half a mod")
    watched.live.check()
    (folder / "v2" / "model.safetensors").write_bytes(sound)
    assert watched.live.check() is False
    assert watched.live.check(again=True) is True
    assert (watched.version, watched.live.refusal) == (2, None)


def test_a_new_pointer_ends_a_refusal_at_once(folder: Path, watched: Watched) -> None:
    point_at(folder, 2)
    watched.live.check()
    assert watched.live.refusal is not None
    assert "v2/model.json is missing" in watched.live.refusal.error
    write_package(folder / "v1")
    point_at(folder, 1)
    assert watched.live.check() is True
    assert watched.live.refusal is None


def test_an_error_nobody_thought_of_does_not_take_the_endpoint_down(
    folder: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(folder / "v1")
    point_at(folder, 1)
    watched.live.check()

    def burst(folder: Path) -> Engine:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr(Engine, "load", burst)
    point_at(folder, 2)
    watched.live.check()
    assert watched.version == 1
    assert watched.live.refusal is not None
    assert watched.live.refusal.error == "ZeroDivisionError: of all things"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "content: Invalid JSON"),
        ('{"version": 1}', "folder: Field required"),
        (
            '{"version":1,"folder":"../../etc","since":"x","previous":null,"reason":""}',
            "folder: String should match",
        ),
    ],
)
def test_a_damaged_pointer_is_refused_by_what_is_wrong_with_it(
    folder: Path, watched: Watched, content: str, message: str
) -> None:
    folder.mkdir()
    (folder / "champion.json").write_text(content)
    watched.live.check()
    assert watched.live.refusal is not None
    assert message in watched.live.refusal.error
    with pytest.raises(ServingError, match="recloop deploy"):
        read_pointer(folder)


def test_a_pointer_that_goes_away_leaves_what_is_live(folder: Path, watched: Watched) -> None:
    write_package(folder / "v1")
    point_at(folder, 1)
    watched.live.check()
    (folder / "champion.json").unlink()
    assert watched.live.check() is False
    assert watched.version == 1


def test_the_same_version_named_anew_is_not_loaded_again(folder: Path, watched: Watched) -> None:
    write_package(folder / "v1")
    point_at(folder, 1)
    watched.live.check()
    before = watched.live.served
    point_at(folder, 1, previous=7)
    assert watched.live.check() is False
    assert before is not None
    assert watched.live.served is not None
    assert watched.live.served.engine is before.engine
    assert watched.live.served.pointer.previous == 7


def test_a_request_never_sees_half_a_swap(folder: Path, watched: Watched) -> None:
    """Version 1 ranks a to e, version 2 ranks e to a: a list must be one or the other, and say which."""
    lists = {1: ["a", "b", "c", "d", "e"], 2: ["e", "d", "c", "b", "a"]}
    write_package(folder / "v1", exclude_seen=False)
    write_package(folder / "v2", exclude_seen=False, counts={item: 6.0 - count for item, count in COUNTS.items()})
    point_at(folder, 1)
    watched.live.check()
    stop, seen, wrong = threading.Event(), set(), []

    def look() -> None:
        while not stop.is_set():
            served = watched.live.served
            assert served is not None
            answer = ids(served.engine, ask(served.engine, "ann", k=5))
            seen.add(served.version)
            if answer != lists[served.version]:
                wrong.append((served.version, answer))

    askers = [threading.Thread(target=look) for _ in range(2)]
    for asker in askers:
        asker.start()
    for version in (2, 1, 2, 1, 2):
        point_at(folder, version)
        watched.live.check()
    stop.set()
    for asker in askers:
        asker.join()
    assert watched.swaps[-1] == (1, 2)
    assert seen == {1, 2}
    assert wrong == []


def test_an_unloaded_version_comes_back_when_it_is_asked_for(folder: Path, watched: Watched) -> None:
    write_package(folder / "v1")
    point_at(folder, 1)
    watched.live.check()
    watched.live.unload()
    assert watched.version is None
    assert watched.live.check() is True
    assert watched.version == 1
