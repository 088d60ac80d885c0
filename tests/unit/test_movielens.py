"""MovieLens-100K is the same, byte for byte, from GroupLens's zip and from the wheel."""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recloop.config import MovieLens100K
from recloop.data.sources import ingest, movielens
from recloop.data.sources.download import cache_folder
from recloop.data.sources.movielens import GENRES, ROADS, Contents, from_wheel
from recloop.errors import SourceError
from recloop.files import sha256

SOURCE = MovieLens100K(kind="movielens-100k")

# u.item: id | title | release | video release | address | 19 flags, in Latin-1.
FILMS = [
    (1, "Toy Story (1995)", "01-Jan-1995", ("Animation", "Children's", "Comedy")),
    (267, "unknown", "", ("unknown",)),
    (1366, "JLG/JLG - autoportrait de décembre (1994)", "01-Jan-1994", ("Documentary", "Drama")),
    (6, "Shanghai Triad (Yao a yao yao dao waipo qiao) (1995)", "01-Jan-1995", ("Drama",)),
    (1373, "Good Morning (1971)", "4-Feb-1971", ("unknown",)),
    (1412, "Land Before Time III: The Time of the Great Giving (1995) (V)", "01-Jan-1995", ("Animation",)),
    (50, "Star  Wars (1977) ", "01-Jan-1977", ("Sci-Fi", "War")),
]
RATINGS = "196\t267\t3\t881250949\n22\t1\t5\t881250949\n196\t1366\t1\t881250948\n"
USERS = ["196|49|M|writer|55105", "22|25|F|other|40206"]


