"""What the API tells of prices, scores, policies and resources is what Postgres, and a real gateway, have."""

import asyncio
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hcp_pipelines.fleet.solve_sites import load_sites
from hcp_pipelines.optimizer.load import load_inputs
from hcp_pipelines.optimizer.publish import publish_all, write_scores
from hcp_pipelines.optimizer.scores import score_facilities
from hcp_pipelines.optimizer.solve import solve_facility
from tests.support.api import running_api, with_fleet
from tests.support.cli import hcp
from tests.support.edge import until
from tests.support.operated_site import FACILITY, GPUS, MINERS, OperatedSite

__all__ = ["hcp"]
INSERT = """
    insert into price_data (stream, series, "timestamp", price_type, value, unit, source, quality, revision, received_at)
    values (%s, %s, %s, %s, %s, 'x', 'test', %s, %s, %s) returning id"""


def tick(database, stream, series, value, at, quality="good", revision=0):
    kind = {"power": "electricity", "gpu": "gpu_spot"}.get(stream.split(".")[0], stream.removeprefix("btc.")[:7])
    kind = "btc" if kind == "usd" else kind
    return database.execute(INSERT, (stream, series, at, kind, value, quality, revision, at)).fetchone()[0]


@pytest.fixture
def now():
    return datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)


@pytest.fixture
def market(database, settings, now):
    """Two facilities, an hour of prices, a solve with its scores and policies."""
    with_fleet(settings)
    for n in range(12):
        for point in ("HB_HOUSTON", "HB_NORTH"):
            tick(database, "power.rt_lmp", point, 20.0 + n, now - timedelta(minutes=5 * n))
    for series, value in (("difficulty", 109.78e12), ("fees_btc_per_block", 0.08), ("height", 877_000.0)):
        tick(database, "btc.network", series, value, now)
    tick(database, "btc.usd", "consensus", 93_500.0, now)
    newest = tick(database, "gpu.spot", "H100", 2.4, now)
    inputs = load_inputs(database, load_sites(database), now)
    write_scores(database, score_facilities(inputs), newest, now)
    publish_all(database, [solve_facility(one) for one in inputs])
    return newest


@pytest.fixture
def api(settings, market):
    with running_api(settings) as running:
        yield running


def test_current_prices_are_the_newest_that_may_be_acted_on(api, database, now):
    tick(database, "power.rt_lmp", "HB_HOUSTON", 9e9, now + timedelta(seconds=1), quality="absurd")
    with api.client("customer") as client:
        prices = client.get("/api/v1/economic/prices/current", params={"type": "electricity"}).json()["prices"]
    assert {(one["series"], one["value"]) for one in prices} == {("HB_HOUSTON", 20.0), ("HB_NORTH", 20.0)}


def test_history_comes_in_pages_ascending_with_the_newest_revision(api, database, now):
    tick(database, "power.rt_lmp", "HB_HOUSTON", 77.0, now - timedelta(minutes=10), revision=1)
    asked = {"type": "electricity", "series": "HB_HOUSTON", "limit": 5}
    found, after = [], None
    with api.client("viewer") as client:
        while True:
            reply = client.get("/api/v1/economic/prices/history", params=asked | ({"after": after} if after else {}))
            found += reply.json()["items"]
            after = reply.json()["next"]
            if after is None:
                break
        ended = client.get(
            "/api/v1/economic/prices/history", params=asked | {"end": (now - timedelta(minutes=30)).isoformat()}
        )
        backwards = {"start": now.isoformat(), "end": now.isoformat()}
        assert client.get("/api/v1/economic/prices/history", params=asked | backwards).status_code == 400
    assert [one["value"] for one in found] == [31, 30, 29, 28, 27, 26, 25, 24, 23, 77, 21, 20]
    assert [one["timestamp"] for one in found] == sorted(one["timestamp"] for one in found)
    assert [one["value"] for one in ended.json()["items"]] == [31, 30, 29, 28, 27], "the end itself is not in it"


def test_statistics_are_of_each_series_and_volatility_of_differences_for_power(api):
    with api.client("viewer") as client:
        found = client.get("/api/v1/economic/statistics", params={"type": "electricity", "days": 1}).json()["items"]
    houston = next(one for one in found if one["series"] == "HB_HOUSTON")
    assert (houston["count"], houston["mean"], houston["min"], houston["max"]) == (12, 25.5, 20.0, 31.0)
    assert houston["volatility"] == pytest.approx(0.0), "each step is one dollar"


def test_scores_are_those_of_the_newest_tick_and_can_be_calculated_anew(api, database):
    with api.client("viewer") as client:
        kept = client.get("/api/v1/economic/profitability/hou-1/h100").json()["items"]
        of_device = client.get("/api/v1/economic/profitability/hou-1/000000").json()["items"]
        body = {"resource_id": "hou-1/h100", "workload_type": "ai_inference_batch"}
        fresh = client.post("/api/v1/economic/profitability/calculate", json=body)
        assert fresh.status_code == 200, fresh.text
        stored = next(one for one in kept if one["workload_type"] == "ai_inference_batch")
        assert fresh.json()["net_profit"] == pytest.approx(stored["net_profit"])
        assert of_device[0]["resource_id"] == "hou-1/s21", "slot 0 is a miner"
        wrong = body | {"workload_type": "bitcoin_mining"}
        assert client.post("/api/v1/economic/profitability/calculate", json=wrong).status_code == 422
        assert client.get("/api/v1/economic/profitability/hou-1/none").status_code == 404


