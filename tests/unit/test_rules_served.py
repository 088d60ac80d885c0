"""Rules, diversity and exploration over HTTP, and what is written down of the chances that were taken."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.endpoint import Client, Endpoint, make_project, until
from tests.packages import point_at, write_package

pytestmark = pytest.mark.xdist_group("rules_served")

SHELF = {
    "a": ([4.0, 0.0], "A", True),
    "b": ([3.0, 0.0], "A", True),
    "c": ([2.0, 0.0], "A", True),
    "d": ([2.5, 0.0], "A", False),
    "e": ([1.0, 0.0], "E", True),
    "f": ([0.0, 3.0], "F", True),
    "g": ([0.0, 1.0], "G", True),
    "h": ([0.0, 2.0], "G", True),
}
"""Item → its vector, brand, and whether it is in stock. After a, which lies to the right, come b, d, c, e, and then
what lies above, the shortest first: g, h, f."""
EXPLORED = 0.3


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    rules = {"keep": {"in_stock": True}, "at_most": {"brand": 1}, "diversity": 0.5, "explore": EXPLORED, "pool": 7}
    root = tmp_path_factory.mktemp("rules") / "project"
    endpoint = Endpoint(make_project(root, {f"serving.rerank.{name}": value for name, value in rules.items()}))
    vectors, brands, in_stock = zip(*SHELF.values(), strict=True)
    columns = {"brand": brands, "in_stock": in_stock}
    write_package(endpoint.live / "v1", counts=dict.fromkeys(SHELF, 1.0), vectors=vectors, columns=columns)
    point_at(endpoint.live, 1)
    with endpoint.running():
        yield endpoint


@pytest.fixture
def client(endpoint: Endpoint) -> Client:
    return endpoint.client()


def test_a_list_keeps_the_rules_is_diverse_and_its_chances_are_on_the_impression(
    endpoint: Endpoint, client: Client
) -> None:
    """d is out of stock, c is of b's brand. g, which is unlike b, counts for more than e, and the list is b, g.

    Where chance has the first place, c, e or f may come, but not h, of g's brand; at the second it is three of c, e, f
    and h, whatever is at the first.
    """
    answers = [client.recommend(history=["a"], k=2, explain=True) for _ in range(100)]
    explored = 0
    for answer in answers:
        shown = [(item["item_id"], item["reason"]) for item in answer["items"]]
        for (item_id, reason), own, others in zip(shown, "bg", ("cef", "cefh"), strict=True):
            assert item_id in own + others
            assert reason["propensity"] == pytest.approx(1 - EXPLORED if item_id == own else EXPLORED / 3)
            chosen = {"b": [], "g": ["diversity"]}
            assert reason["moved_by"] == (chosen[own] if item_id == own else ["explored"])
            assert reason["model_rank"] == "bdceghf".index(item_id) + 1
            explored += item_id != own
        assert len({SHELF[item_id][1] for item_id, _ in shown}) == 2
        assert answer["explanation"] == {"left_out": {"keep": 1, "at_most": 1}, "candidates": 7}
    assert 30 < explored < 90, "200 places, of which chance has 60 on the average"

    query = "SELECT items, scores, chances FROM impressions WHERE request_id = ?"
    until(lambda: len(endpoint.rows(query, answers[-1]["request_id"])) == 1, 10)
    for answer in answers:
        (row,) = endpoint.rows(query, answer["request_id"])
        items, scores, chances = map(json.loads, row)
        assert items == [item["item_id"] for item in answer["items"]]
        assert scores == [item["score"] for item in answer["items"]]
        assert chances == [item["reason"]["propensity"] for item in answer["items"]]


def test_what_is_like_an_item_keeps_the_rules_too(client: Client) -> None:
    status, answer = client.post("/similar", {"item_id": "a", "k": 4})
    assert (status, [item["item_id"] for item in answer["items"]]) == (200, ["b", "c", "e", "f"])


def test_of_a_batch_in_which_one_list_cannot_be_made_none_counts_as_shown(endpoint: Endpoint, client: Client) -> None:
    requests = [{"user_id": "never-shown"}, {"filters": {"colour": "red"}}]
    status, answer = client.post("/recommend/batch", {"requests": requests})
    assert (status, "no attribute 'colour'" in answer["error"]) == (422, True)
    client.recommend(user_id="shown-later")
    query = "SELECT user_id FROM impressions WHERE user_id IN ('never-shown', 'shown-later')"
    until(lambda: ("shown-later",) in endpoint.rows(query), 10)
    assert endpoint.rows(query) == [("shown-later",)]
