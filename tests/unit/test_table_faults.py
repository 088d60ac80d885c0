"""A user's file that is not what it should be: the message names file, column, row, value and remedy."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recloop.config import Table, validated
from recloop.data.sources import check, ingest
from recloop.errors import ConfigError, SourceError

COLUMNS = {"user_id": "customer", "item_id": "sku", "timestamp": "when"}


def source(path: str = "log.csv", **changes: Any) -> Table:
    log = {"path": path, "columns": COLUMNS, "constants": {"event": "purchase"}}
    places = {key: changes.pop(key) for key in ("columns", "constants") if key in changes}
    return validated(
        Table, {"kind": "table", "folder": ".", "interactions": log | places, **changes}, where="params.yaml"
    )


def fails(folder: Path, message: str, which: Table | None = None) -> None:
    with pytest.raises(SourceError, match=message):
        ingest(which or source(), folder / "raw", base=folder)
    assert not (folder / "raw").exists()


def write_log(folder: Path, *lines: str, header: str = "customer,sku,when") -> None:
    (folder / "log.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")


def test_a_mapped_column_that_is_not_there(tmp_path: Path) -> None:
    write_log(tmp_path, "ann,7,1", header="custmer,sku,when")
    fails(
        tmp_path,
        r"log\.csv has no column 'customer', which source\.interactions\.columns\.user_id names; "
        r"it has custmer, sku, when\n.*did you mean 'custmer'\?",
    )


def test_a_mapped_column_that_one_part_of_many_lacks(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    pq.write_table(pa.table({"customer": ["a"], "sku": ["b"], "when": [1]}), tmp_path / "parts" / "1.parquet")
    pq.write_table(pa.table({"customer": ["a"], "when": [1]}), tmp_path / "parts" / "2.parquet")
    fails(tmp_path, r"2\.parquet has no column 'sku'", source("parts"))


@pytest.mark.parametrize(
    ("unit", "value", "message"),
    [
        ("s", "noon", r"column 'when', row 3: 'noon' \(string\) where seconds since 1970 .* is expected"),
        ("s", "2024-05-01", r"row 3: '2024-05-01' .*seconds since 1970.*\n.*`source\.timestamp_unit: s`"),
        ("s", "1714564800000", r"row 3: '1714564800000' .*in the years 1678 to 2261.*\n.*timestamp_unit: s"),
        ("ms", "9" * 19, r"row 3: '9+' .*milliseconds since 1970"),
        ("iso", "1714564800", r"row 3: '1714564800' .*a time such as 2024-05-01T12:30:00Z"),
        ("iso", "2024-13-01", r"row 3: '2024-13-01' "),
    ],
)
def test_a_time_that_is_none(tmp_path: Path, unit: str, value: str, message: str) -> None:
    good = "2024-05-01" if unit == "iso" else "5"
    write_log(tmp_path, f"ann,7,{good}", f"ann,8,{good}", f"ann,9,{value}", f"ann,10,{good}", "ann,11,worse")
    fails(tmp_path, message, source(timestamp_unit=unit))


def test_a_value_that_is_no_number(tmp_path: Path) -> None:
    write_log(tmp_path, "ann,7,1,4.5", "ann,8,1,four", header="customer,sku,when,stars")
    fails(
        tmp_path,
        r"log\.csv, column 'stars', row 2: 'four' \(string\) where a number is expected\n.*correct the value",
        source(columns={**COLUMNS, "value": "stars"}),
    )


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (pa.array([1.0, 2.5]), r"column 'customer', row 2: 2\.5 \(double\) where text or a whole number"),
        (pa.array([["a"], ["b"]]), r"column 'customer', row 1: \['a'\] \(list.*\) where text"),
    ],
)
def test_an_id_of_the_wrong_type(tmp_path: Path, ids: pa.Array, message: str) -> None:
    pq.write_table(pa.table({"customer": ids, "sku": ["a", "b"], "when": [1, 2]}), tmp_path / "log.parquet")
    fails(tmp_path, message, source("log.parquet"))


def test_the_row_is_counted_over_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recloop.data.sources.parts.CSV_BLOCK_BYTES", 100)
    write_log(tmp_path, *(f"ann,{n},{n}" for n in range(200)), "ann,7,late")
    fails(tmp_path, "row 201: 'late'")


def test_a_file_that_is_not_there_or_of_no_known_kind(tmp_path: Path) -> None:
    fails(tmp_path, r"log\.csv is missing\n.*correct the path")
    fails(tmp_path, r"part-\*\.parquet is missing", source("part-*.parquet"))
    (tmp_path / "empty").mkdir()
    fails(tmp_path, r"there is nothing at .*empty that ends in \.csv, .*\.parquet", source("empty"))
    (tmp_path / "log.xlsx").write_bytes(b"PK")
    fails(tmp_path, r"log\.xlsx has none of the suffixes that can be read: \.csv", source("log.xlsx"))


def test_an_empty_file_and_a_header_alone(tmp_path: Path) -> None:
    (tmp_path / "log.csv").touch()
    fails(tmp_path, r"log\.csv is empty")
    write_log(tmp_path)
    fails(tmp_path, "the source `table` has no interactions")


def test_a_truncated_parquet_file(tmp_path: Path) -> None:
    log = pa.table({"customer": ["a"] * 1000, "sku": ["b"] * 1000, "when": range(1000)})
    pq.write_table(log, tmp_path / "log.parquet")
    content = (tmp_path / "log.parquet").read_bytes()
    (tmp_path / "log.parquet").write_bytes(content[: len(content) // 2])
    fails(tmp_path, r"log\.parquet cannot be read: .*\n.*cut off", source("log.parquet"))


def test_a_parquet_file_damaged_inside(tmp_path: Path) -> None:
    log = pa.table({"customer": [f"user {n}" for n in range(5000)], "sku": ["b"] * 5000, "when": range(5000)})
    pq.write_table(log, tmp_path / "log.parquet")
    content = bytearray((tmp_path / "log.parquet").read_bytes())
    content[4:200] = b"\xff" * 196
    (tmp_path / "log.parquet").write_bytes(content)
    fails(tmp_path, r"log\.parquet cannot be read: ", source("log.parquet"))


def test_a_truncated_gzip_file(tmp_path: Path) -> None:
    lines = "customer,sku,when\n" + "".join(f"ann,{n * n},{n}\n" for n in range(10_000))
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress(lines.encode())[:-100])
    fails(tmp_path, r"log\.csv\.gz cannot be read: .*[Tt]runcated", source("log.csv.gz"))


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes("customer,sku,when\nJosé,7,1\n".encode("latin-1"))
    fails(tmp_path, r"log\.csv cannot be read: it is not text in UTF-8\n.*save it as UTF-8")
    (tmp_path / "log.csv").write_bytes("customer,sku,when\nann,7,1\n".encode("utf-16"))
    fails(tmp_path, r"log\.csv cannot be read: ")


def test_a_line_with_too_few_cells_and_a_header_with_a_name_twice(tmp_path: Path) -> None:
    write_log(tmp_path, "ann,7,1", "bob,8")
    fails(tmp_path, r"log\.csv cannot be read: .*Expected 3 columns, got 2: bob,8")
    write_log(tmp_path, "ann,7,1", header="customer,sku,sku")
    fails(tmp_path, r"log\.csv has more than one column called 'sku'")


def test_a_parquet_file_with_a_name_twice(tmp_path: Path) -> None:
    columns = [pa.array(["ann"]), pa.array(["7"]), pa.array([1]), pa.array([2])]
    pq.write_table(pa.table(columns, names=["customer", "sku", "when", "when"]), tmp_path / "log.parquet")
    fails(tmp_path, r"log\.parquet has more than one column called 'when'\n  → rename", source("log.parquet"))


def test_a_name_of_ours_that_is_misspelt(tmp_path: Path) -> None:
    write_log(tmp_path, "ann,7,1")
    which = source(columns=COLUMNS | {"valeu": "when"})
    fails(tmp_path, r"source\.interactions maps a column called 'valeu', which is almost 'value'\n  → did you", which)


@pytest.mark.parametrize(
    ("unit", "period"),
    [
        ("s", "2024-05-01 12:00:00 to 2024-05-02 12:00:00 UTC"),
        ("ms", "1970-01-20 20:16:04 to 1970-01-20 20:17:31 UTC"),
    ],
)
def test_check_says_from_when_to_when_so_that_a_wrong_unit_is_seen(tmp_path: Path, unit: str, period: str) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    write_log(shop, "ann,1,1714651200", "bob,2,1714564800", "bob,3,")
    which = source(timestamp_unit=unit).model_copy(update={"folder": Path("shop")})
    assert check(which, tmp_path) == (f"times of the first 3 interactions: {period}",)


def test_check_sees_columns_and_first_rows_and_takes_nothing_in(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    write_log(shop, "ann,7,noon")
    faulty = source().model_copy(update={"folder": Path("shop")})
    with pytest.raises(SourceError, match="row 1: 'noon'"):
        check(faulty, tmp_path)
    write_log(shop, "ann,7,1")
    check(faulty, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


def test_a_pattern_that_is_none(tmp_path: Path) -> None:
    fails(tmp_path, r"log\*\*\.csv is no pattern of file names: .*\n  → correct the path", source("log**.csv"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"columns": {"user_id": "a", "timestamp": "c"}},
            "interactions.columns does not say which column is item_id",
        ),
        (
            {"constants": {}},
            r"interactions does not say what happened: map `event`.*constants: \{event: purchase\}",
        ),
        ({"constants": {"event": "buy", "user_id": "x"}}, "user_id is both in columns and in constants"),
        ({"constants": {"event": "buy", "value": "one"}}, "constants.value is to be a number, not 'one'"),
        (
            {"items": {"path": "i.csv", "columns": {"title": "t"}}},
            "items.columns does not say which column is item_id",
        ),
        ({"timestamp_unit": "minutes"}, "timestamp_unit: .*'minutes'"),
        ({"intractions": {}}, "intractions: unknown key; did you mean `interactions`"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused_with_the_params(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        source(**changes)
