"""Stock Antminers beyond what pyasic reads: the web pages, what each firmware version listens to, and how it writes its replies.

By a bare HTTP client with digest authentication (httpx) and a bare socket.
"""

import json

import httpx
import pytest

from hcp_pipelines.devices.firmware import known_versions
from simulators.addresses import address_of
from simulators.miners.firmware import FIRMWARES, firmware_named
from tests.support.miners import ECO, FULL, OFF, PYASIC_WARNINGS, Hall, talk, within

pytestmark = PYASIC_WARNINGS
STOCK = [name for name in FIRMWARES if name.startswith("stock")]
POOLS = [{"url": f"stratum+tcp://{name}.invalid:3333", "user": "u", "pass": "p"} for name in "abc"]


class Web:
    """The pages of one miner."""

    def __init__(self, hall, slot=0, password="root") -> None:
        self._url = f"http://{address_of(0, slot)}:{hall.port(80)}/cgi-bin/"
        self._http = httpx.AsyncClient(auth=httpx.DigestAuth("root", password), timeout=60)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self._http.aclose()

    async def get(self, page, status=200):
        reply = await self._http.get(f"{self._url}{page}.cgi")
        assert reply.status_code == status
        return reply.json() if status == 200 else reply

    async def post(self, page, **body):
        return (await self._http.post(f"{self._url}{page}.cgi", json=body)).json()


async def ask(hall, slot, command, **more):
    request = json.dumps({"command": command} | more).encode()
    return await talk(address_of(0, slot), hall.port(4028), request)


@pytest.fixture
async def hall(tmp_path):
    async with Hall(tmp_path, "stock") as hall:
        hall.set(0, FULL)
        yield hall


async def test_both_surfaces_tell_the_same(hall):
    async with Web(hall) as web:
        stats, summary, pools = [await web.get(page) for page in ("stats", "summary", "pools")]
    joined = json.loads((await ask(hall, 0, "summary+stats+pools+version"))[:-1])
    assert set(joined) == {"summary", "stats", "pools", "version", "id"}
    classic = joined["stats"][0]["STATS"][1]
    assert stats["STATS"][0]["rate_5s"] == summary["SUMMARY"][0]["rate_5s"] == classic["GHS 5s"]
    assert joined["summary"][0]["SUMMARY"][0]["GHS 5s"] == classic["GHS 5s"]
    chains = stats["STATS"][0]["chain"]
    assert [f"{chain['rate_real']:.2f}" for chain in chains] == [classic[f"chain_rate{n}"] for n in (1, 2, 3)]
    assert sum(chain["rate_real"] for chain in chains) == pytest.approx(classic["GHS 5s"], abs=0.02)
    assert ["-".join(map(str, chain["temp_chip"])) for chain in chains] == [classic[f"temp_chip{n}"] for n in (1, 2, 3)]
    assert stats["STATS"][0]["fan"] == [classic[f"fan{n}"] for n in (1, 2, 3, 4)]
    accepted = joined["summary"][0]["SUMMARY"][0]["Accepted"]
    assert pools["POOLS"][0]["accepted"] == joined["pools"][0]["POOLS"][0]["Accepted"] == accepted > 100
    assert classic["chain_rate4"] == ""
    new = json.loads((await ask(hall, 0, "stats", new_api=True))[:-1])
    assert new == stats
    nested = json.loads((await ask(hall, 0, "stats", parameter={"new_api": True}))[:-1])
    assert "chain_rate1" in nested["STATS"][1], "the flag counts at the top only"


async def test_shares_follow_from_hashes(hall):
    row = json.loads((await ask(hall, 0, "summary"))[:-1])["SUMMARY"][0]
    truth = hall.truth(0)
    assert row["Total MH"] == pytest.approx(truth.accepted_shares * 131072 * 2**32 / 1e6)
    assert row["Difficulty Accepted"] == truth.accepted_shares * 131072
    assert row["Total MH"] == pytest.approx(1e6 * truth.hashrate_th_per_s * truth.uptime_s, rel=0.05)


async def test_pages_want_the_password_and_unknown_ones_are_html(hall):
    async with Web(hall, password="wrong") as web:
        refused = await web.get("get_system_info", 401)
        assert 'realm="antMiner Configuration"' in refused.headers["www-authenticate"]
    async with Web(hall) as web:
        missing = await web.get("../kaonsu/v1/brief", 404)
        assert missing.headers["content-type"] == "text/html"
        with pytest.raises(json.JSONDecodeError):
            missing.json()
        await web.get("no_such_page", 404)
        info = await web.get("get_system_info")
        assert info["minertype"] == (await web.get("miner_type"))["miner_type"] == "Antminer S21"
        assert info["macaddr"] == (await web.get("get_network_info"))["macaddr"] == "02:48:7F:10:00:01"
        assert info["ipaddress"] == "127.16.0.1"


