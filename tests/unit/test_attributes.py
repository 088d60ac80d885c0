"""What is known of items: which fit a filter, what is shown of them, and how alike they are."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recloop.errors import RequestError, ServingError
from recloop.serving.attributes import AT_ONCE, KEPT_MASKS, Attributes, content_vectors

ITEMS = pa.table(
    {
        "item_id": ["a", "b", "c", "d", "e"],
        "title": ["The Night Train", "Night & day", None, "", "Étoile"],
        "categories": [["Drama", "Crime"], ["Comedy"], [], None, ["Drama", None]],
        "brand": ["Acme", "Bolt", "Acme", None, "acme"],
        "price": pa.array([5.0, 10.0, 20.0, None, 7.5], pa.float32()),
        "stock": pa.array([3, 0, None, 7, 2**60 + 1], pa.int64()),
        "in_stock": [True, False, None, True, True],
        "released": pa.array(
            [datetime(2020, 1, 1), datetime(2021, 6, 30, 12), None, datetime(1969, 7, 20), datetime(2024, 1, 1)],
            pa.timestamp("ms", "UTC"),
        ),
        "day": [date(2020, 1, 1), date(2021, 1, 1), None, date(2022, 1, 1), date(2023, 1, 1)],
        "sizes": [[36, 38], [38], [], None, [40]],
        "tax": [Decimal("0.10"), Decimal("0.20"), None, Decimal("0.00"), Decimal("0.10")],
        "emb_text": [[1.0, 0.0], [0.0, 1.0], None, [1.0, 0.0], [-1.0, 0.0]],
        "maker": pa.array([{"name": "x"}] * 5),
    }
)


@pytest.fixture
def attributes() -> Attributes:
    return Attributes(ITEMS)


def fitting(attributes: Attributes, filters: dict[str, Any]) -> str:
    return "".join(np.array(list("abcde"))[attributes.mask(filters)])


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, "abcde"),
        ({"brand": "Acme"}, "ac"),
        ({"brand": ["Acme", "acme"]}, "ace"),
        ({"brand": []}, ""),
        ({"brand": "unheard of"}, ""),
        ({"price": 10}, "b"),
        ({"price": [5, 7.5, 9]}, "ae"),
        ({"price": {"min": 7.5}}, "bce"),
        ({"price": {"max": 10, "min": None}}, "abe"),
        ({"price": {"min": 7.5, "max": 10}}, "be"),
        ({"price": {"min": 10**400}}, ""),
        ({"price": {"min": 8, "max": 7}}, ""),
        ({"stock": 0}, "b"),
        ({"stock": -0.0}, "b"),
        ({"stock": 0.5}, ""),
        ({"stock": {"min": 0.5, "max": 6.5}}, "a"),
        ({"stock": 2**60}, ""),
        ({"stock": [2**60 + 1, 3.0]}, "ae"),
        ({"stock": {"max": 10**400}}, "abde"),
        ({"stock": {"min": -1e300}}, "abde"),
        ({"stock": {"min": -(10**400), "max": 6}}, "ab"),
        ({"stock": {"max": -1e300}}, ""),
        ({"stock": {"min": 1e300}}, ""),
        ({"released": {"min": -1e300}}, "abde"),
        ({"day": {"min": -1e300, "max": "2021-01-01"}}, "ab"),
        ({"day": {"max": -1e300}}, ""),
        ({"stock": [10**400, 7]}, "d"),
        ({"in_stock": True}, "ade"),
        ({"in_stock": [True, False]}, "abde"),
        ({"categories": "Drama"}, "ae"),
        ({"categories": ["Crime", "Comedy"]}, "ab"),
        ({"sizes": 38}, "ab"),
        ({"sizes": {"min": 37, "max": 39}}, "ab"),
        ({"sizes": {"min": 39}}, "e"),
        ({"released": {"min": "2021-06-30T14:00:00+02:00"}}, "be"),
        ({"released": {"max": "2020-01-01"}}, "ad"),
        ({"released": "2024-01-01T00:00:00Z"}, "e"),
        ({"released": {"max": -1}}, "d"),
        ({"released": 1_577_836_800}, "a"),
        ({"day": {"min": "2021-01-01", "max": "2022-12-31"}}, "bd"),
        ({"tax": 0.1}, "ae"),
        ({"title": "Étoile"}, "e"),
        ({"brand": "Acme", "in_stock": True}, "a"),
        ({"brand": "Acme", "price": {"min": 6}, "categories": "Drama"}, ""),
    ],
)
def test_items_that_are_all_a_filter_says_fit(attributes: Attributes, filters: dict[str, Any], expected: str) -> None:
    assert fitting(attributes, filters) == expected


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"brnad": "Acme"}, r"no attribute 'brnad'; did you mean `brand`\?"),
        ({"colour": "red"}, r"no attribute 'colour'\n.*they have: item_id, title, categories, brand, price"),
        ({"brand": 3}, "brand takes a string, not 3"),
        ({"brand": ["Acme", None]}, "brand takes a string, not None"),
        ({"price": "cheap"}, "price takes a number, not 'cheap'"),
        ({"price": True}, "price takes a number, not True"),
        ({"in_stock": 1}, "in_stock takes true or false, not 1"),
        ({"released": "soon"}, "released takes a time .*, not 'soon'"),
        ({"released": False}, "released takes a time .*, not False"),
        ({"categories": {"min": "A"}}, "categories takes a string, not a range"),
        ({"in_stock": {"max": True}}, "in_stock takes true or false, not a range"),
        ({"price": {}}, r"the range of price is \{\}\n.*min, max or both"),
        ({"price": {"min": 1, "most": 2}}, "the range of price is"),
        ({"price": {"min": [1]}}, r"price takes a number, not \[1\]"),
        ({"maker": "x"}, "maker holds struct<name: string>, and nothing can be compared"),
        ({"brand": 7 * 10**80}, "brand takes a string, not 7000000.*…"),
    ],
)
def test_what_an_attribute_cannot_be_is_refused_by_name(
    attributes: Attributes, filters: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        attributes.mask(filters)
    assert caught.value.remedy


VALUES = st.one_of(st.none(), st.integers(-3, 3))
TABLES = st.lists(
    st.tuples(VALUES, st.one_of(st.none(), st.lists(VALUES, max_size=3)), st.sampled_from(["x", "y", None])), max_size=6
)
NUMBERS = st.one_of(
    st.integers(-4, 4),
    st.sampled_from([-0.5, 1.0, 2.5]),
    st.lists(st.integers(-4, 4), max_size=3),
    st.fixed_dictionaries({"min": st.integers(-4, 4)}, optional={"max": st.sampled_from([-1, 0.5, 3])}),
)
FILTERS = st.fixed_dictionaries(
    {}, optional={"one": NUMBERS, "many": NUMBERS, "name": st.lists(st.sampled_from("xyz"), max_size=2)}
)


def naive(value: Any, wanted: Any) -> bool:
    if isinstance(value, list):
        return any(naive(each, wanted) for each in value)
    if value is None:
        return False
    if isinstance(wanted, dict):
        return bool(wanted["min"] <= value <= wanted.get("max", 9))
    return value in wanted if isinstance(wanted, list) else value == wanted


@settings(deadline=None)
@given(TABLES, FILTERS)
def test_masks_are_what_looking_at_each_item_gives(rows: list[tuple[Any, ...]], filters: dict[str, Any]) -> None:
    names = ("one", "many", "name")
    kinds = (pa.int16(), pa.list_(pa.int32()), pa.string())
    columns = [pa.array([row[place] for row in rows], kind) for place, kind in enumerate(kinds)]
    mask = Attributes(pa.table(dict(zip(names, columns, strict=True)))).mask(filters)
    assert mask.tolist() == [
        all(naive(row[names.index(name)], wanted) for name, wanted in filters.items()) for row in rows
    ]


def test_the_same_filter_gives_the_same_array_in_whatever_order_it_is_written(attributes: Attributes) -> None:
    mask = attributes.mask({"brand": ["Acme", "Bolt"], "price": {"max": 10}})
    assert attributes.mask({"price": {"max": 10.0, "min": None}, "brand": ("Bolt", "Acme", "Bolt")}) is mask
    assert attributes.mask({"brand": ["Acme"]}) is attributes.mask({"brand": "Acme"})
    with pytest.raises(ValueError, match="read-only"):
        mask[0] = False


def test_as_many_filters_are_remembered_as_there_is_room_for_those_asked_for_last(attributes: Attributes) -> None:
    kept, dropped = attributes.mask({"price": 0}), attributes.mask({"price": 1})
    for price in range(2, KEPT_MASKS):
        attributes.mask({"price": price})
    assert attributes.mask({"price": 0}) is kept
    attributes.mask({"price": KEPT_MASKS})
    assert attributes.mask({"price": 0}) is kept
    assert attributes.mask({"price": 1}) is not dropped


def test_what_has_no_limit_is_within_every_limit(attributes: Attributes) -> None:
    assert attributes.within("stock", 2).tolist() == [False, True, True, False, False]
    assert attributes.within("stock", 3).tolist() == [True, True, True, False, False]
    assert attributes.within("price", 7.5).tolist() == [True, False, False, True, True]
    for name in ("brand", "sizes"):
        with pytest.raises(RequestError, match=f"{name} is to be one number an item, not"):
            attributes.within(name, 1)


def test_attributes_are_shown_as_they_are(attributes: Attributes) -> None:
    assert attributes.values("categories", [4, 0, 3]) == [["Drama", None], ["Drama", "Crime"], None]
    assert attributes.values("released", np.array([0])) == [datetime(2020, 1, 1, tzinfo=UTC)]
    with pytest.raises(RequestError, match=r"did you mean `title`\?"):
        attributes.values("titel", [0])


def test_labels_are_equal_where_values_are_and_null_has_none(attributes: Attributes) -> None:
    acme, bolt, again, none, other = attributes.labels("brand", [0, 1, 2, 3, 4])
    assert acme == again
    assert len(acme | bolt | other) == 3
    assert none == set()
    drama, comedy, empty = attributes.labels("categories", [4, 1, 2])
    assert len(drama) == len(comedy) == 1
    assert empty == set()
    assert drama < attributes.labels("categories", [0])[0]
    assert attributes.labels("price", []) == []


def test_columns_in_several_pieces_and_of_other_widths_are_read_alike() -> None:
    halves = pa.concat_tables([ITEMS.slice(0, 2), ITEMS.slice(2)])
    wide = halves.set_column(3, "brand", halves["brand"].cast(pa.large_string()).dictionary_encode())
    fixed = pa.array([[1, 2], None, [2, 3], [4, 5], [None, 1]], pa.list_(pa.int8(), 2))
    attributes = Attributes(wide.append_column("pair", fixed))
    assert fitting(attributes, {"brand": "Acme", "sizes": {"min": 1}}) == "a"
    assert fitting(attributes, {"pair": 2}) == "ac"
    assert fitting(attributes, {"pair": 1}) == "ae"


def alike(table: pa.Table) -> np.ndarray:
    vectors = content_vectors(table)
    products: np.ndarray = vectors @ vectors.T
    return products


def test_items_of_the_same_content_point_the_same_way_and_items_without_any_nowhere() -> None:
    table = pa.table({"categories": [["A", "B"], ["B", "A"], ["C"], [], None, [None]]})
    products = alike(table)
    assert products.diagonal() == pytest.approx([1, 1, 1, 0, 0, 0])
    assert products[0, 1] == pytest.approx(1)
    assert abs(products[0, 2]) < 0.4
    assert not content_vectors(table)[3:].any()


def test_titles_are_alike_by_their_words_whatever_their_case_and_punctuation() -> None:
    products = alike(pa.table({"title": ["The night train", "TRAIN: night, the!", "Étoile", "étoile", "…", None]}))
    assert products[0, 1] == pytest.approx(1)
    assert products[2, 3] == pytest.approx(1)
    assert products.diagonal() == pytest.approx([1, 1, 1, 1, 0, 0])


def test_a_rare_category_binds_more_than_a_common_one() -> None:
    """Of 101 items all but one have C and two have R: C weighs log(1 + 101/100) = 0.70, R log(1 + 101/2) = 3.94."""
    products = alike(pa.table({"categories": [["C", "R"], ["R"], *[["C"]] * 99]}))
    assert products[0, 1] == pytest.approx(3.94 / np.hypot(3.94, 0.70), abs=0.02)
    assert products[0, 2] == pytest.approx(0.70 / np.hypot(3.94, 0.70), abs=0.02)


def test_each_kind_of_content_counts_alike() -> None:
    """Same category, nothing else in common but the vectors' angle of 60°: (1 + 0 + 1/2) / 3."""
    table = pa.table(
        {"categories": [["A"], ["A"]], "title": ["one", "two"], "emb_x": [[1.0, 0.0, 0.0], [0.5, 0.75**0.5, 0.0]]}
    )
    assert alike(table)[0, 1] == pytest.approx(0.5, abs=0.15)


