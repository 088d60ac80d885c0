"""From candidates to a list: no rule is broken, nothing changes that was not asked for, and chance is owned up to."""

from __future__ import annotations

import datetime
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recloop.config import Rerank, Serving, validated
from recloop.errors import ConfigError, ServingError
from recloop.serving.attributes import Attributes
from recloop.serving.rerank import Reranked, allowed_items, check_rules, rerank

BRANDS = ["A", "A", "B", "A", None, "B", "C", None]
CATEGORIES = [["x"], ["x", "y"], ["y"], ["z"], [], ["x", "x"], ["z"], None]
AGES = [0, 18, 6, None, 0, 12, 16, 0]
STOCK = [True, True, False, True, None, True, True, True]
ATTRIBUTES = Attributes(
    pa.table({"item_id": list("abcdefgh"), "brand": BRANDS, "categories": CATEGORIES, "age": AGES, "stock": STOCK})
)
POOL = np.array([3, 0, 1, 5, 7, 2, 6, 4])
SCORES = np.array([9.0, 8.0, 7.5, 7.0, 5.0, 4.0, 2.0, 1.0], np.float32)
SIDES = np.array([[1, 0], [1, 0], [0, 1], [1, 0], [0, 1], [1, 0], [0, 0], [0, 1]], np.float32)
"""Vectors of the eight items: alike are 0, 1, 3 and 5, and 2, 4 and 7; 6 is like nothing."""


def no_likeness(_: np.ndarray) -> None:
    """Nothing tells how alike items are."""


def listed(
    k: int = 4, *, age: int | None = None, seed: int = 0, vectors: np.ndarray | None = SIDES, **rules: Any
) -> Reranked:
    rng = np.random.default_rng(seed)
    likeness = no_likeness if vectors is None else vectors.__getitem__
    return rerank(POOL, SCORES, k, Rerank(**rules), ATTRIBUTES, likeness, age=age, rng=rng)


def codes(result: Reranked) -> list[int]:
    return [item.code for item in result.items]


def test_without_rules_it_is_the_models_list() -> None:
    result = listed(k=3)
    assert [(item.code, item.score, item.rank) for item in result.items] == [(3, 9.0, 1), (0, 8.0, 2), (1, 7.5, 3)]
    assert all(item.why == () and item.propensity is None for item in result.items)
    assert (result.left_out, result.exhausted) == ({}, False)


def test_fewer_candidates_than_places_are_no_fault_of_the_rules() -> None:
    result = listed(k=9, diversity=0.5)
    assert sorted(codes(result)) == list(range(8))
    assert not result.exhausted


def test_no_candidates_make_an_empty_list() -> None:
    none = np.zeros(0, np.int64)
    rules = Rerank(keep={"stock": True}, age_limit="age", at_most={"brand": 1}, diversity=0.5, explore=0.5)
    result = rerank(none, np.zeros(0), 3, rules, ATTRIBUTES, SIDES.__getitem__, age=None, rng=np.random.default_rng(0))
    assert result == Reranked((), {"keep": 0, "age_limit": 0, "at_most": 0}, 0, False)


def test_what_is_not_to_be_kept_is_left_out_and_ranks_stay_the_models() -> None:
    """2 is out of stock, of 4 it is not known."""
    result = listed(k=6, keep={"stock": True})
    assert [(item.code, item.rank) for item in result.items] == [(3, 1), (0, 2), (1, 3), (5, 4), (7, 5), (6, 7)]
    assert (result.left_out, result.exhausted) == ({"keep": 2}, False)


@pytest.mark.parametrize(
    ("age", "expected"), [(None, [3, 0, 7, 4]), (0, [3, 0, 7, 4]), (12, [3, 0, 5, 7, 2, 4]), (18, POOL.tolist())]
)
def test_items_for_older_people_are_left_out_and_all_that_have_a_limit_where_the_age_is_not_known(
    age: int | None, expected: list[int]
) -> None:
    result = listed(k=8, age=age, age_limit="age")
    assert codes(result) == expected
    assert result.left_out == {"age_limit": 8 - len(expected)}


