"""A schema fuzzer over the whole OpenAPI: no 5xx, no answer that its description does not have, nothing of another customer.

A customer asks with another's ids as often as with made-up ones: of work, accounts, keys, customers, streams. The same requests
each time, some seconds of them; `FUZZ_EXAMPLES=200` tries that many an endpoint, others each time.
"""

import contextlib
import os

import pytest
import requests
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import booleans, just
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
            key = other.post("/api/v1/auth/keys", json={"name": MARK}).json()
        person = running.people["other"]
        running.theirs = {
            "workload_id": made.json()["workload_id"],
            "customer_id": str(person.customer_id),
            "user_id": str(person.user_id),
            "key_id": key["id"],
        }
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


def ask_for(case, operation, theirs):
    """Have a case ask for what is another customer's, wherever the endpoint takes an id."""
    names = {one.name for one in operation.iter_parameters()}
    if case.path_parameters:
        case.path_parameters |= {name: theirs[name] for name in case.path_parameters.keys() & theirs.keys()}
    if "customer_id" in names:
        case.query = {**(case.query or {}), "customer_id": theirs["customer_id"]}
    if "Last-Event-ID" in names:
        case.headers = {**(case.headers or {}), "Last-Event-ID": "0"}


def test_no_endpoint_gives_a_customer_what_is_anothers(api):
    """Each that takes an id; ids of a kind that is not known here are found by this."""
    own_fleet = {"facility_id": "hou-1", "name": "s21"}  # no customer's
    tried = []
    with api.client("customer") as own, api.client("other") as other:
        for found in openapi.from_url(f"{api.base_url}/openapi.json").get_all_operations():
            operation = found.ok()
            names = {one.name: one.location.value for one in operation.iter_parameters()}
            filled = {name: (api.theirs | own_fleet)[name] for name, place in names.items() if place == "path"}
            params = {"customer_id": api.theirs["customer_id"]} if "customer_id" in names else {}
            if not (filled.keys() & api.theirs.keys() or params):
                continue
            body = {} if operation.method in ("post", "put") else None
            reply = own.request(operation.method, operation.path.format(**filled), params=params, json=body)
            if reply.status_code not in (403, 404):  # a list is their own, whoever is named
                assert reply.status_code == 200, (operation.label, reply.text)
                assert not any(value in reply.text for value in api.theirs.values()), operation.label
            assert MARK not in reply.text
            tried.append(operation.label)
        headers = {"Last-Event-ID": "0"}
        events = own.get("/api/v1/workloads/events", params={"within_s": 0}, headers=headers).text
        assert api.theirs["workload_id"] not in events
        theirs = other.get("/api/v1/workloads/events", params={"within_s": 0}, headers=headers).text
        assert api.theirs["workload_id"] in theirs, "who owns it hears of it"
        assert other.get(f"/api/v1/workloads/{api.theirs['workload_id']}/status").json()["status"] == "queued"
        assert api.theirs["key_id"] in [one["id"] for one in other.get("/api/v1/auth/keys").json()["items"]]
    assert {"GET /api/v1/workloads/{workload_id}", "PUT /api/v1/workloads/{workload_id}/cancel"} <= set(tried)


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
    @given(
        case=operation.as_strategy(generation_mode=mode, query=FIXED.get(operation.path)),
        is_of_other=booleans() if role == "customer" else just(False),
    )
    def ask(case, is_of_other):
        nonlocal count
        count += 1
        if is_of_other:
            ask_for(case, operation, api.theirs)
        reply = case.call(base_url=api.base_url, headers=headers, session=session, timeout=60)
        if reply.status_code != 503 or "retry-after" not in reply.headers:
            case.validate_response(reply, checks=[not_a_server_error])
        case.validate_response(reply, checks=CONFORMING)
        if role == "customer":
            assert MARK.encode() not in reply.content, case.as_curl_command()
            told = reply.text.replace(case.formatted_path, "")  # a problem names what was asked for
            for name, value in api.theirs.items():
                assert value not in told or reply.status_code >= 400, f"{name}: {case.as_curl_command()}"

    with contextlib.suppress(Unsatisfiable):  # an endpoint that takes nothing can't be asked wrongly
        ask()
    return count