async def test_one_connection_carries_many_requests(hall):
    async with Web(hall) as web:
        for _ in range(3):
            await web.get("summary")
        assert len(hall.server.desk.open) == 1


async def test_modes_and_pools_by_the_page_itself(hall):
    async with Web(hall) as web:
        for mode, state in [(3, ECO), ("0", FULL), (1, OFF), (0, FULL)]:
            assert await web.post("set_miner_conf", **{"miner-mode": mode}) == {
                "stats": "success",
                "code": "M000",
                "msg": "OK!",
            }
            hall.pass_s(300)
            assert hall.truth(0).state == state
            assert (await web.get("get_miner_conf"))["bitmain-work-mode"] == int(mode)
        await web.post("set_miner_conf", **{"miner-mode": 2})
        assert hall.truth(0).state == FULL, "there is no high-power state in this world"
        await web.post("set_miner_conf", pools=POOLS[:1])
        conf = await web.get("get_miner_conf")
        assert [pool["url"][14:20] for pool in conf["pools"]] == ["a.inva", "pool-1", "pool-2"], "only the places sent"
        assert (await web.post("set_miner_conf", pools="none"))["code"] == "M001"
        assert (await web.post("set_miner_conf", pools=[{"url": 5}]))["code"] == "M001"
        assert await web.get("get_miner_conf") == conf
        assert (await web.post("blink", blink="maybe"))["code"] == "B001"
        await web.post("set_miner_conf", **{"bitmain-fan-ctrl": True, "bitmain-fan-pwm": 70, "bitmain-fan-pwn": 10})
        conf = await web.get("get_miner_conf")
        assert (conf["bitmain-fan-ctrl"], conf["bitmain-fan-pwm"]) == (True, "70")


async def test_emptying_the_pools_of_a_machine_that_mines_stops_it(hall):
    empty = [{"url": "", "user": "", "pass": ""}] * 3
    async with Web(hall) as web:
        await web.post("set_miner_conf", pools=empty)
        hall.pass_s(300)
        assert (hall.truth(0).state, hall.truth(0).hashrate_th_per_s) == (FULL, 0.0)
        assert hall.truth(0).power_w < 100
        await web.post("set_miner_conf", pools=POOLS)
        hall.pass_s(300)
        assert hall.truth(0).hashrate_th_per_s > 180


async def test_a_command_is_in_the_devices_log_under_its_own_ref(hall):
    import uuid

    async with Web(hall) as web:
        await web.post("set_miner_conf", **{"miner-mode": 1})
    line = hall.log()[-1]
    assert (line["state"], line["changed"], line["assignment"]) == (OFF, 1, 0)
    assert line["ref"] == str(uuid.uuid5(uuid.NAMESPACE_URL, "protocol/antminer/one/0"))


EFFECTIVE = {  # what stops each version: the newer key alone, the older one alone, both, the newer one without pools
    "stock": (True, True, True, True),
    "stock@2022-12": (True, False, True, False),
    "stock@2025-02": (False, False, False, False),
    "stock@2025-10": (False, False, True, False),
}


@pytest.mark.parametrize("name", EFFECTIVE)
async def test_what_each_version_listens_to(tmp_path, name):
    bodies = [
        {"miner-mode": 1, "pools": POOLS},
        {"bitmain-work-mode": 1, "pools": POOLS},
        {"miner-mode": 1, "bitmain-work-mode": 1, "pools": POOLS},
        {"miner-mode": 1},
    ]
    outcomes = []
    async with Hall(tmp_path, name, speed=1000) as hall, Web(hall) as web:
        for body in bodies:
            hall.set(0, FULL)
            assert (await web.post("set_miner_conf", **body))["code"] == "M000"
            hall.pass_s(300)
            outcomes.append(hall.truth(0).state == OFF)
        url = (await web.get("get_miner_conf"))["pools"][0]["url"]
        assert url == ("stratum+tcp://pool-0.invalid:3333" if name == "stock@2025-02" else POOLS[0]["url"])
    assert tuple(outcomes) == EFFECTIVE[name]


@pytest.mark.parametrize(("name", "awake"), [("stock", 0), ("stock@2022-12", "0"), ("stock@blank-mode", "")])
async def test_how_a_version_writes_its_mode(tmp_path, name, awake):
    async with Hall(tmp_path, name) as hall, Web(hall) as web:
        hall.set(0, FULL)
        assert (await web.get("get_miner_conf"))["bitmain-work-mode"] == awake
        hall.set(0, OFF)
        assert (await web.get("get_miner_conf"))["bitmain-work-mode"] == {0: 1, "0": "1", "": "1"}[awake]