@pytest.fixture
def roads(tmp_path: Path) -> list[movielens.Road]:
    """Both archives, holding FILMS, RATINGS and USERS in their own forms."""
    item_lines, atomic_lines = (
        [],
        ["item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"],
    )
    for item, title, released, genres in FILMS:
        flags = "|".join(str(int(genre in genres)) for genre in GENRES)
        item_lines.append(f"{item}|{title}|{released}||http://example.org/{item}|{flags}")
        # The wheel's conversion takes what is in the last brackets for the year.
        name, _, year = " ".join(title.split()).rpartition(" (")
        name, year = (name, year.rstrip(")")) if name else ("unkonwn", "unkonwn")
        atomic_lines.append(f"{item}\t{name}\t{year}\t{' '.join(genres)}")
    with zipfile.ZipFile(tmp_path / "ml-100k.zip", "w") as archive:
        archive.writestr("ml-100k/u.data", RATINGS)
        archive.writestr("ml-100k/u.item", ("\n".join(item_lines) + "\n\n").encode("latin-1"))
        archive.writestr("ml-100k/u.user", "\n".join(USERS) + "\n")
    with zipfile.ZipFile(tmp_path / "recbole.whl", "w") as archive:
        folder = "recbole/dataset_example/ml-100k/ml-100k"
        archive.writestr(f"{folder}.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + RATINGS)
        archive.writestr(f"{folder}.item", "\n".join(atomic_lines) + "\n")
        header = "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token"
        archive.writestr(f"{folder}.user", "\n".join([header, *(line.replace("|", "\t") for line in USERS)]))
    made = []
    for road, name in zip(ROADS, ("ml-100k.zip", "recbole.whl"), strict=True):
        content = (tmp_path / name).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        fetched = dataclasses.replace(
            road.archive, sha256=digest, fetch=lambda path, got=content: path.write_bytes(got)
        )
        made.append(movielens.Road(fetched, road.read))
    return made


def ingested(roads: list[movielens.Road], target: Path, source: MovieLens100K = SOURCE) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(movielens, "ROADS", tuple(roads))
        patch.setenv("RECLOOP_CACHE", str(target.with_suffix(".cache")))
        ingest(source, target, base=target)
    return target


def test_both_archives_give_the_same_bytes(roads: list[movielens.Road], tmp_path: Path) -> None:
    by_zip, by_wheel = ingested(roads[:1], tmp_path / "by_zip"), ingested(roads[1:], tmp_path / "by_wheel")
    names = sorted(file.name for file in by_zip.iterdir())
    assert names == ["interactions.parquet", "items.parquet", "users.parquet"]
    for name in names:
        assert (by_zip / name).read_bytes() == (by_wheel / name).read_bytes(), name


@pytest.mark.parametrize("road", [0, 1], ids=["zip", "wheel"])
def test_films_have_their_title_year_and_genres_apart(roads: list[movielens.Road], tmp_path: Path, road: int) -> None:
    raw = ingested([roads[road]], tmp_path / "raw")
    assert [tuple(film.values()) for film in pq.read_table(raw / "items.parquet").to_pylist()] == [
        ("1", "Toy Story", ["Animation", "Children's", "Comedy"], 1995),
        ("6", "Shanghai Triad (Yao a yao yao dao waipo qiao)", ["Drama"], 1995),
        ("50", "Star Wars", ["Sci-Fi", "War"], 1977),
        ("267", "unknown", [], None),
        ("1366", "JLG/JLG - autoportrait de décembre", ["Documentary", "Drama"], 1994),
        ("1373", "Good Morning", [], 1971),
        ("1412", "Land Before Time III: The Time of the Great Giving", ["Animation"], 1995),
    ]


def test_ratings_are_in_the_order_of_time_then_of_ids(roads: list[movielens.Road], tmp_path: Path) -> None:
    rows = pq.read_table(ingested(roads, tmp_path / "raw") / "interactions.parquet").to_pylist()
    first, second = (
        datetime(1997, 12, 4, 15, 55, 48, tzinfo=UTC),
        datetime(1997, 12, 4, 15, 55, 49, tzinfo=UTC),
    )
    assert [tuple(row.values()) for row in rows] == [
        ("196", "1366", "rating", 1.0, first),
        ("22", "1", "rating", 5.0, second),
        ("196", "267", "rating", 3.0, second),
    ]


def test_users_have_age_gender_and_occupation(roads: list[movielens.Road], tmp_path: Path) -> None:
    rows = pq.read_table(ingested(roads, tmp_path / "raw") / "users.parquet").to_pylist()
    assert [tuple(row.values()) for row in rows] == [("22", 25, "F", "other"), ("196", 49, "M", "writer")]


def test_until_takes_what_was_strictly_before(roads: list[movielens.Road], tmp_path: Path) -> None:
    until = SOURCE.model_copy(update={"until": datetime(1997, 12, 4, 15, 55, 49, tzinfo=UTC)})
    rows = pq.read_table(ingested(roads, tmp_path / "raw", until) / "interactions.parquet")
    assert rows["item_id"].to_pylist() == ["1366"]


def test_until_before_the_first_rating_is_an_error_that_leaves_the_last_data(
    roads: list[movielens.Road], tmp_path: Path
) -> None:
    raw = ingested(roads, tmp_path / "raw")
    before = sha256(raw)
    early = SOURCE.model_copy(update={"until": datetime(1990, 1, 1, tzinfo=UTC)})
    with pytest.raises(SourceError, match=r"`movielens-100k` has no interactions before 1990-01-01"):
        ingested(roads, raw, early)
    assert sha256(raw) == before


def test_the_report_says_where_it_came_from_and_the_terms(
    roads: list[movielens.Road], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(movielens, "ROADS", tuple(roads))
    monkeypatch.setenv("RECLOOP_CACHE", str(tmp_path / "cache"))
    report = str(ingest(SOURCE, tmp_path / "raw", base=tmp_path))
    assert "3 interactions, 7 items, 2 users" in report
    assert "read from ml-100k.zip" in report
    assert "Harper and Konstan" in report and "README" in report


def test_the_real_wheel_holds_grouplenss_ratings_line_by_line() -> None:
    """GroupLens's u.data is known by this checksum; with a header before it, it is the wheel's file."""
    wheel = cache_folder() / ROADS[1].archive.name
    if not wheel.is_file():
        pytest.skip("no recbole wheel in the cache (`recloop ingest` fetches it where GroupLens cannot be reached)")
    contents: Contents = from_wheel(wheel)
    assert (len(contents.ratings), len(contents.films), len(contents.users)) == (100_000, 1_682, 943)
    u_data = "".join("\t".join(row) + "\n" for row in contents.ratings).encode()
    assert hashlib.sha256(u_data).hexdigest() == "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490"
