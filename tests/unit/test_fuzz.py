"""Requests that nobody would think of, made from the API's own page: none is a server's error."""

from __future__ import annotations

import signal
from collections.abc import Iterator

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
from recloop.serving.openapi import describe_api
from tests.endpoint import Endpoint, make_project
from tests.packages import point_at

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
CHECKS = [not_a_server_error, response_schema_conformance, status_code_conformance]

SCHEMA = from_dict(describe_api(tuple(Gate().events)))
OPERATIONS = {
    f"{found.ok().method.upper()} {found.ok().path}": found.ok()
    for found in SCHEMA.get_all_operations()
    if not found.ok().path.startswith(("/livez", "/healthz", "/readyz", "/metrics"))
}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    endpoint = Endpoint(make_project(tmp_path_factory.mktemp("fuzz") / "project"))
    point_at(endpoint.live, 1)
    point_at(endpoint.live, 2, pointer="challenger.json")
    endpoint.start()
    try:
        yield endpoint
    finally:
        endpoint.end(signal.SIGTERM)


def test_every_operation_is_asked() -> None:
    assert CASES.keys() == OPERATIONS.keys()
    assert sum(CASES.values()) == 10_000


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_request_is_too_much(endpoint: Endpoint, name: str) -> None:
    session = requests.Session()

    @settings(
        max_examples=CASES[name],
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=one_of(*(OPERATIONS[name].as_strategy(generation_mode=mode) for mode in GenerationMode)))
    def ask(case: Case) -> None:
        answer = case.call(base_url=f"http://127.0.0.1:{endpoint.port}", session=session, timeout=120)
        case.validate_response(answer, checks=CHECKS)

    ask()