def test_angles_between_vectors_are_about_kept() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 300))
    vectors[1] = 2 * vectors[0]
    vectors[2] = -vectors[0]
    products = alike(pa.table({"emb_x": list(vectors)}))
    assert products[0, 1:3] == pytest.approx([1, -1])
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.abs(products - units @ units.T).std() < 1.2 / 128**0.5


def test_vectors_that_are_missing_or_no_numbers_are_no_content() -> None:
    nan = float("nan")
    vectors = content_vectors(pa.table({"emb_x": [[1.0, 2.0], None, [nan, 1.0], [0.0, 0.0]], "emb_none": [None] * 4}))
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 0, 0, 0])


def test_vectors_of_different_lengths_are_refused() -> None:
    with pytest.raises(ServingError, match="items' emb_x are of 1 and of 3 numbers"):
        content_vectors(pa.table({"emb_x": [[1.0, 2.0, 3.0], [1.0]]}))


def test_items_without_any_content_have_vectors_of_zeros() -> None:
    assert not content_vectors(pa.table({"item_id": ["a", "b"], "price": [1.0, 2.0]})).any()
    assert content_vectors(ITEMS.slice(0, 0)).shape == (0, 128)


def test_many_items_are_projected_block_by_block_like_few() -> None:
    """Three items again and again: their words are as rare as before, and so their vectors are the same."""
    few = ITEMS.slice(0, 3)
    times = AT_ONCE // 3 + 10
    many = content_vectors(pa.concat_tables([few] * times))
    assert np.abs(many.reshape(times, 3, -1) - content_vectors(few)).max() < 1e-6


def test_another_process_makes_the_same_vectors() -> None:
    script = (
        "import hashlib; from tests.unit.test_attributes import *; "
        "print(hashlib.sha256(content_vectors(ITEMS).tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == hashlib.sha256(content_vectors(ITEMS).tobytes()).hexdigest()
