"""Every endpoint × every role, generated from the app's own routes; and what surrounds each request."""

import re
import uuid
from datetime import timedelta
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from hcp_pipelines.api.app import build_app
from hcp_pipelines.api.arriving import BODY_MAX_BYTES
from hcp_pipelines.api.principals import refuse_unruled, routes_of, rule_of
from hcp_pipelines.operators.users import UserRole
from hcp_pipelines.settings import Settings
from tests.support.api import running_api, with_fleet
from tests.support.postgres import fresh_database

APP = build_app(SimpleNamespace(settings=Settings()))  # the app itself: an endpoint can't be left out
ENDPOINTS = [(method, route) for route in routes_of(APP) for method in sorted(route.methods)]
PUBLIC = {"/openapi.json", "/health", "/ready", "/api/v1/auth/login"}
STAFF = {"viewer", "operator", "admin"}
# Who may what, said once more and apart from the code: a rule that was changed by mistake is found here.
MAY = {
    "/api/v1/auth": STAFF | {"customer"},
    "/api/v1/users": {"admin"},
    "/api/v1/customers": {"admin"},
    "/api/v1/audit": {"admin"},
    "/api/v1/resources": STAFF,
    "/api/v1/resources/allocate": {"operator", "admin"},
    "/api/v1/resources/release": {"operator", "admin"},
    "/api/v1/resources/availability": STAFF | {"customer"},
    "/api/v1/economic": STAFF,
    "/api/v1/economic/prices": STAFF | {"customer"},
    "/api/v1/facilities": STAFF,
    "/api/v1/switches": STAFF,
    "/api/v1/workloads": STAFF | {"customer"},
    "/api/v1/workloads/submit": {"customer", "operator", "admin"},
    "/api/v1/workloads/{workload_id}/cancel": {"customer", "operator", "admin"},
}
FILLED = {
    "facility_id": "hou-1", "name": "s21", "workload_id": str(uuid.uuid4()), "user_id": str(uuid.uuid4()),
    "key_id": str(uuid.uuid4()),
}  # fmt: skip


def expected(path):
    """The roles of the longest prefix that says something."""
    return MAY[max((prefix for prefix in MAY if path.startswith(prefix)), key=len)]


@pytest.fixture(scope="module")
def api(postgres):
    """One for all: nothing here writes but accounts of its own, and limits are wide enough for every role to ask everything."""
    fresh_database(postgres)
    with_fleet(postgres)
    with running_api(postgres) as running:
        with running.client() as nobody:
            running.document = nobody.get("/openapi.json").json()  # before its limit is used up
        yield running


def asked(client, method, route):
    """A request that authorisation answers before anything else looks at it: empty, and short."""
    path = route.path_format.format(**FILLED)
    if path.endswith("/logout"):
        return client.request(method, path + "x")
    params = {"within_s": 0} if path.endswith("/events") else {}
    return client.request(method, path, params=params)


@pytest.mark.parametrize(("method", "route"), ENDPOINTS, ids=lambda part: getattr(part, "path", part))
def test_each_endpoint_lets_in_whom_it_should_and_nobody_else(api, method, route):
    if route.path in PUBLIC:
        assert rule_of(route).roles is None
        with api.client() as nobody:
            assert asked(nobody, method, route).status_code not in (401, 403)
        return
    may = expected(route.path)
    assert {str(role) for role in rule_of(route).roles} == may
    with api.client() as nobody:
        assert nobody.request(method, route.path_format.format(**FILLED)).status_code in (401, 429)
    for role in UserRole:
        with api.client(role.value) as client:
            status = asked(client, method, route).status_code
        assert (status == 403) == (role.value not in may), (role, status)
        assert status != 401
        assert status < 500 or status == 503, (role, status)


def test_all_that_the_app_answers_is_in_this_matrix():
    everything = list(iter_route_contexts(APP.routes))
    assert all(isinstance(one.original_route, APIRoute) for one in everything), "what is no endpoint has no rule"
    assert {(m, route.path) for m, route in ENDPOINTS} == {(m, one.path) for one in everything for m in one.methods}
    assert len(ENDPOINTS) > 40


def test_an_endpoint_without_a_rule_does_not_start():
    app = FastAPI()

    @app.get("/forgotten")
    async def forgotten() -> None:
        """Says nothing of who may."""

    with pytest.raises(TypeError, match="forgotten"):
        refuse_unruled(app)


def test_errors_have_one_shape_and_the_requests_id(api):
    with api.client("admin") as admin:
        replies = [
            admin.get("/nowhere"),
            admin.delete("/api/v1/facilities"),
            admin.get("/api/v1/facilities/none"),
            admin.get("/api/v1/resources", params={"limit": 0}),
            admin.post("/api/v1/users", content=b"{", headers={"Content-Type": "application/json"}),
            admin.post("/api/v1/economic/profitability/calculate", json={"resource_id": "hou-1/s21"}),
        ]
        for reply, status in zip(replies, (404, 405, 404, 400, 400, 400), strict=True):
            body = reply.json()
            assert (reply.status_code, body["status"]) == (status, status), reply.text
            assert reply.headers["content-type"] == "application/problem+json"
            assert body["request_id"] == reply.headers["x-request-id"]
            assert body["detail"]
        named = admin.get("/health", headers={"X-Request-ID": "mine-1"})
        assert named.headers["x-request-id"] == "mine-1"
        refused = admin.get("/health", headers={"X-Request-ID": "not mine"})
        assert refused.headers["x-request-id"] != "not mine"


