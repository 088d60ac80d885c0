"""Requests that nobody would think of, made from the API's own page: none is a server's error."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from datetime import date, datetime
from random import Random
from typing import Any

import pyarrow as pa
import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import one_of
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.openapi import from_dict
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from recloop.config import Gate
from recloop.serving.keys import SCOPES, KeyStore
from recloop.serving.openapi import describe_api
from recloop.storage import connect
from tests.endpoint import Endpoint, make_project, until
from tests.packages import point_at, write_package

pytestmark = pytest.mark.xdist_group("fuzz")

CASES = {
    "POST /recommend": 3000,
    "POST /recommend/batch": 1000,
    "POST /similar": 2000,
    "POST /events": 1500,
    "POST /admin/split": 1000,
    "GET /users/{user_id}": 700,
    "DELETE /users/{user_id}": 700,
    "POST /admin/reload": 90,
    "GET /model": 7,
    "POST /admin/rollback": 3,  # each starts a process that loads MLflow
}
"""Ten thousand, more where more can be said"""
CROSSED = ("POST /recommend", "POST /recommend/batch", "POST /similar", "POST /events")
"""Of their requests one in four is drawn, for drawing is most of the time that this takes; the others are crossings of
those: what is new in them is which values stand together"""
CHECKS = [not_a_server_error, response_schema_conformance, status_code_conformance]

COLUMNS: dict[str, Any] = {
    "year": [1990, 1991, None, 1993, 1994],
    "small": pa.array([1, 2, 3, 4, 5], pa.int8()),
    "price": pa.array([0.5, None, 1e30, -1.0, 2.0], pa.float32()),
    "weight": [0.5, float("nan"), float("inf"), -1.0, None],
    "since": [datetime(2020 + place, 1, 1) for place in range(5)],
    "day": [date(2020 + place, 1, 1) for place in range(5)],
    "new": [True, False, None, True, False],
    "categories": [["Drama", "Crime"], [], None, ["Drama"], ["War"]],
    "sizes": [[1, 2], [], None, [2], [3]],
}
"""A column of every kind that items may have"""


def described() -> dict[str, Any]:
    """The API's own page, and that filters name the attributes that the items have, and one that they have not; and
    that what is asked about is mostly there."""
    page = deepcopy(describe_api(tuple(Gate().events)))
    names = {"enum": ["item_id", "title", "nothing", *COLUMNS]}
    for model in ("RecommendRequest", "SimilarRequest"):
        page["components"]["schemas"][model]["properties"]["filters"]["propertyNames"] = names
    page["components"]["schemas"]["SimilarRequest"]["properties"]["item_id"] |= {"enum": ["a", "b", "nothing"]}
    return page


SCHEMA = from_dict(described())
OPERATIONS = {
    f"{found.ok().method.upper()} {found.ok().path}": found.ok()
    for found in SCHEMA.get_all_operations()
    if not found.ok().path.startswith(("/livez", "/healthz", "/readyz", "/metrics"))
}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    settings: dict[str, object] = {"serving.auth": "required", "serving.requests_per_second": 1e6}
    endpoint = Endpoint(make_project(tmp_path_factory.mktemp("fuzz") / "project", settings))
    write_package(endpoint.live / "v1", columns=COLUMNS)
    point_at(endpoint.live, 1)
    point_at(endpoint.live, 2, pointer="challenger.json")
    endpoint.start()
    try:
        yield endpoint
    finally:
        endpoint.end(signal.SIGTERM)


@pytest.fixture(scope="module")
def key(endpoint: Endpoint) -> str:
    database = connect(f"sqlite:///{endpoint.database}")
    key = KeyStore(database).create("fuzz", SCOPES)
    database.dispose()
    until(lambda: endpoint.client(key).send("GET", "/model")[0] == 200, 10)
    return key


def test_every_operation_is_asked() -> None:
    assert CASES.keys() == OPERATIONS.keys()
    assert sum(CASES.values()) == 10_000


def crossed(case: Case, other: Case, random: Random) -> Case:
    """The first, with a body that is made of both."""
    return Case(
        case.operation,
        case.method,
        case.path,
        path_parameters=case.path_parameters,
        headers=case.headers,
        cookies=case.cookies,
        query=case.query,
        body=mixed(case.body, other.body, random),
        media_type=case.media_type,
    )


def mixed(one: Any, other: Any, random: Random) -> Any:
    """Of objects each field of either, of lists each element; of anything else one or the other."""
    if isinstance(one, dict) and isinstance(other, dict):
        fields = {key: [value[key] for value in (one, other) if key in value] for key in {**one, **other}}
        kept = {key: found for key, found in fields.items() if len(found) == 2 or random.random() < 0.5}
        return {key: mixed(found[0], found[-1], random) for key, found in kept.items()}
    if isinstance(one, list) and isinstance(other, list):
        shorter = min(len(one), len(other))
        rest = random.choice((one, other))[shorter:]
        return [*(mixed(*pair, random) for pair in zip(one, other, strict=False)), *rest]
    return random.choice((one, other))


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_request_is_too_much(endpoint: Endpoint, key: str, name: str) -> None:
    session, statuses = requests.Session(), Counter[int]()
    cases, random = list[Case](), Random(0)

    def send(case: Case) -> None:
        answer = case.call(
            base_url=f"http://127.0.0.1:{endpoint.port}",
            session=session,
            headers={"Authorization": f"Bearer {key}"},
            timeout=150,
        )
        statuses[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)

    @settings(
        max_examples=CASES[name] // 4 if name in CROSSED else CASES[name],
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=one_of(*(OPERATIONS[name].as_strategy(generation_mode=mode) for mode in GenerationMode)))
    def ask(case: Case) -> None:
        cases.append(case)
        send(case)

    ask()
    while name in CROSSED and statuses.total() < CASES[name]:
        send(crossed(*random.sample(cases, 2), random))
    assert statuses.total() >= CASES[name]
    if name != "POST /admin/rollback":
        assert statuses[200] > CASES[name] / 30, "they are not all refused at the door"
        assert statuses[401] > 0, "nor does everybody come in"