def test_each_rule_counts_what_it_left_out_after_those_before_it() -> None:
    """Out of stock or not known: 2 and 4. Of the rest, 1, 5 and 6 are for older people. 3 is brand A, as 0 is."""
    result = listed(k=2, age=6, keep={"stock": True}, age_limit="age", at_most={"brand": 1})
    assert codes(result) == [3, 7]
    assert result.left_out == {"keep": 2, "age_limit": 3, "at_most": 1}


def test_a_list_holds_no_more_of_a_value_than_it_may_and_what_has_none_is_free() -> None:
    assert codes(listed(k=5, at_most={"brand": 1})) == [3, 5, 7, 6, 4]
    result = listed(k=3, at_most={"brand": 2})
    assert codes(result) == [3, 0, 5]
    assert result.left_out == {"at_most": 1}


def test_an_item_counts_for_each_of_its_values_once() -> None:
    """After 3 (z) and 0 (x), 1 (x and y) and 5 (x twice) are too many of x, and 6 of z. Without 0 and 1, 5 is not."""
    result = listed(k=5, at_most={"categories": 1})
    assert codes(result) == [3, 0, 7, 2, 4]
    assert result.left_out == {"at_most": 3}
    assert codes(listed(k=2, keep={"item_id": ["d", "f"]}, at_most={"categories": 1})) == [3, 5]


def test_where_the_rules_leave_too_few_more_candidates_are_to_be_asked_for() -> None:
    short = listed(k=6, at_most={"brand": 1})
    assert (codes(short), short.left_out, short.exhausted) == ([3, 5, 7, 6, 4], {"at_most": 3}, True)
    assert listed(k=7, keep={"stock": True}).exhausted
    assert not listed(k=6, keep={"stock": True}).exhausted


def test_diversity_takes_the_unlike_and_says_what_it_moved_up() -> None:
    """Scores between 0 and 1: 3 has 1, 0 has 7/8, 1 has 13/16, 5 has 3/4, 7 has 1/2, 2 has 3/8, 6 has 1/8, 4 has 0.

    They count half. After 3, 0, 1 and 5 lose 1/2, so that 7 comes next with 1/4; then 6 with 1/16, before 0 with -1/16.
    """
    result = listed(k=3, diversity=0.5)
    assert [(item.code, item.rank, item.why) for item in result.items] == [
        (3, 1, ()),
        (7, 5, ("diversity",)),
        (6, 7, ("diversity",)),
    ]


def test_the_less_diversity_counts_the_more_the_scores_do() -> None:
    """After 3, what 0, 1 and 7 are worth: with 1/8 they have 0.64, 0.59 and 0.44; with 1/4 0.41, 0.36 and 0.38; with
    0.4 0.13, 0.09 and 0.30."""
    assert codes(listed(k=3, diversity=0.125)) == [3, 0, 1]
    assert codes(listed(k=3, diversity=0.25)) == [3, 0, 7]
    result = listed(k=3, diversity=0.4)
    assert [(item.code, item.why) for item in result.items] == [(3, ()), (7, ("diversity",)), (0, ())]


def test_diversity_takes_no_more_of_a_value_than_a_list_may_hold() -> None:
    """7 and 4 are of no brand. With one of each brand after 3 (A): 7, then 6 (C)."""
    assert codes(listed(k=4, diversity=0.5, at_most={"brand": 1})) == [3, 7, 6, 5]


def test_where_nothing_tells_how_alike_items_are_diversity_changes_nothing() -> None:
    assert listed(diversity=0.9, vectors=None) == listed()