def test_a_validation_error_does_not_repeat_what_was_sent(api):
    with api.client("admin") as admin:
        reply = admin.post("/api/v1/users", json={"name": "x", "role": "viewer", "password": "hunter2"})
    assert reply.status_code == 400
    assert "hunter2" not in reply.text


@pytest.mark.parametrize(
    ("asked_with", "said"),
    [
        ({"method": "GET", "url": "/api/v1/workloads?stat=queued"}, "query.stat: .*is status meant"),
        ({"method": "GET", "url": "/api/v1/workloads?status=queued&status=running"}, "query.status: .*2 times"),
        ({"method": "GET", "url": "/api/v1/workloads/queue/depth?x=1"}, "query.x: .*there are none"),
        ({"method": "POST", "url": "/api/v1/auth/keys", "json": {"name": "a", "expires_at": "2026"}}, "there are days"),
        ({"method": "POST", "url": "/api/v1/workloads/submit", "json": {"gpucount": 9}}, "is gpu_count meant"),
        ({"method": "POST", "url": "/api/v1/workloads/submit", "data": {"gpu_count": 9}}, "Content-Type: application/json"),
        ({"method": "DELETE", "url": "/api/v1/workloads"}, "takes GET"),
    ],
)  # fmt: skip
def test_what_an_endpoint_does_not_know_is_refused_with_what_it_does(api, asked_with, said):
    with api.client("customer") as own:
        reply = own.request(**asked_with)
        assert reply.status_code in (400, 405), reply.text
        assert re.search(said, reply.json()["detail"]), reply.json()["detail"]


def test_what_is_not_json_is_told_with_the_character(api):
    with api.client("customer") as own:
        reply = own.post("/api/v1/auth/keys", content=b'{"name" 1}', headers={"Content-Type": "application/json"})
    assert reply.json()["errors"] == [
        {"where": "body", "message": "it is not JSON: Expecting ':' delimiter, at character 8"}
    ]


def test_bodies_are_bounded_whether_or_not_they_say_their_length(api):
    with api.client("admin") as admin:
        large = b" " * (BODY_MAX_BYTES + 1)
        assert admin.post("/api/v1/auth/login", content=large).status_code == 413
        assert admin.post("/api/v1/auth/login", content=iter([large])).status_code == 413
        assert admin.get("/health").status_code == 200


def test_every_answer_has_the_safe_headers_and_none_allows_another_origin(api):
    with api.client("admin") as admin:
        reply = admin.get("/api/v1/facilities", headers={"Origin": "https://evil.example"})
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
    assert "access-control-allow-origin" not in reply.headers
    assert "server" not in reply.headers


@pytest.mark.parametrize("said", ["\\ud800", "\\u0000", "\\udfff\\ud800"])
def test_texts_that_nothing_can_keep_are_refused_and_no_defect(api, said):
    sent = [
        ("POST", "/api/v1/auth/login", '{"name": "admin", "password": "%s"}'),
        ("POST", "/api/v1/auth/keys", '{"name": "%s"}'),
        ("POST", "/api/v1/customers", '{"name": "%s", "email": "a@b.example", "tier": "pro"}'),
        ("POST", "/api/v1/users", '{"name": "ann", "role": "viewer", "password": "a long password %s"}'),
        ("POST", "/api/v1/workloads/submit", '{"labels": {"a": "%s"}}'),
        ("POST", "/api/v1/workloads/submit", '{"labels": {"%s": "a"}}'),
    ]
    customer = {"customer_id": str(api.people["customer"].customer_id)}
    with api.client("admin") as admin:
        for method, path, body in sent:
            params = customer if path.endswith("submit") else {}
            headers = {"Content-Type": "application/json"}
            reply = admin.request(method, path, params=params, content=body % said, headers=headers)
            assert reply.status_code < 500, (path, body, reply.text)
            assert reply.status_code >= 400 or path.endswith("users"), (path, body, reply.text)


def test_requests_are_counted_and_too_many_are_told_when_to_come_back(api):
    with api.client() as nobody:
        replies = [nobody.get("/health") for _ in range(70)]
        assert nobody.get("/openapi.json").status_code == 429
    left = [int(reply.headers["ratelimit-remaining"]) for reply in replies]
    assert left[1] <= left[0] <= int(replies[0].headers["ratelimit-limit"])
    assert replies[-1].status_code == 429
    assert int(replies[-1].headers["retry-after"]) >= 1
    assert timedelta(seconds=int(replies[-1].headers["ratelimit-reset"])) <= timedelta(minutes=1)


def test_the_description_has_an_example_for_each_field_and_the_roles_of_each_endpoint(api):
    document = api.document
    operations = {(p, m) for p, methods in document["paths"].items() for m in methods}
    told = {
        (route.path_format, method.lower()) for method, route in ENDPOINTS if route.original_route.include_in_schema
    }
    assert operations == told
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert path in PUBLIC or operation["x-roles"], path
            assert "422" not in operation["responses"], "validation is answered with 400, as all problems are"
    without = [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        if name not in ("WorkloadSpec",) and schema.get("type") == "object"
        for field, shape in schema["properties"].items()
        if not {"examples", "default", "$ref"} & shape.keys() and shape.get("type") != "array"
    ]
    assert without == []


def test_a_connection_that_says_nonsense_harms_nobody(api):
    with httpx.Client(base_url=api.base_url) as client:
        assert client.get("/api/v1/facilities/%00").status_code == 400
        assert client.get("/api/v1/facilities", params={"after": "\x00"}).status_code == 400
        assert client.get("/api/v1/facilities", headers={"Authorization": "Basic x"}).status_code in (401, 429)
