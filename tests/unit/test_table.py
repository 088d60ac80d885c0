"""The user's own CSV and Parquet files become the canonical tables, value by value."""

from __future__ import annotations

import gzip
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recloop.config import Table, validated
from recloop.data.sources import canonical, ingest, parts
from recloop.files import sha256

COLUMNS = {"user_id": "customer", "item_id": "sku", "timestamp": "when"}
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def table_source(path: str = "log.csv", **changes: Any) -> Table:
    """A source whose interactions are in `path`; `changes` go over it, dotted keys into `interactions`."""
    content: dict[str, Any] = {
        "kind": "table",
        "folder": ".",
        "interactions": {"path": path, "columns": COLUMNS, "constants": {"event": "purchase"}},
    }
    for key, value in changes.items():
        place = content["interactions"] if key in ("columns", "constants") else content
        place[key] = value
    return validated(Table, content, where="params.yaml")


def rows(folder: Path, source: Table, name: str = "interactions") -> list[tuple[Any, ...]]:
    ingest(source, folder / "raw", base=folder)
    return [tuple(row.values()) for row in pq.read_table(folder / "raw" / f"{name}.parquet").to_pylist()]


def write_csv(path: Path, *lines: str) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_csv_is_read_by_its_mapping(tmp_path: Path) -> None:
    write_csv(tmp_path / "log.csv", "when,sku,note,customer", "1714564800,a-1,x,007", "1714564801.5,b,y,8")
    assert rows(tmp_path, table_source()) == [
        ("007", "a-1", "purchase", 1.0, NOON),
        ("8", "b", "purchase", 1.0, NOON.replace(second=1, microsecond=500_000)),
    ]


@pytest.mark.parametrize("name", ["log.csv.gz", "log.tsv", "log.tsv.gz"])
def test_other_kinds_of_text_files_say_the_same(tmp_path: Path, name: str) -> None:
    text = "customer,sku,when\nann,7,1714564800\n"
    content = text.replace(",", "\t" if "tsv" in name else ",").encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert rows(tmp_path, table_source(name)) == [("ann", "7", "purchase", 1.0, NOON)]


def test_csv_and_parquet_with_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    log = pa.table({"customer": [1, 20, 3], "sku": ["a", "b", "a"], "when": [5, 6, 7]})
    pq.write_table(log, tmp_path / "log.parquet")
    write_csv(tmp_path / "log.csv", "sku,customer,when", "a,1,5", "b,20,6", "a,3,7")
    digests = set()
    for name in ("log.csv", "log.parquet"):
        rows(tmp_path, table_source(name))
        digests.add(sha256(tmp_path / "raw"))
    assert len(digests) == 1


def test_a_folder_or_a_pattern_is_read_part_by_part_in_the_order_of_names(tmp_path: Path) -> None:
    for number in (2, 1, 10):
        (tmp_path / "parts").mkdir(exist_ok=True)
        part = pa.table({"customer": [f"u{number}"], "sku": ["a"], "when": [number]})
        pq.write_table(part, tmp_path / "parts" / f"part-{number:02}.parquet")
    (tmp_path / "parts" / "_SUCCESS").touch()
    expected = ["u1", "u2", "u10"]
    assert [row[0] for row in rows(tmp_path, table_source("parts"))] == expected
    assert [row[0] for row in rows(tmp_path, table_source("parts/part-*.parquet"))] == expected


@pytest.mark.parametrize(
    ("unit", "written", "read"),
    [
        ("s", "1714564800", NOON),
        ("ms", "1714564800123", NOON.replace(microsecond=123_000)),
        ("us", "1714564800123456", NOON.replace(microsecond=123_456)),
        ("iso", "2024-05-01T12:00:00Z", NOON),
        ("iso", "2024-05-01 14:00:00+02:00", NOON),
        ("iso", "2024-05-01 12:00", NOON),
        ("iso", "2024-05-01T12:00:00.123456789", NOON.replace(microsecond=123_456)),
        ("iso", "2024-05-01", NOON.replace(hour=0)),
    ],
)
def test_times_are_read_in_the_unit_that_the_params_name(
    tmp_path: Path, unit: str, written: str, read: datetime
) -> None:
    write_csv(tmp_path / "log.csv", "customer,sku,when", f"ann,7,{written}")
    assert rows(tmp_path, table_source(timestamp_unit=unit))[0][-1] == read


@pytest.mark.parametrize(
    "times",
    [
        pa.array([1_714_564_800_000_000_001], pa.timestamp("ns")),
        pa.array([NOON], pa.timestamp("ms", "Europe/Berlin")),
        pa.array([1_714_564_800.0]),
        pa.array([1_714_564_800], pa.uint32()),
    ],
    ids=["naive ns", "zoned ms", "float", "uint32"],
)
def test_parquet_times_may_have_any_type(tmp_path: Path, times: pa.Array) -> None:
    pq.write_table(pa.table({"customer": ["ann"], "sku": ["7"], "when": times}), tmp_path / "log.parquet")
    assert rows(tmp_path, table_source("log.parquet"))[0][-1] == NOON


@pytest.mark.parametrize(
    ("ids", "read"),
    [
        (pa.array([12.0, None]), ["12", None]),
        (pa.array(["a", "a"]).dictionary_encode(), ["a", "a"]),
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        (pa.array([5, -1], pa.int16()), ["5", "-1"]),
    ],
)
def test_parquet_ids_may_have_any_type_that_reads_as_text(tmp_path: Path, ids: pa.Array, read: list[str]) -> None:
    pq.write_table(pa.table({"customer": ids, "sku": ids, "when": [1, 2]}), tmp_path / "log.parquet")
    found = rows(tmp_path, table_source("log.parquet"))
    assert [row[0] for row in found] == [row[1] for row in found] == read