def test_equal_scores_are_told_apart_by_likeness_alone() -> None:
    result = rerank(
        POOL,
        np.ones(8),
        3,
        Rerank(diversity=0.1),
        ATTRIBUTES,
        SIDES.__getitem__,
        age=None,
        rng=np.random.default_rng(0),
    )
    assert codes(result) == [3, 7, 6]


VECTORS = st.sampled_from([(1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0,) * 4, (0.5,) * 4, (0.5, -0.5, 0.5, -0.5)])
"""Of length 1 or 0, with products that are exact in float32"""
CANDIDATES = st.lists(st.tuples(st.integers(0, 9), VECTORS), max_size=8).map(lambda pairs: sorted(pairs, reverse=True))
RULES = st.fixed_dictionaries(
    {},
    optional={
        "keep": st.sampled_from([{"stock": True}, {"brand": ["A", "C"]}, {"age": {"max": 12}}]),
        "age_limit": st.just("age"),
        "at_most": st.dictionaries(st.sampled_from(["brand", "categories"]), st.integers(1, 2)),
        "diversity": st.sampled_from([0.25, 0.5, 0.75]),
        "explore": st.sampled_from([0.3, 0.9]),
    },
)


def naive_mmr(scores: list[float], vectors: list[tuple[float, ...]], k: int, diversity: float) -> list[int]:
    low, high = min(scores, default=0), max(scores, default=0)
    chosen: list[int] = []
    while len(chosen) < min(k, len(scores)):
        values = {}
        for row, score in enumerate(scores):
            if row not in chosen:
                relevance = (1 - diversity) * (score - low) / (high - low) if high > low else 0.0
                products = [sum(a * b for a, b in zip(vectors[row], vectors[other], strict=True)) for other in chosen]
                values[row] = relevance - diversity * max(products, default=0.0)
        chosen.append(max(values, key=lambda row: (values[row], -row)))
    return chosen


@settings(deadline=None)
@given(CANDIDATES, st.integers(1, 9), st.sampled_from([0.25, 0.5, 0.75]))
def test_it_is_maximal_marginal_relevance_as_it_is_defined(
    candidates: list[tuple[int, tuple[float, ...]]], k: int, diversity: float
) -> None:
    scores, vectors = [float(score) for score, _ in candidates], [vector for _, vector in candidates]
    rows = np.arange(len(scores))
    matrix = np.array(vectors, np.float32).reshape(len(scores), 4)
    result = rerank(
        rows,
        np.array(scores),
        k,
        Rerank(diversity=diversity),
        ATTRIBUTES,
        matrix.__getitem__,
        age=None,
        rng=np.random.default_rng(0),
    )
    assert codes(result) == naive_mmr(scores, vectors, k, diversity)


@settings(deadline=None)
@given(RULES, st.integers(1, 9), st.sampled_from([None, 0, 6, 17]), st.integers(0, 99))
def test_nothing_that_breaks_a_rule_is_ever_shown_and_nothing_twice(
    rules: dict[str, Any], k: int, age: int | None, seed: int
) -> None:
    result = listed(k, age=age, seed=seed, **rules)
    shown = codes(result)
    assert len(shown) == len(set(shown)) <= k
    allowed = np.ones(8, bool)
    if "keep" in rules:
        allowed &= ATTRIBUTES.mask(rules["keep"])
    if "age_limit" in rules:
        allowed &= np.array([(limit or 0) <= (age or 0) for limit in AGES])
    assert allowed[shown].all()
    for name, most in rules.get("at_most", {}).items():
        values = [[brand] if brand else [] for brand in BRANDS] if name == "brand" else CATEGORIES
        counts = Counter(value for code in shown for value in set(values[code] or []))
        assert max(counts.values(), default=0) <= most
    for item in result.items:
        assert POOL[item.rank - 1] == item.code
        assert SCORES[item.rank - 1] == item.score
        assert (item.propensity is not None) == ("explore" in rules)
    assert result.exhausted == (len(shown) < k and any(result.left_out.values()))
    narrowed = allowed_items(Rerank(**rules), ATTRIBUTES, age)
    assert (np.ones(8, bool) if narrowed is None else narrowed).tolist() == allowed.tolist()