def test_policies_and_decisions(api, database, now):
    database.execute(
        """insert into allocation_history ("timestamp", facility_id, resource_id, resource_type, recommended_workload,
               actual_workload, devices, expected_profit)
           select %s, 'hou-1', 'hou-1/s21', 'ASIC', 'curtailed', 'bitcoin_mining', n, n from generate_series(1, 3) n""",
        (now,),
    )
    with api.client("viewer") as client:
        heads = client.get("/api/v1/economic/policies").json()["items"]
        whole = client.get("/api/v1/economic/policies/hou-1").json()
        first = client.get("/api/v1/economic/decisions", params={"facility_id": "hou-1", "limit": 2}).json()
        asked = {"facility_id": "hou-1", "limit": 2, "after": first["next"]}
        second = client.get("/api/v1/economic/decisions", params=asked).json()
    assert [(one["facility_id"], one["is_admitted"]) for one in heads] == [("hou-1", None), ("nor-1", None)]
    assert whole["body"]["facility_id"] == "hou-1"
    assert [one["devices"] for one in first["items"] + second["items"]] == [3, 2, 1]
    assert second["next"] is None


def test_resources_are_groups_with_their_devices_behind_them(api, database):
    database.execute("update resources set status = 'failed' where id = 'hou-1/000001'")
    database.execute("""update resources set metadata = '{"presence": "vanished"}' where id = 'hou-1/000002'""")
    with api.client("viewer") as client:
        groups = client.get("/api/v1/resources", params={"facility_id": "hou-1"}).json()["items"]
        s21 = client.get("/api/v1/resources/hou-1/s21").json()
        failed = client.get("/api/v1/resources/hou-1/s21/devices", params={"status": "failed"}).json()["items"]
        device = client.get("/api/v1/resources/hou-1/000002").json()
        health = client.get("/api/v1/resources/hou-1/s21/health").json()
        free = client.get("/api/v1/resources/availability", params={"facility_id": "hou-1"}).json()["items"]
        assert client.get("/api/v1/resources/hou-1/999999").status_code == 404
        every = client.get("/api/v1/resources/hou-1/s21/devices", params={"limit": 200}).json()
    assert sum(one["devices"] for one in groups) == 150
    assert s21["status"] == {"available": 48, "allocated": 0, "maintenance": 0, "failed": 1, "vanished": 1}
    assert [one["id"] for one in failed] == ["hou-1/000001"]
    assert (device["status"]["vanished"], device["metadata"]) == (1, {"presence": "vanished"})
    assert (device["utilization"], s21["utilization"]) == (None, None), "no gateway can be asked"
    assert (health["status"], len(health["issues"])) == ("Unknown", 2), "no gateway tells more than the inventory"
    assert next(one for one in free if one["subtype"] == "S21")["available"] == 48
    assert len(every["items"]) == 50


def test_without_a_gateway_nothing_is_said_of_what_devices_do(api):
    with api.client("viewer") as client:
        found = client.get("/api/v1/resources/utilization", params={"type": "GPU"}).json()["items"]
        explained = client.get("/api/v1/economic/explain/hou-1")
    assert [one["utilization_percent"] for one in found] == [None, None]
    assert explained.status_code == 503
    assert "no gateway is known" in explained.json()["detail"]


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="o", dir="/tmp"))
    yield path
    shutil.rmtree(path)


async def test_what_a_real_gateway_sees_is_told(hcp, folder, settings, database):
    with capture_logs():
        async with OperatedSite(hcp, folder, settings, database) as site:
            await site.start_allocator()
            site.publish_policy()
            await until(lambda: len(site.mining()) == MINERS, "a low price wakes them")
            await until(lambda: not site.facility.state().unfinished_command_ids, "and they settle")
            with running_api(settings) as api, api.client("operator") as client:
                told = await asyncio.to_thread(everything, client)
                assert told["explain"]["policy_id"] == site.owner.in_force.policy_id
    by_type = {one["type"]: one for one in told["utilization"]["items"]}
    assert (by_type["ASIC"]["total"], by_type["ASIC"]["utilization_percent"]) == (MINERS, 100.0)
    assert by_type["GPU"]["total"] == GPUS
    assert told["health"]["status"] == "Healthy"
    assert sum(told["health"]["states"].values()) == MINERS
    assert (told["group"]["utilization"], told["miner"]["utilization"]) == (1.0, 1.0)
    assert told["device"]["states"] == {next(iter(told["health"]["states"])): 1}
    assert sum(block["on_now"] for block in told["explain"]["explanation"]["blocks"]) > 0
    assert told["facility"]["owner"] == "allocator-a"
    switch = told["switches"]["items"][0]
    assert switch["commanded"] == switch["acked"] > 0


def everything(client):
    paths = {
        "utilization": "/api/v1/resources/utilization",
        "health": f"/api/v1/resources/{FACILITY}/s21/health",
        "device": f"/api/v1/resources/{FACILITY}/000003/health",
        "group": f"/api/v1/resources/{FACILITY}/s21",
        "miner": f"/api/v1/resources/{FACILITY}/000003",
        "explain": f"/api/v1/economic/explain/{FACILITY}",
        "facility": f"/api/v1/facilities/{FACILITY}",
        "switches": "/api/v1/switches",
    }
    replies = {name: client.get(path) for name, path in paths.items()}
    assert {name: reply.status_code for name, reply in replies.items()} == dict.fromkeys(paths, 200), replies
    return {name: reply.json() for name, reply in replies.items()}
