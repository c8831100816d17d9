"""Why work is where it is, over the API: staff read all of it, a customer its own in words that tell nothing of others."""

import asyncio
from datetime import timedelta

import pytest

from hcp_pipelines.client import Client
from hcp_pipelines.storage.postgres import connect_async
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.workloads.decisions import NOT_OPEN, TOO_FEW, Decision, record
from tests.support.api import running_api, with_fleet
from tests.support.queued import NOON

OTHERS = "4f0e9d8c-7b6a-4958-8746-352413f2e1d0"
WORDS = [
    ["hou-1/h100", 71.25],
    ["hou-1/a100", "has no H100"],
    ["hou-2/h100", "locked out (site) by ann: bob cut a cable"],
    ["dal-1/h100", f"kept for {OTHERS}, which is large and has waited long"],
    ["dal-2/h100", "3 to be had of 4: the policy lets 12 work as training or above, 9 do"],
    ["dal-3/h100", "40 ms away, 10.0 ms are allowed"],
]


@pytest.fixture
def api(settings):
    with_fleet(settings)
    with running_api(settings) as running:
        yield running


def decided(api, *decisions):
    """As the scheduler keeps them."""

    async def keep():
        async with await connect_async(api.settings, Role.SCHEDULER) as connection:
            for decision in decisions:
                await record(connection, [decision], decision.decided_at)

    asyncio.run(keep())


@pytest.fixture
def work(api):
    """A customer's work: no place at first, though a cloud would do, then one."""
    with api.client("customer") as own:
        made = own.post("/api/v1/workloads/submit", json={"gpu_count": 4, "gpu_type": "H100"}).json()["workload_id"]
    none = Decision(
        made, 1, "overflow", None, None, 4, 10.0, None, None, None, "no suitable resources available", WORDS[1:], NOON,
        "market", "", 148.2, NOON + timedelta(hours=15),
    )  # fmt: skip
    placed = Decision(
        made, 2, "placed", "hou-1", "h100", 4, 0.2, 5.0, 71.25, 0.7, "Latency: 5ms, Cost: $0.20/hr, Utilization: 0.0%",
        WORDS, NOON + timedelta(minutes=1),
    )  # fmt: skip
    decided(api, none, placed)
    return made


def test_staff_read_each_groups_verdict_and_the_cloud_that_nobody_rents(api, work):
    with api.client("viewer") as viewer:
        reply = viewer.get(f"/api/v1/workloads/{work}/decisions")
    assert reply.status_code == 200, reply.text
    told = reply.json()
    placed, none = told["items"]
    assert (told["status"], told["is_waiting"], told["next"]) == ("queued", True, None)
    assert placed["groups"][0]["group"] == "hou-1/h100"
    assert (placed["groups"][0]["score"], placed["groups"][0]["why_not"], placed["cloud"]) == (71.25, "", None)
    assert {one["group"]: one["why_not"] for one in none["groups"]} == dict(WORDS[1:])
    assert (none["outcome"], none["facility_id"], none["target_resources"]) == ("overflow", None, [])
    assert none["cloud"] == {"provider": "market", "region": "", "usd": 148.2, "done_at": "2025-01-02T03:00:00Z"}


def test_a_customer_reads_its_own_and_no_word_of_staff_policies_or_others_work(api, work):
    with api.client("customer") as own, api.client("other") as other:
        reply = own.get(f"/api/v1/workloads/{work}/decisions")
        strangers = other.get(f"/api/v1/workloads/{work}/decisions")
    told = {one["group"]: one["why_not"] for one in reply.json()["items"][0]["groups"]}
    assert told == {
        "hou-1/h100": "", "hou-1/a100": "has no H100", "hou-2/h100": NOT_OPEN, "dal-1/h100": TOO_FEW, "dal-2/h100": TOO_FEW,
        "dal-3/h100": "40 ms away, 10.0 ms are allowed",
    }  # fmt: skip
    for secret in (OTHERS, "ann", "bob", "cable", "policy"):
        assert secret not in reply.text
    assert strangers.status_code == 404


def test_pages_go_back_in_time_and_the_client_reads_what_the_api_tells(api, work):
    path = f"/api/v1/workloads/{work}/decisions"
    with api.client("viewer") as viewer:
        first = viewer.get(path, params={"limit": 1}).json()
        then = viewer.get(path, params={"limit": 1, "after": first["next"]}).json()
        assert viewer.get(path, params={"after": "nonsense"}).status_code == 400
    assert [one["items"][0]["outcome"] for one in (first, then)] == ["placed", "overflow"]
    assert then["next"] is None
    with Client(api.base_url, api.people["customer"].key) as client:
        found = client.decisions(work, limit=1)
    assert found.model_dump(mode="json")["items"][0]["groups"][0] == first["items"][0]["groups"][0]