@given(RULES, st.integers(1, 9), st.integers(0, 99))
@settings(deadline=None)
def test_diversity_and_exploration_of_zero_change_nothing(rules: dict[str, Any], k: int, seed: int) -> None:
    plain = {name: value for name, value in rules.items() if name not in ("diversity", "explore")}
    expected = listed(k, **plain)
    assert listed(k, seed=seed, diversity=0, explore=0, **plain) == expected
    assert [item.rank for item in expected.items] == sorted(item.rank for item in expected.items)
    assert all(item.why == () for item in expected.items)


DRAWS = 20_000


def test_exploration_gives_each_place_to_each_other_candidate_as_often_as_it_says() -> None:
    """Two places, six others, 0.3: each other is at each place with probability 0.3 / 6 = 0.05.

    At the second place it says 0.06 where one of the six is at the first place already, and 0.05 else.
    """
    rng, rules = np.random.default_rng(0), Rerank(explore=0.3)
    at: list[Counter[int]] = [Counter(), Counter()]
    for _ in range(DRAWS):
        result = rerank(POOL, SCORES, 2, rules, ATTRIBUTES, no_likeness, age=None, rng=rng)
        first, second = result.items
        for place, (item, model) in enumerate(zip(result.items, (3, 0), strict=True)):
            at[place][item.code] += 1
            assert item.why == (() if item.code == model else ("explored",))
        assert first.propensity == pytest.approx(0.7 if first.code == 3 else 0.05)
        others = 6 if first.code == 3 else 5
        assert second.propensity == pytest.approx(0.7 if second.code == 0 else 0.3 / others)
    for place, model in enumerate((3, 0)):
        shares = {code: count / DRAWS for code, count in at[place].items()}
        assert shares.pop(model) == pytest.approx(0.7, abs=0.015)
        assert sorted(shares) == [1, 2, 4, 5, 6, 7]
        assert list(shares.values()) == pytest.approx([0.05] * 6, abs=0.006)


def test_weighed_by_its_propensities_a_place_counts_each_item_that_may_stand_there_once() -> None:
    """One of each brand, two places: 3 (A) and 5 (B) are the list.

    At the first place stands 3, or one of the five that are not of brand B: 0, 1, 4, 6 and 7. Each weighs
    1 / propensity when it is seen, and 1 on the average. Below 3 there may be 2, 4, 6 and 7 instead of 5.
    """
    rng, rules = np.random.default_rng(0), Rerank(explore=0.5, at_most={"brand": 1})
    seen: Counter[int] = Counter()
    for _ in range(DRAWS):
        result = rerank(POOL, SCORES, 2, rules, ATTRIBUTES, no_likeness, age=None, rng=rng)
        first, second = result.items
        assert first.propensity == (0.5 if first.code == 3 else 0.1)
        if first.code == 3:
            assert second.code in (5, 2, 4, 6, 7)
            assert second.propensity == (0.5 if second.code == 5 else 0.125)
        seen[first.code] += 1
    weights = {code: count / DRAWS / (0.5 if code == 3 else 0.1) for code, count in seen.items()}
    assert sorted(weights) == [0, 1, 3, 4, 6, 7]
    assert list(weights.values()) == pytest.approx([1] * 6, abs=0.1)


def test_exploration_stays_among_the_first_candidates_that_meet_the_rules() -> None:
    """The first four in stock are 3, 0, 1 and 5, and two places make a pool of four: 7 and 6 come behind it."""
    rng, rules = np.random.default_rng(0), Rerank(explore=0.9, keep={"stock": True}, pool=1)
    seen: set[int] = set()
    for _ in range(500):
        result = rerank(POOL, SCORES, 2, rules, ATTRIBUTES, no_likeness, age=None, rng=rng)
        seen.update(codes(result))
        first, _ = result.items
        assert first.propensity == pytest.approx(0.1 if first.code == 3 else 0.45)
    assert seen == {3, 0, 1, 5}


