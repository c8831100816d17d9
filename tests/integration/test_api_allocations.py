"""Devices given to work and taken back by hand, and the forecast of capacity: as operators do it over the API."""

import asyncio
import uuid

import pytest

from hcp_pipelines.client import Client
from hcp_pipelines.storage.postgres import connect, connect_async
from hcp_pipelines.storage.roles import Role
from tests.support.api import running_api, with_fleet
from tests.support.postgres import fresh_database
from tests.support.queued import scheduled

ALLOCATE, RELEASE = "/api/v1/resources/allocate", "/api/v1/resources/release"
FORECAST = "/api/v1/resources/capacity/forecast"
BATCH = {"model_name": "llama-3-70b", "gpu_count": 2, "estimated_duration_s": 600}


@pytest.fixture(scope="module")
def api(postgres):
    fresh_database(postgres)
    with_fleet(postgres)
    with running_api(postgres) as running:
        yield running


@pytest.fixture
def gpus(api):
    with connect(api.settings, Role.ADMIN) as connection:
        rows = connection.execute(
            "select id from resources where type = 'GPU' and status = 'available' order by id limit 4"
        )
        return [row[0] for row in rows]


def statuses(api, ids):
    with connect(api.settings, Role.ADMIN) as connection:
        rows = connection.execute("select status from resources where id = any(%s) order by id", (ids,)).fetchall()
    return [row[0] for row in rows]


async def held(settings):
    """One more piece of work is held by a node."""
    async with await connect_async(settings, Role.SCHEDULER) as connection:
        [claimed] = await scheduled(connection)
    return str(claimed.workload_id)


def test_devices_are_given_to_work_that_is_held_once_and_taken_back_once(api, gpus):
    with api.client("operator") as operator, api.client("customer") as own:
        waiting = own.post("/api/v1/workloads/submit", json=BATCH).json()["workload_id"]
        asked = {"workload_id": waiting, "resource_ids": gpus[:2]}
        assert operator.post(ALLOCATE, json=asked).status_code == 409, "nobody holds it yet"
        assert asyncio.run(held(api.settings)) == waiting
        made = operator.post(ALLOCATE, json=asked)
        assert made.status_code == 201, made.text
        assert (made.json()["status"], made.json()["resource_ids"]) == ("active", gpus[:2])
        assert statuses(api, gpus) == ["allocated"] * 2 + ["available"] * 2
        assert operator.post(ALLOCATE, json=asked | {"resource_ids": gpus[2:]}).status_code == 409, "it has devices"
        ended = {"allocation_id": made.json()["allocation_id"], "reason": "rewired"}
        released = operator.post(RELEASE, json=ended)
        assert (released.status_code, released.json()["status"], released.json()["reason"]) == (
            200,
            "released",
            "rewired",
        )
        had = own.get(f"/api/v1/workloads/{waiting}/allocations").json()["items"]
        told = [(one["allocation_id"], one["status"], one["cost"], one["used_gpu_s"]) for one in had]
        assert told == [(ended["allocation_id"], "released", 0.0, 0.0)], "it has not run on them"
        with Client(api.base_url, api.people["customer"].key) as client:
            [one] = client.allocations(uuid.UUID(waiting))
        assert (one.status, list(one.resource_ids), one.cost) == ("released", gpus[:2], 0.0)
        again = operator.post(RELEASE, json=ended)
        assert (again.status_code, "allocation already released" in again.json()["detail"]) == (409, True)
        assert statuses(api, gpus) == ["available"] * 4


def test_what_is_not_there_is_said_and_half_of_it_is_not_given(api, gpus):
    with api.client("admin") as admin, api.client("customer") as own:
        own.post("/api/v1/workloads/submit", json=BATCH)
        work = asyncio.run(held(api.settings))
        asked = {"workload_id": work, "resource_ids": [gpus[0], "hou-1/999999"]}
        refused = admin.post(ALLOCATE, json=asked)
        assert (refused.status_code, "hou-1/999999" in refused.json()["detail"]) == (409, True)
        assert statuses(api, gpus[:1]) == ["available"]
        assert admin.post(ALLOCATE, json=asked | {"lease_epoch": 99}).status_code == 409, "another epoch's"
        nobody = str(uuid.uuid4())
        assert admin.post(ALLOCATE, json=asked | {"workload_id": nobody}).status_code == 404
        assert admin.post(RELEASE, json={"allocation_id": nobody}).status_code == 404
        assert admin.post(ALLOCATE, json={"workload_id": work, "resource_ids": ["x"]}).status_code == 400


def test_capacity_is_told_where_it_is_forecast_the_newest_word_of_each_day(api):
    with api.client("viewer") as viewer:
        none = viewer.get(FORECAST)
        assert (none.status_code, "none has been made" in none.json()["detail"]) == (404, True)
        made = """
            insert into capacity_forecasts (facility_id, type, day, predicted_utilization, recommended_capacity, model, made_at)
            values ('hou-1', 'GPU', %s, %s, %s, 'capacity/1', %s)"""
        with connect(api.settings, Role.CONTROL) as control:
            control.execute(made, ("2090-01-01", 0.5, 40, "2025-01-01T00:00Z"))
            control.execute(made, ("2090-01-01", 0.7, 28, "2025-01-02T00:00Z"))
            control.execute(made, ("2090-01-02", 0.6, 24, "2025-01-01T00:00Z"))
            control.execute(made, ("2000-01-01", 0.6, 50, "2000-01-01T00:00Z"))
        found = viewer.get(FORECAST, params={"facility_id": "hou-1", "type": "GPU"}).json()
        assert [(one["date"], one["predicted_utilization"]) for one in found["items"]] == [
            ("2090-01-01", 0.7),
            ("2090-01-02", 0.6),
        ]
        fullest = {"facility_id": "hou-1", "gpu_count": 28, "asic_count": None, "buffer_percent": 20.0}
        assert found["recommended"] == [fullest], "of the days that are told, not of what was said of them before"
        assert viewer.get(FORECAST, params={"type": "ASIC"}).status_code == 404