def test_a_date_is_its_midnight_and_a_decimal_is_a_number(tmp_path: Path) -> None:
    log = pa.table({"customer": ["a"], "sku": ["b"], "when": [date(2024, 5, 1)], "price": [Decimal("9.50")]})
    pq.write_table(log, tmp_path / "log.parquet")
    source = table_source("log.parquet", columns={**COLUMNS, "value": "price"})
    assert rows(tmp_path, source) == [("a", "b", "purchase", 9.5, NOON.replace(hour=0))]


def test_missing_ids_times_and_values_are_kept_for_the_gate_to_judge(tmp_path: Path) -> None:
    write_csv(tmp_path / "log.csv", "customer,sku,when,stars", ",7,1714564800,4", "ann,,,", 'bob,"",1714564800,5')
    source = table_source(columns={**COLUMNS, "value": "stars"})
    assert rows(tmp_path, source) == [
        (None, "7", "purchase", 4.0, NOON),
        ("ann", None, "purchase", 1.0, None),
        ("bob", None, "purchase", 5.0, NOON),
    ]


def test_an_event_without_a_value_counts_one_but_a_rating_without_one_is_the_gates_to_judge(tmp_path: Path) -> None:
    write_csv(
        tmp_path / "log.csv", "customer,sku,when,what,amount", "ann,7,1714564800,view,", "ann,7,1714564800,rating,"
    )
    source = table_source(columns={**COLUMNS, "event": "what", "value": "amount"}, constants={})
    assert [row[2:4] for row in rows(tmp_path, source)] == [("view", 1.0), ("rating", None)]


def test_until_takes_what_was_strictly_before_and_rows_without_a_time(tmp_path: Path) -> None:
    write_csv(tmp_path / "log.csv", "customer,sku,when", "ann,7,1714564799", "ann,8,1714564800", "ann,9,")
    found = rows(tmp_path, table_source(until="2024-05-01 12:00:00"))
    assert [row[1] for row in found] == ["7", "9"]


def test_events_and_context_columns_are_carried_through(tmp_path: Path) -> None:
    write_csv(tmp_path / "log.csv", "customer,sku,when,what,page", "ann,7,1714564800,click,12")
    source = table_source(columns={**COLUMNS, "event": "what", "page": "page"}, constants={"shop": "berlin"})
    assert rows(tmp_path, source) == [("ann", "7", "click", 1.0, NOON, "12", "berlin")]


def test_items_and_users_have_lists_numbers_and_text(tmp_path: Path) -> None:
    write_csv(tmp_path / "log.csv", "customer,sku,when", "ann,7,1714564800")
    write_csv(
        tmp_path / "items.csv",
        "sku,name,groups,price,stock,ean",
        '7,"Tea, green",food|drink,2.50,12,0012',
        "8,Mug,,4,,4711",
    )
    write_csv(tmp_path / "users.csv", "id,born,zip", "ann,1980,01234", "bob,,10115")
    source = table_source(
        items={
            "path": "items.csv",
            "columns": {name: name for name in ("price", "stock", "ean")}
            | {"item_id": "sku", "title": "name", "categories": "groups"},
        },
        users={"path": "users.csv", "columns": {"user_id": "id", "born": "born", "zip": "zip"}},
    )
    assert rows(tmp_path, source, "items") == [
        ("7", "Tea, green", ["food", "drink"], 2.5, 12, "0012"),
        ("8", "Mug", None, 4.0, None, "4711"),
    ]
    assert rows(tmp_path, source, "users") == [("ann", 1980, "01234"), ("bob", None, "10115")]


def test_a_parquet_table_of_items_keeps_its_types(tmp_path: Path) -> None:
    write_csv(tmp_path / "log.csv", "customer,sku,when", "ann,7,1714564800")
    embedding = pa.array([[0.5, 1.0]], pa.list_(pa.float32(), 2))
    items = pa.table({"sku": [7], "tags": [["a", "b"]], "emb_text": embedding, "ean": ["4711"]})
    pq.write_table(items, tmp_path / "items.parquet")
    columns = {"item_id": "sku", "categories": "tags", "emb_text": "emb_text", "ean": "ean"}
    source = table_source(items={"path": "items.parquet", "columns": columns})
    assert rows(tmp_path, source, "items") == [("7", None, ["a", "b"], [0.5, 1.0], "4711")]
    schema = pq.read_schema(tmp_path / "raw" / "items.parquet")
    assert schema.field("emb_text").type == pa.list_(pa.float32(), 2)


def test_how_rows_are_batched_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(tmp_path / "log.csv", "customer,sku,when", *(f"u{n % 7},{n},{1714564800 + n}" for n in range(500)))
    rows(tmp_path, table_source())
    at_once = sha256(tmp_path / "raw")
    monkeypatch.setattr(parts, "CSV_BLOCK_BYTES", 200)
    assert len(list(parts.open_parts(tmp_path / "log.csv")[0].batches(["sku"]))) > 10
    rows(tmp_path, table_source())
    assert sha256(tmp_path / "raw") == at_once


def test_a_file_larger_than_a_row_group_keeps_every_row_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(tmp_path / "log.csv", "customer,sku,when", *(f"ann,{n},1714564800" for n in range(250)))
    monkeypatch.setattr(canonical, "ROWS_IN_MEMORY", 100)
    monkeypatch.setattr(parts, "CSV_BLOCK_BYTES", 777)
    assert [row[1] for row in rows(tmp_path, table_source())] == [str(n) for n in range(250)]
    groups = pq.ParquetFile(tmp_path / "raw" / "interactions.parquet").metadata
    assert [groups.row_group(index).num_rows for index in range(groups.num_row_groups)] == [100, 100, 50]