async def test_replies_of_december_2022_are_not_json(tmp_path):
    async with Hall(tmp_path, "stock@2022-12") as hall, Web(hall) as web:
        hall.set(0, FULL)
        raw = await ask(hall, 0, "stats")
        with pytest.raises(json.JSONDecodeError):
            json.loads(raw[:-1])
        value = json.loads(raw[:-1].replace(b"}{", b"},{"))
        assert isinstance(value["STATS"][1]["GHS 5s"], str)
        assert (
            "chain_rate1"
            in json.loads((await ask(hall, 0, "stats", new_api=True))[:-1].replace(b"}{", b"},{"))["STATS"][1]
        )
        await web.get("miner_type", 404)
        miner = await hall.miner(0)
        data = await within(miner.get_data())
        assert float(data.hashrate) == pytest.approx(hall.truth(0).hashrate_th_per_s, rel=1e-3)
        assert len(data.pools) == 3, "other lists keep their commas"


async def test_replies_of_october_2025(tmp_path):
    async with Hall(tmp_path, "stock@2025-10") as hall, Web(hall) as web:
        hall.set(0, FULL)
        classic = json.loads((await ask(hall, 0, "stats"))[:-1])["STATS"][1]
        assert "temp_pcb1" not in classic
        assert len(classic["temp_in_pcb_1"].split("-")) == len(classic["temp_out_pcb_1"].split("-")) == 2
        new = json.loads((await ask(hall, 0, "stats", new_api=True))[:-1])
        assert new["STATS"][0]["power"] == round(hall.truth(0).power_w)
        info = await web.get("get_system_info")
        assert "serinum" not in info
        assert info["serial_no"].startswith("HCP")
        assert (await within((await hall.miner(0)).get_data())).serial_number is None


async def test_versions_that_refuse_joined_commands_or_name_a_board(tmp_path):
    async with Hall(tmp_path, "stock@no-joined", "stock@board-code") as hall:
        for slot in (0, 16):
            hall.set(slot, FULL)
        refused = json.loads((await ask(hall, 0, "version+stats"))[:-1])
        assert (refused["STATUS"][0]["STATUS"], refused["STATUS"][0]["Code"]) == ("E", 14)
        data = await within((await hall.miner(0)).get_data())
        assert float(data.hashrate) > 180, "pyasic asks one by one then"
        assert json.loads((await ask(hall, 16, "version"))[:-1])["VERSION"][0]["Type"] == "Antminer BHB68601"


async def test_the_newer_shape_is_of_one_command_at_a_time_and_asked_for_at_the_top(hall):
    hall.set(0, FULL)
    assert json.loads((await ask(hall, 0, "stats", new_api=True))[:-1])["STATUS"]["STATUS"] == "S"
    joined = json.loads((await ask(hall, 0, "stats+summary", new_api=True))[:-1])
    assert (joined["STATUS"]["STATUS"], joined["STATUS"]["Msg"]) == ("E", "Invalid command")
    assert "STATS" not in joined
    for said in ({"new_api": "true"}, {"parameter": {"new_api": True}}):
        assert isinstance(json.loads((await ask(hall, 0, "stats", **said))[:-1])["STATUS"], list), "the older one"


async def test_a_reply_that_takes_21_seconds(tmp_path):
    import asyncio

    async with Hall(tmp_path, "stock@2022-12", speed=50) as hall, Web(hall) as web:
        hall.set(0, FULL)
        loop = asyncio.get_running_loop()
        begin = loop.time()
        await web.post("set_miner_conf", **{"miner-mode": 1, "pools": POOLS})
        assert 21 / 50 <= loop.time() - begin < 21
        assert hall.truth(0).state == OFF


def test_firmware_names():
    assert firmware_named("stock@2022-12").config_reply_s == 21
    assert firmware_named("braiins").name == firmware_named("vnish@1.2.6").name == "stock", (
        "not served: they answer as stock"
    )
    assert len(STOCK) == 8


def test_the_platform_knows_the_versions_that_are_served():
    assert {name for one in FIRMWARES for name in known_versions(one)} == set(FIRMWARES)


async def test_a_version_that_nobody_serves_answers_as_its_family_and_is_told_once(tmp_path, caplog):
    async with Hall(tmp_path, "luxos@2099") as hall:
        reply = await talk(address_of(0, 0), hall.port(4028), b'{"command":"version"}')
        assert FIRMWARES["luxos"].version.encode() in reply
    assert [r.getMessage() for r in caplog.records if "luxos@2099" in r.getMessage()] == [
        "firmware 'luxos@2099' is not served (docs/protocols.md); its miners answer as luxos"
    ]


def test_the_page_of_protocols_lists_every_firmware():
    import re
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "protocols.md").read_text()
    table = page.split("| firmware | what differs |")[1].split("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`([^`]+)`", row)} == set(FIRMWARES)
