"""MovieLens-100K, from either of the two places it can be had: both give the same tables, byte for byte.

GroupLens's zip holds `u.data`, `u.item` and `u.user`. The wheel of recbole 1.2.1 holds the same data in
another form: ratings and users are the same lines under a header; a film's title and year stand in two
columns, and its genres are words in place of flags. Titles are put together again from the wheel's columns
and then read by the same code. What one of the two lacks (dates, addresses) is left out.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from recloop.config import MovieLens100K
from recloop.data.schema import TIMESTAMP
from recloop.data.sources.canonical import Stream, Tables, raw_schema
from recloop.data.sources.download import Archive, as_wheel, cache_folder, first_reachable, over_http

TERMS = (
    "terms: MovieLens-100K is GroupLens's (University of Minnesota), for research. Cite Harper and Konstan, "
    '"The MovieLens Datasets: History and Context" (TiiS 5:4, 2015, doi:10.1145/2827872). Without '
    "GroupLens's permission, neither pass the data on nor use it commercially. In full: "
    "https://files.grouplens.org/datasets/movielens/ml-100k-README.txt"
)
GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *(
        "Fantasy",
        "Film-Noir",
        "Horror",
        "Musical",
        "Mystery",
        "Romance",
        "Sci-Fi",
        "Thriller",
        "War",
        "Western",
    ),
)
"""In the order of the flags in `u.item`."""

TITLE = re.compile(r"(?P<title>.+?) \((?P<year>\d{4})\)(?: \(V\))?")
"""`Braveheart (1995)`, or `… (1995) (V)` for one that came out on video."""


@dataclass(frozen=True)
class Contents:
    """What both archives hold. Users and ratings as in the files, films with GroupLens's titles."""

    ratings: list[list[str]]
    """user, item, rating, seconds since 1970"""
    films: list[tuple[str, str, set[str]]]
    """item, title with the year, genres"""
    users: list[list[str]]
    """user, age, gender, occupation, zip code"""


def from_zip(path: Path) -> Contents:
    """Read GroupLens's `ml-100k.zip`."""
    with zipfile.ZipFile(path) as archive:
        films = []
        for fields in _rows(archive, "ml-100k/u.item", "|", "latin-1"):
            item, title, _, _, _, *flags = fields
            genres = {genre for genre, flag in zip(GENRES, flags, strict=True) if flag == "1"}
            films.append((item, title, genres))
        return Contents(
            ratings=list(_rows(archive, "ml-100k/u.data", "\t", "ascii")),
            films=films,
            users=list(_rows(archive, "ml-100k/u.user", "|", "ascii")),
        )


def from_wheel(path: Path) -> Contents:
    """Read the wheel of recbole 1.2.1."""
    folder = "recbole/dataset_example/ml-100k"
    with zipfile.ZipFile(path) as archive:
        films = []
        for item, title, year, genres in _rows(archive, f"{folder}/ml-100k.item", "\t", "utf-8", header=True):
            # The one film without a year has this for a title and a year.
            films.append((item, "unknown" if year == "unkonwn" else f"{title} ({year})", set(genres.split())))
        return Contents(
            ratings=list(_rows(archive, f"{folder}/ml-100k.inter", "\t", "ascii", header=True)),
            films=films,
            users=list(_rows(archive, f"{folder}/ml-100k.user", "\t", "ascii", header=True)),
        )


@dataclass(frozen=True)
class Road:
    """An archive, and how to read it."""

    archive: Archive
    read: Callable[[Path], Contents]


ROADS = (
    Road(
        Archive(
            name="ml-100k.zip",
            origin="files.grouplens.org",
            sha256="50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
            fetch=over_http("https://files.grouplens.org/datasets/movielens/ml-100k.zip"),
        ),
        from_zip,
    ),
    Road(
        Archive(
            name="recbole-1.2.1-py3-none-any.whl",
            origin="the package index, where recbole 1.2.1 has the data in it",
            sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
            fetch=as_wheel("recbole==1.2.1"),
        ),
        from_wheel,
    ),
)


def read_movielens(source: MovieLens100K) -> Tables:
    """MovieLens-100K as canonical tables, fetched where it is not in the cache yet.

    Raises:
        SourceError: it cannot be fetched, or what was fetched has the wrong checksum.
    """
    archive, path = first_reachable([road.archive for road in ROADS], cache_folder())
    contents = next(road.read(path) for road in ROADS if road.archive is archive)
    return Tables(
        interactions=Stream.of(_interactions(contents.ratings, source.until)),
        items=Stream.of(_items(contents.films)),
        users=Stream.of(_users(contents.users)),
        notes=(f"read from {archive.name}, from {archive.origin}", TERMS),
    )


def _interactions(ratings: list[list[str]], until: datetime | None) -> pa.Table:
    numbers = np.array(ratings, dtype=np.int64)
    users, items, stars, seconds = numbers[np.lexsort((numbers[:, 1], numbers[:, 0], numbers[:, 3]))].T
    if until is not None:
        before = seconds < until.timestamp()
        users, items, stars, seconds = users[before], items[before], stars[before], seconds[before]
    columns = [
        pa.array(users).cast(pa.string()),
        pa.array(items).cast(pa.string()),
        pa.repeat("rating", len(users)),
        pa.array(stars.astype(np.float32)),
        pa.array(seconds * 1_000_000).cast(TIMESTAMP),
    ]
    return pa.table(columns, schema=raw_schema("interactions"))


def _items(films: list[tuple[str, str, set[str]]]) -> pa.Table:
    ids, titles, genres, years = [], [], [], []
    for item, name, kinds in sorted(films, key=lambda film: int(film[0])):
        spaced = " ".join(name.split())
        parts = TITLE.fullmatch(spaced)
        ids.append(item)
        titles.append(parts["title"] if parts else spaced)
        years.append(int(parts["year"]) if parts else None)
        genres.append([genre for genre in GENRES if genre in kinds and genre != "unknown"])
    schema = raw_schema("items").append(pa.field("release_year", pa.int64()))
    return pa.table([ids, titles, genres, years], schema=schema)


def _users(rows: list[list[str]]) -> pa.Table:
    ids, ages, genders, occupations, _ = zip(*sorted(rows, key=lambda row: int(row[0])), strict=True)
    schema = raw_schema("users")
    for name, kind in (("age", pa.int64()), ("gender", pa.string()), ("occupation", pa.string())):
        schema = schema.append(pa.field(name, kind))
    return pa.table([ids, [int(age) for age in ages], genders, occupations], schema=schema)


def _rows(
    archive: zipfile.ZipFile, name: str, separator: str, encoding: str, *, header: bool = False
) -> Iterator[list[str]]:
    # Not splitlines(): it also breaks at characters that may stand in a title.
    lines = archive.read(name).decode(encoding).replace("\r\n", "\n").split("\n")
    for line in lines[1:] if header else lines:
        if line:
            yield line.split(separator)
