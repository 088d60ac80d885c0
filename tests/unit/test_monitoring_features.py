"""What is compared. Numbers small enough to check by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from monitoring import reference as module
from monitoring.features import arrivals, event_features, list_features, sampled
from monitoring.known import Known, Vocabulary
from monitoring.live import LiveModel
from monitoring.reference import reference
from monitoring.window import HOUR, RECEIVED
from recloop.data.schema import INTERACTIONS, ITEMS
from recloop.errors import StageError

# Ten events before: six on a, three on b, one on c. The shares of more popular items, to the middle of the
# item's own: a 3/10, b 7.5/10, c 9.5/10: deciles 4, 8 and 10.
BEFORE = [("u1", "a")] * 6 + [("u2", "b")] * 3 + [("u2", "c")]
KNOWS_ALL = LiveModel(version=1, since=0, newest=None, feedback_watermark=0)


@pytest.fixture(autouse=True)
def backend() -> Iterator[Any]:
    """A DuckDB of its own, closed after the test; tables made here are in it too."""
    import ibis

    opened = ibis.duckdb.connect()
    ibis.set_backend(opened)
    yield opened
    ibis.options.default_backend = None
    opened.disconnect()


def events(*rows: tuple[Any, ...], since: int = 0) -> pa.Table:
    """(user, item[, value[, event]]) each, one a second."""
    full = [(*row, *("rating",) * (4 - len(row))) if len(row) > 2 else (*row, 3.0, "rating") for row in rows]
    return pa.table(
        {
            "user_id": [row[0] for row in full],
            "item_id": [row[1] for row in full],
            "event": [row[3] for row in full],
            "value": pa.array([row[2] for row in full], pa.float32()),
            "timestamp": pa.array([1_000_000 * (since + n) for n in range(len(full))]).cast(
                INTERACTIONS.field("timestamp").type
            ),
        },
        schema=INTERACTIONS,
    )


def items(**categories: list[str] | None) -> pa.Table:
    return pa.table(
        {
            "item_id": list(categories),
            "title": pa.nulls(len(categories), pa.string()),
            "categories": pa.array(list(categories.values()), pa.list_(pa.string())),
        },
        schema=ITEMS,
    )


CATALOGUE = items(a=["Drama", "Comedy"], b=["Action"], c=None, d=["Drama"])


def features(current: pa.Table, before: pa.Table, catalogue: pa.Table = CATALOGUE) -> dict[str, list[Any]]:
    import ibis

    learnt = ibis.memtable(before)
    found = event_features(
        ibis.memtable(current), Known.before(learnt), Vocabulary.of(learnt, ibis.memtable(catalogue))
    )
    return found.order_by("timestamp").to_pyarrow().to_pydict()


def test_popularity_is_by_what_was_known_and_unknown_items_are_the_least_popular() -> None:
    found = features(events(("u", "a"), ("u", "b"), ("u", "c"), ("u", "d")), events(*BEFORE))

    assert found["item_popularity"] == ["decile 04", "decile 08", "decile 10", "decile 10"]
    assert found["unknown_items"] == ["known", "known", "known", "unknown"]


def test_activity_counts_what_the_user_did_before_and_within_the_stretch() -> None:
    current = [("new", "a"), ("new", "b"), ("u1", "a")]

    found = features(events(*current), events(*BEFORE))["user_activity"]

    assert found == ["none before", "came before", "came before"]


def test_events_after_the_data_but_before_the_window_count_as_activity() -> None:
    import ibis

    known = Known.before(ibis.memtable(events(*BEFORE)))
    more = known.with_earlier(ibis.memtable(pa.table({"user_id": ["u1", "x"], "earlier": [44, 1]})))

    assert dict(more.users.to_pyarrow().select(["user_id", "earlier"]).to_pandas().to_numpy().tolist()) == {
        "u1": 50,
        "u2": 4,
        "x": 1,
    }


def test_an_items_first_category_counts_and_what_has_none_says_so() -> None:
    found = features(events(("u", "a"), ("u", "b"), ("u", "c"), ("u", "nowhere")), events(*BEFORE))

    assert found["category"] == ["Drama", "Action", "none", "none"]


def test_rare_categories_are_taken_together() -> None:
    # Twenty categories with two events each, and one with one.
    names = [f"i{n:02}" for n in range(21)]
    before = [("u", name) for name in names] + [("u", name) for name in names[:20]]

    found = features(
        events(("u", "i00"), ("u", "i20")), events(*before), items(**{name: [f"of {name}"] for name in names})
    )

    assert found["category"] == ["of i00", "other"]


def test_without_an_items_table_every_category_is_none() -> None:
    assert features(events(("u", "a")), events(*BEFORE), items())["category"] == ["none"]


def test_few_values_are_compared_one_by_one() -> None:
    found = features(events(("u", "a", 4.0), ("u", "a", 99.0)), events(("u", "a", 4.0), ("u", "a", 0.1)))

    assert found["value"] == ["4.0", "never seen before"]


def test_many_values_are_compared_by_their_deciles() -> None:
    before = events(*[("u", "a", float(value)) for value in range(101)])  # deciles at 10, 20, …, 90

    found = features(events(("u", "a", 9.5), ("u", "a", 10.0), ("u", "a", 55.0), ("u", "a", 1e6)), before)

    assert found["value"] == ["under 10", "10 to 20", "50 to 60", "from 90"]


def test_a_lists_popularity_is_the_mean_of_its_items_and_unknown_ones_are_the_least_popular() -> None:
    import ibis

    lists = pa.table(
        {
            "seq": [1, 2, 3],
            "user_id": pa.array(["u", None, None], pa.string()),
            "served_at": pa.array([1, 2, 3]).cast(INTERACTIONS.field("timestamp").type),
            "strategy": ["model", "popular", "popular"],
            "items": pa.array([["a", "b"], ["d"], ["d"]], pa.list_(pa.string())),
            "top_score": pa.array([0.5, None, 9.0], pa.float64()),
        }
    )

    found = list_features(ibis.memtable(lists), Known.before(ibis.memtable(events(*BEFORE))), [0.25, 1.0])

    rows = found.order_by("timestamp").to_pyarrow().to_pydict()
    assert rows["list_popularity"] == ["decile 06", "decile 10", "decile 10"]  # (0.3 + 0.75) / 2
    assert rows["strategy"] == ["model", "popular", "popular"]
    assert rows["top_score"] == ["0.25 to 1", None, "from 1"]
    assert len(set(rows["user_id"])) == 3, "nobody named is somebody else each time"


def test_a_sample_is_every_nth_session_in_order_of_time_whole_and_the_same_each_time() -> None:
    import ibis

    rows = events(*[(f"u{n // 2}", f"i{n}") for n in range(10)])
    rows = ibis.memtable(
        rows.append_column("session", pa.array([n // 2 for n in range(10)])).take([7, 3, 9, 0, 1, 8, 2, 6, 4, 5])
    )

    def taken(limit: int) -> list[str]:
        found: list[str] = sampled(rows, limit).order_by("timestamp").to_pyarrow()["item_id"].to_pylist()
        return found

    assert taken(4) == taken(4) == ["i0", "i1", "i6", "i7"]
    assert len(taken(10)) == 10


def test_a_pause_of_half_an_hour_ends_a_session() -> None:
    at = [0, 1800, 3601, 3602]  # seconds
    log = events(*[("u", "a")] * 4, ("v", "b"))
    times = pa.array([1_000_000 * second for second in [*at, 10]]).cast(log["timestamp"].type)
    found = features(log.set_column(4, "timestamp", times), events(*BEFORE))
    by_user = {user: [s for s, u in zip(found["session"], found["user_id"], strict=True) if u == user] for user in "uv"}
    assert [by_user["u"].index(session) for session in by_user["u"]] == [0, 0, 2, 2]
    assert found["session_length"] == ["1 to 2"] * 5
    assert found["repeats"].count("again in the session") == 2


def test_of_a_long_session_a_few_events_are_looked_at_evenly_spread() -> None:
    before = events(*BEFORE)
    for length in (9, 10, 11, 37, 400):
        rows = features(events(*[("u", f"i{n}") for n in range(length)]), before)
        places = [int(name[1:]) for name in rows["item_id"]]
        assert len(places) == min(length, 10)
        assert places[0] == 0
        assert max(np.diff(places), default=1) - min(np.diff(places), default=1) <= 1


def write_gated(folder: Path, log: pa.Table, seqs: list[int | None] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    column = pa.array(seqs if seqs is not None else [None] * log.num_rows, pa.int64())
    pq.write_table(log.append_column("feedback_seq", column), folder / "interactions.parquet")
    pq.write_table(CATALOGUE, folder / "items.parquet")
    return folder


def test_the_reference_is_the_last_stretch_described_by_what_came_before_it(tmp_path: Path, backend: Any) -> None:
    gated = write_gated(tmp_path, events(*BEFORE, ("u1", "a"), ("u9", "d")))

    found = reference(backend, gated, KNOWS_ALL, 0.15, 0)  # of 12 events the last two

    assert found.events == 2
    rows = found.features.order_by("timestamp").to_pyarrow().to_pydict()
    assert rows["item_popularity"] == ["decile 04", "decile 10"]
    assert rows["unknown_items"] == ["known", "unknown"]
    assert rows["user_activity"] == ["came before", "none before"]


def test_the_same_events_have_the_same_features_as_reference_and_as_traffic(
    tmp_path: Path, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ibis

    monkeypatch.setattr(module, "PIECES", 1)
    later = events(("u1", "a"), ("u9", "d", 5.0), ("u9", "b"), since=10)
    whole = pa.concat_tables([events(*BEFORE), later])
    as_reference = reference(backend, write_gated(tmp_path / "whole", whole), KNOWS_ALL, 0.2, 0)
    knowing = reference(backend, write_gated(tmp_path / "before", events(*BEFORE)), KNOWS_ALL, 0.2, 0)

    as_traffic = event_features(ibis.memtable(later), knowing.known, as_reference.vocabulary)

    assert (
        as_reference.features.order_by("timestamp").to_pyarrow().equals(as_traffic.order_by("timestamp").to_pyarrow())
    )


def test_only_what_the_live_model_knows_is_in_the_reference(tmp_path: Path, backend: Any) -> None:
    seqs = [None] * 8 + [5, 6]
    gated = write_gated(tmp_path, events(*BEFORE), seqs)
    live = LiveModel(version=1, since=0, newest=6_000_000, feedback_watermark=5)

    known = reference(backend, gated, live, 0.3, 0).known

    # Of seconds 0 to 9: those up to 6. Row 8 (seq 5) is too new, row 9 (seq 6) unknown twice over.
    assert dict(known.users.to_pyarrow().to_pandas()[["user_id", "earlier"]].to_numpy().tolist()) == {
        "u1": 6,
        "u2": 1,
    }
    live = LiveModel(version=1, since=0, newest=None, feedback_watermark=5)
    known = reference(backend, gated, live, 0.3, 0).known
    assert dict(known.users.to_pyarrow().to_pandas()[["user_id", "earlier"]].to_numpy().tolist()) == {
        "u1": 6,
        "u2": 3,
    }


def test_a_missing_table_is_named_with_what_brings_it_back(tmp_path: Path, backend: Any) -> None:
    with pytest.raises(StageError, match=r"interactions\.parquet is missing\n.*`dvc pull`"):
        reference(backend, tmp_path, KNOWS_ALL, 0.2, 0)


def test_a_truncated_table_is_named(tmp_path: Path, backend: Any) -> None:
    path = write_gated(tmp_path, events(*BEFORE)) / "interactions.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StageError, match=r"interactions\.parquet is damaged"):
        reference(backend, tmp_path, KNOWS_ALL, 0.2, 0)


def test_a_table_that_lacks_a_column_is_named(tmp_path: Path, backend: Any) -> None:
    write_gated(tmp_path, events(*BEFORE))
    pq.write_table(events(*BEFORE), tmp_path / "interactions.parquet")
    with pytest.raises(StageError, match=r"interactions\.parquet has no column feedback_seq"):
        reference(backend, tmp_path, KNOWS_ALL, 0.2, 0)


def test_data_that_the_model_does_not_know_is_no_reference(tmp_path: Path, backend: Any) -> None:
    gated = write_gated(tmp_path, events(*BEFORE), list(range(1, 11)))
    with pytest.raises(StageError, match="no event that model version 1 knows"):
        reference(backend, gated, KNOWS_ALL, 0.2, 0)


def test_events_without_an_order_in_time_are_no_reference(tmp_path: Path, backend: Any) -> None:
    log = events(*BEFORE)
    one_time = pa.array([0] * 10).cast(INTERACTIONS.field("timestamp").type)
    gated = write_gated(tmp_path, log.set_column(4, INTERACTIONS.field("timestamp"), one_time))
    with pytest.raises(StageError, match="one and the same time"):
        reference(backend, gated, KNOWS_ALL, 0.2, 0)


def test_how_late_an_event_came_in_is_told_of_every_one_in_the_hour_of_its_receipt() -> None:
    minute, day = 60_000_000, 24 * HOUR
    rows = [
        ("u", 10 * HOUR, 0),
        ("u", 10 * HOUR + 1, minute - 1),
        ("u", 11 * HOUR - 1, minute),
        ("u", 11 * HOUR, HOUR),
        ("v", 30 * HOUR, day - 1),
        ("v", 30 * HOUR, day),
        ("v", 30 * HOUR, -HOUR),  # by a clock that is ahead
    ]
    found = arrived(rows)

    hours = [int(at.timestamp()) // 3600 for at in found["session"]]
    assert sorted(zip(found["user_id"], hours, found["lateness"], strict=True)) == [
        ("u", 10, "within a minute"),
        ("u", 10, "within a minute"),
        ("u", 10, "within an hour"),
        ("u", 11, "within a day"),
        ("v", 30, "later"),
        ("v", 30, "within a day"),
        ("v", 30, "within a minute"),
    ]
    assert (found["timestamp"] == found["session"]).all()


def test_the_share_of_late_events_is_that_of_events_and_of_a_busy_user_ten_an_hour_are_looked_at() -> None:
    late = [(user, (number + user) % 100 == 0) for user in range(100) for number in range(100)]
    rows = [(f"u{user}", user, 2 * HOUR if one_is else 0) for user, one_is in late]
    found = arrived(rows)

    assert len(found) == 100 * 10
    assert (found["lateness"] == "within a day").mean() == pytest.approx(0.01, abs=0.005)


def arrived(rows: Sequence[tuple[str, int, int]]) -> pd.DataFrame:
    """user_id, received_at, how late."""
    users, came, late = zip(*rows, strict=True)
    sent = pa.array(np.subtract(came, late)).cast(pa.timestamp("us", tz="UTC"))
    log = pa.table({"seq": range(len(rows)), "user_id": users, "timestamp": sent, "received_at": came})
    return arrivals(log).to_pandas()


def test_no_events_are_no_arrivals() -> None:
    assert arrivals(RECEIVED.empty_table()).to_pandas().empty
