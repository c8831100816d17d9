"""A schema fuzzer over the whole OpenAPI: no 5xx, no answer that its description does not have, nothing of another customer.

The same requests each time, some seconds of them; `FUZZ_EXAMPLES=200` tries that many an endpoint, others each time.
"""

import contextlib
import os

import pytest
import requests
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode, openapi
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.api import running_api, with_fleet
from tests.support.postgres import fresh_database

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
CONFORMING = [
    content_type_conformance, response_headers_conformance, response_schema_conformance, status_code_conformance,
]  # fmt: skip
MARK = "only-for-other"
ENDS_THE_ACCOUNT = {"/api/v1/auth/logout", "/api/v1/auth/password"}
FIXED = {"/api/v1/workloads/events": {"within_s": 0}}


@pytest.fixture(scope="module")
def api(postgres):
    fresh_database(postgres)
    with_fleet(postgres)
    wide = "update request_limits set per_minute = 10000000, burst = 1000000"
    with running_api(postgres, before=wide) as running:
        with running.client("other") as other:
            made = other.post("/api/v1/workloads/submit", json={"labels": {"mark": MARK}})
            assert made.status_code == 202, made.text
            running.theirs = made.json()["workload_id"]
        yield running


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("role", ["customer", "admin"])
def test_no_request_breaks_the_api_or_its_description(api, role, mode):
    schema = openapi.from_url(f"{api.base_url}/openapi.json")
    headers = {"Authorization": f"Bearer {api.people[role].key}"}
    tried = 0
    with requests.Session() as session:
        for found in schema.get_all_operations():
            operation = found.ok()
            if operation.path in ENDS_THE_ACCOUNT:
                continue
            tried += asked(api, operation, mode, role, headers, session)
    assert tried > 100


def asked(api, operation, mode, role, headers, session):
    """How many requests an endpoint was asked with."""
    count = 0

    @hypothesis_settings(
        max_examples=EXAMPLES or 5,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode, query=FIXED.get(operation.path)))
    def ask(case):
        nonlocal count
        count += 1
        reply = case.call(base_url=api.base_url, headers=headers, session=session, timeout=20)
        if reply.status_code != 503 or "retry-after" not in reply.headers:
            case.validate_response(reply, checks=[not_a_server_error])
        case.validate_response(reply, checks=CONFORMING)
        if role == "customer":
            assert MARK.encode() not in reply.content, case.as_curl_command()
            assert api.theirs.encode() not in reply.content or api.theirs in case.formatted_path

    with contextlib.suppress(Unsatisfiable):  # an endpoint that takes nothing can't be asked wrongly
        ask()
    return count