def test_a_list_made_of_more_candidates_tells_what_the_rules_left_out_of_the_first() -> None:
    first = listed(k=3, keep={"brand": "C"}, at_most={"categories": 1})
    assert (first.left_out, first.exhausted) == ({"keep": 7, "at_most": 0}, True)
    more = Reranked(first.items, {"keep": 0, "at_most": 2}, 40, False)
    assert more.after(first) == Reranked(first.items, {"keep": 7, "at_most": 2}, 40, False)


def test_where_there_is_nothing_else_to_show_nothing_is_left_to_chance() -> None:
    result = listed(k=8, explore=0.9)
    assert codes(result) == POOL.tolist()
    assert [item.propensity for item in result.items] == [1.0] * 8


def test_the_same_seed_explores_the_same() -> None:
    assert listed(seed=7, explore=0.5) == listed(seed=7, explore=0.5)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"keep": {"in_stock": True}}, r"serving\.rerank\.keep .* no attribute 'in_stock'; did you mean `stock`\?"),
        ({"keep": {"stock": "yes"}}, r"serving\.rerank\.keep .*: stock takes true or false, not 'yes'"),
        ({"age_limit": "minimum"}, r"serving\.rerank\.age_limit .* no attribute 'minimum'"),
        ({"age_limit": "brand"}, r"serving\.rerank\.age_limit .*: brand is to be one number an item, not string"),
        ({"at_most": {"brand": 1, "maker": 2}}, r"serving\.rerank\.at_most .* no attribute 'maker'"),
    ],
)
def test_a_version_whose_items_lack_what_a_rule_goes_by_is_refused(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(ServingError, match=message) as caught:
        check_rules(Rerank(**rules), ATTRIBUTES)
    assert "of this one have: item_id, brand, categories, age, stock" in str(caught.value.remedy)


def test_rules_that_fit_the_items_are_accepted() -> None:
    check_rules(Rerank(), ATTRIBUTES)
    check_rules(Rerank(keep={"stock": True}, age_limit="age", at_most={"brand": 1, "categories": 2}), ATTRIBUTES)


def test_settings_are_read_as_they_are_written() -> None:
    content = {"keep": {"a": True, "b": 1, "c": [1.5, "x"], "d": {"min": datetime.date(2026, 1, 31)}}, "pool": 50}
    rules = validated(Rerank, content, where="params.yaml")
    assert repr(rules.keep) == "{'a': True, 'b': 1, 'c': (1.5, 'x'), 'd': {'min': '2026-01-31'}}"
    assert validated(Rerank, rules.model_dump(mode="json"), where="params.yaml") == rules


def test_only_what_is_set_is_active() -> None:
    assert not Rerank(pool=500).active
    assert not Serving().rerank.active
    for setting in (
        {"keep": {"a": 1}},
        {"age_limit": "a"},
        {"at_most": {"a": 1}},
        {"diversity": 0.1},
        {"explore": 0.1},
    ):
        assert Rerank(**setting).active


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"keep": {"a": None}}, "keep.a.*: must be text, a number, a time, true or false"),
        ({"keep": {"a": [float("nan")]}}, "keep.a.*: must be text, a number"),
        ({"keep": {"a": []}}, "keep.a"),
        ({"keep": {"a": {"most": 1}}}, "keep.a.*'min' or 'max'"),
        ({"at_most": {"a": 0}}, "at_most.a: .*greater than or equal to 1"),
        ({"diversity": 1}, "diversity: .*less than 1"),
        ({"explore": 1}, "explore: .*less than 1"),
        ({"explor": 0.1}, "explor: unknown key; did you mean `explore`"),
    ],
)
def test_settings_that_cannot_be_are_named(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validated(Rerank, content, where="params.yaml")
