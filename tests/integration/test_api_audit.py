"""Every endpoint that writes leaves a line of who did it, by which request: those of the app itself, none left out."""

import asyncio
import itertools
from types import SimpleNamespace

import pytest

from hcp_pipelines.api.app import build_app
from hcp_pipelines.api.principals import routes_of
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect, connect_async
from hcp_pipelines.storage.roles import Role
from tests.support.api import PASSWORD, running_api, with_fleet
from tests.support.postgres import fresh_database
from tests.support.queued import scheduled

BATCH = {"model_name": "llama-3-70b", "gpu_count": 1, "estimated_duration_s": 600}
WRITING = sorted(
    (method, route.path_format)
    for route in routes_of(build_app(SimpleNamespace(settings=Settings())))
    for method in route.methods
    if method != "GET"
)
READS = {("POST", "/api/v1/economic/profitability/calculate")}
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def api(postgres):
    fresh_database(postgres)
    with_fleet(postgres)
    with running_api(postgres) as running:
        yield running


def submitted(api):
    with api.client("customer") as own:
        return own.post("/api/v1/workloads/submit", json=BATCH).json()["workload_id"]


def held(api):
    """Work that a node holds, and a device for it."""

    async def schedule():
        async with await connect_async(api.settings, Role.SCHEDULER) as connection:
            return await scheduled(connection)

    submitted(api)
    [claimed] = asyncio.run(schedule())
    with connect(api.settings, Role.ADMIN) as connection:
        row = connection.execute(
            "select id from resources where type = 'GPU' and status = 'available' limit 1"
        ).fetchone()
    return {"workload_id": str(claimed.workload_id), "resource_ids": [row[0]]}


def allocated(api):
    with api.client("operator") as operator:
        made = operator.post("/api/v1/resources/allocate", json=held(api))
    return {"allocation_id": made.json()["allocation_id"]}


def another_key(api):
    with api.client("customer") as own:
        return own.post("/api/v1/auth/keys", json={"name": "x"}).json()["id"]


def another_user(api):
    body = {"name": f"user{next(NUMBERS)}", "role": "viewer", "password": PASSWORD}
    with api.client("admin") as admin:
        return admin.post("/api/v1/users", json=body).json()["id"]


# By endpoint: who asks, what fills the path, what is sent, the action that is kept.
ASKED = {
    ("POST", "/api/v1/auth/login"): (None, {}, {"name": "viewer", "password": "x" * 20}, "login.refused"),
    ("POST", "/api/v1/auth/logout"): ("viewer", {}, None, "user.sessions_ended"),
    ("PUT", "/api/v1/auth/password"): (
        "viewer", {}, {"password": PASSWORD, "new_password": "another long password"}, "user.password",
    ),
    ("POST", "/api/v1/auth/keys"): ("customer", {}, {"name": "x"}, "api_key.added"),
    ("DELETE", "/api/v1/auth/keys/{key_id}"): ("customer", {"key_id": another_key}, None, "api_key.revoked"),
    ("POST", "/api/v1/users"): ("admin", {}, {"name": "made", "role": "viewer", "password": PASSWORD}, "user.added"),
    ("POST", "/api/v1/users/{user_id}/disable"): ("admin", {"user_id": another_user}, None, "user.disabled"),
    ("POST", "/api/v1/customers"): ("admin", {}, {"name": "A", "email": "a@a.example", "tier": "pro"}, "customer.added"),
    ("POST", "/api/v1/resources/allocate"): ("operator", {}, held, "allocation.made"),
    ("POST", "/api/v1/resources/release"): ("operator", {}, allocated, "allocation.released"),
    ("POST", "/api/v1/workloads/submit"): ("customer", {}, BATCH, "workload.submit"),
    ("PUT", "/api/v1/workloads/{workload_id}/cancel"): ("customer", {"workload_id": submitted}, None, "workload.cancel"),
}  # fmt: skip


def test_each_write_is_asked_here():
    assert set(WRITING) == set(ASKED) | READS


@pytest.mark.parametrize("endpoint", ASKED, ids=" ".join)
def test_a_write_is_kept_with_who_did_it_and_the_request(api, endpoint):
    (method, path), (role, filled, body, action) = endpoint, ASKED[endpoint]
    named = path.format(**{name: make(api) for name, make in filled.items()})
    sent = body(api) if callable(body) else body
    number = f"audit-{next(NUMBERS)}"
    with api.client(role) as client:
        reply = client.request(method, named, json=sent, headers={"X-Request-ID": number})
    assert reply.status_code in ((401,) if role is None else (200, 201, 202)), reply.text
    with api.client("admin") as admin:
        kept = admin.get("/api/v1/audit", params={"action": action}).json()["items"]
    [found] = [one for one in kept if one["detail"].get("request_id") == number]
    assert found["actor"] == (role or "api")
    if not action.startswith("workload."):  # those are the queue's own lines: the access log has the address
        assert found["detail"]["address"] == "127.0.0.1"
        assert found["detail"].get("by_role") == role
    assert PASSWORD not in str(found)
