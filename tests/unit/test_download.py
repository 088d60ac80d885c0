"""An archive is fetched once, verified, and kept; every way in which that fails says what to do."""

from __future__ import annotations

import hashlib
import http.server
import os
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recloop.data.sources.download import Archive, UnreachableError, as_wheel, first_reachable, over_http
from recloop.errors import SourceError

CONTENT = b"the films of 1995"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Counted:
    """A way to fetch that counts how often it was taken."""

    def __init__(self, content: bytes | None) -> None:
        self.content = content
        self.times = 0

    def __call__(self, path: Path) -> None:
        self.times += 1
        if self.content is None:
            raise UnreachableError("example.org: no such host")
        path.write_bytes(self.content)


def archive(fetch: Callable[[Path], None], name: str = "films.zip") -> Archive:
    return Archive(name=name, origin="a test", sha256=SHA256, fetch=fetch)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The files of `tmp_path/www` at a free port on loopback."""
    (tmp_path / "www").mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "www"))  # type: ignore[arg-type]

        def send_head(self) -> object:  # type: ignore[override]
            if not self.path.startswith("/short"):
                return super().send_head()
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT) + 9))
            self.end_headers()
            self.wfile.write(CONTENT)
            return None

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_verified_archive_is_fetched_once_and_then_taken_from_the_cache(tmp_path: Path) -> None:
    fetch = Counted(CONTENT)
    for _ in range(2):
        _, path = first_reachable([archive(fetch)], tmp_path)
        assert path.read_bytes() == CONTENT
    assert fetch.times == 1


def test_an_archive_damaged_in_the_cache_is_fetched_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "films.zip").write_bytes(CONTENT[:-1])
    _, path = first_reachable([archive(Counted(CONTENT))], tmp_path)
    assert path.read_bytes() == CONTENT
    assert "films.zip is damaged; it is fetched again" in capsys.readouterr().err


def test_a_wrong_checksum_is_an_error_that_names_both_and_keeps_nothing(tmp_path: Path) -> None:
    wrong = b"please log in to this network"
    found = hashlib.sha256(wrong).hexdigest()
    with pytest.raises(SourceError, match=f"wrong checksum[^$]*expected {SHA256}\n  found    {found}"):
        first_reachable([archive(Counted(wrong)), archive(Counted(CONTENT), "other.zip")], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_second_road_is_taken_where_the_first_is_closed(tmp_path: Path) -> None:
    closed, open_ = archive(Counted(None)), archive(Counted(CONTENT), "other.whl")
    assert first_reachable([closed, open_], tmp_path) == (open_, tmp_path / "other.whl")
    assert [file.name for file in tmp_path.iterdir()] == ["other.whl"]


def test_what_the_second_road_left_in_the_cache_is_used_before_the_first_is_tried(tmp_path: Path) -> None:
    first, second = Counted(CONTENT), archive(Counted(None), "other.whl")
    (tmp_path / "other.whl").write_bytes(CONTENT)
    assert first_reachable([archive(first), second], tmp_path) == (second, tmp_path / "other.whl")
    assert first.times == 0


def test_where_no_road_is_open_every_failure_is_named_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"example\.org: no such host; example\.org.*\n.*put films\.zip into"):
        first_reachable([archive(Counted(None)), archive(Counted(None), "other.whl")], tmp_path)


def test_http_gives_the_bytes_of_the_file(tmp_path: Path, server: str) -> None:
    (tmp_path / "www" / "films.zip").write_bytes(CONTENT)
    over_http(f"{server}/films.zip")(tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == CONTENT


def test_a_file_that_is_not_there_is_unreachable(tmp_path: Path, server: str) -> None:
    with pytest.raises(UnreachableError, match=r"films\.zip: File not found"):
        over_http(f"{server}/films.zip")(tmp_path / "got")


def test_a_download_that_breaks_off_is_not_taken_for_the_whole(tmp_path: Path, server: str) -> None:
    with pytest.raises(UnreachableError, match=r"short\.zip: broke off, 9 bytes before the end"):
        over_http(f"{server}/short.zip")(tmp_path / "got")


def test_a_host_that_does_not_answer_is_given_up_at_once(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(UnreachableError, match="refused"):
        over_http("http://127.0.0.1:1/films.zip")(tmp_path / "got")
    with pytest.raises(UnreachableError, match=r"films\.invalid"):
        over_http("http://films.invalid/films.zip")(tmp_path / "got")
    assert time.monotonic() - start < 20


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as pip's only index, with the wheel `tinyfilms 1.0` in it."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tinyfilms-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tinyfilms/films.txt", CONTENT)
        wheel.writestr("tinyfilms-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinyfilms\nVersion: 1.0\n")
        wheel.writestr(
            "tinyfilms-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("tinyfilms-1.0.dist-info/RECORD", "")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_pip_gives_the_wheel_as_it_is(tmp_path: Path, index: Path) -> None:
    as_wheel("tinyfilms==1.0")(tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == (index / "tinyfilms-1.0-py3-none-any.whl").read_bytes()


def test_a_package_that_the_index_does_not_have_is_unreachable(tmp_path: Path, index: Path) -> None:
    with pytest.raises(UnreachableError, match=r"pip download tinyfilms==2\.0: No matching distribution"):
        as_wheel("tinyfilms==2.0")(tmp_path / "got")
