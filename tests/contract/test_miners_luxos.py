"""LuxOS beyond what pyasic does: the one session, curtail, profiles, pools. By a bare socket."""

import json

import pytest

from simulators.addresses import address_of
from tests.support.miners import ECO, FULL, OFF, PYASIC_WARNINGS, Hall, talk, within

pytestmark = PYASIC_WARNINGS


@pytest.fixture
async def hall(tmp_path):
    async with Hall(tmp_path, "luxos") as hall:
        hall.set(0, FULL)
        yield hall


async def ask(hall, command, *items, slot=0):
    request = {"command": command} | ({"parameter": ",".join(items)} if items else {})
    reply = await talk(address_of(0, slot), hall.port(4028), json.dumps(request).encode())
    assert reply.endswith(b"\0")
    return json.loads(reply[:-1])


async def told(hall, command, *items, **how):
    status = (await ask(hall, command, *items, **how))["STATUS"][0]
    return status["STATUS"], status["Code"]


async def log_on(hall):
    return (await ask(hall, "logon"))["SESSION"][0]["SessionID"]


async def test_one_session_at_a_time(hall):
    assert (await ask(hall, "session"))["SESSION"][0]["SessionID"] == ""
    session = await log_on(hall)
    assert (await ask(hall, "session"))["SESSION"][0]["SessionID"] == session
    assert (await told(hall, "logon"))[0] == "E", "another controller has to wait"
    for wrong in ("", "wrong"):
        assert (await told(hall, "curtail", wrong, "sleep"))[0] == "E"
    assert hall.truth(0).state == FULL
    hall.pass_s(45)
    assert await told(hall, "ledset", session, "red", "blink") == ("S", 326)
    hall.pass_s(45)
    assert (await told(hall, "curtail", session, "sleep")) == ("S", 335), "each use lengthens it"
    hall.pass_s(61)
    assert (await told(hall, "curtail", session, "wakeup"))[0] == "E"
    again = await log_on(hall)
    assert again != session
    assert (await told(hall, "logoff", again))[0] == "S"
    assert (await told(hall, "logon")) == ("S", 316)


async def test_curtail(hall):
    session = await log_on(hall)
    assert (await ask(hall, "curtail", session, "sleep"))["CURTAIL"] == [{"Action": "sleep mode"}]
    assert hall.truth(0).state == OFF
    assert (await ask(hall, "config"))["CONFIG"][0]["CurtailMode"] == "Sleep"
    assert (await ask(hall, "curtail", session, "wakeup"))["CURTAIL"] == [{"Action": "wake up"}]
    assert hall.truth(0).state == FULL
    assert (await told(hall, "curtail", session, "nap"))[0] == "E"
    assert (await told(hall, "curtail", session))[0] == "E"


async def test_every_profile_draws_and_hashes_what_it_says(hall):
    rows = (await ask(hall, "profiles"))["PROFILES"]
    assert [row["Watts"] for row in rows] == sorted(row["Watts"] for row in rows)
    assert rows[-1]["Profile Name"] == "default"
    assert len(rows) > 8
    factor = hall.truth(0).power_w / 3500
    for row in rows:
        session = (await ask(hall, "session"))["SESSION"][0]["SessionID"] or await log_on(hall)
        reply = await ask(hall, "profileset", session, row["Profile Name"])
        assert reply["PROFILE"][0]["Profile"] == row["Profile Name"]
        hall.pass_s(300)
        truth = hall.truth(0)
        assert truth.power_w == pytest.approx(row["Watts"], rel=0.03 + abs(1 - factor))
        assert truth.hashrate_th_per_s == pytest.approx(row["Hashrate"], rel=0.06)
        assert (await ask(hall, "config"))["CONFIG"][0]["Profile"] == row["Profile Name"]
        assert (await ask(hall, "power"))["POWER"] == [{"Watts": round(truth.power_w), "PSU": True}]


async def test_a_profile_set_asleep_is_taken_at_the_next_wake(hall):
    session = await log_on(hall)
    await ask(hall, "curtail", session, "sleep")
    await ask(hall, "profileset", session, "416MHz")
    assert hall.truth(0).state == OFF
    await ask(hall, "curtail", session, "wakeup")
    hall.pass_s(300)
    assert hall.truth(0).state == ECO
    session = await log_on(hall)
    assert (await ask(hall, "profileset", session, "0", "default"))["PROFILE"][0]["Profile"] == "default", (
        "the old form"
    )
    assert (await told(hall, "profileset", session, "turbo"))[0] == "E"
    assert (await told(hall, "profileset", session))[0] == "E"
    assert hall.truth(0).state == FULL


async def test_a_state_set_by_the_gateway_is_the_profile_shown(hall):
    hall.set(0, ECO)
    assert (await ask(hall, "config"))["CONFIG"][0]["Profile"] == "416MHz"
    hall.set(0, FULL)
    assert (await ask(hall, "config"))["CONFIG"][0]["Profile"] == "default"


async def test_pools(hall):
    for _ in range(3):
        assert (await told(hall, "removepool", "0"))[0] == "S"
    assert (await told(hall, "removepool", "0"))[0] == "E"
    assert (await told(hall, "removepool", "x"))[0] == "E"
    hall.pass_s(300)
    assert hall.truth(0).hashrate_th_per_s == 0
    assert (await told(hall, "addpool", "stratum+tcp://z.invalid:1", "user"))[0] == "S"
    rows = (await ask(hall, "pools"))["POOLS"]
    assert [(row["URL"], row["User"], row["GROUP"]) for row in rows] == [("stratum+tcp://z.invalid:1", "user", 0)]
    hall.pass_s(300)
    assert hall.truth(0).hashrate_th_per_s > 180
    assert (await told(hall, "addpool", ""))[0] == "E"


async def test_joined_reads(hall):
    names = "fans+pools+stats+version+config+power+profiles+summary+tempctrl+groups+atm+temps+devs+devdetails+limits"
    reply = await ask(hall, names)
    assert set(reply) == {*names.split("+"), "id"}
    assert all(part[0]["STATUS"][0]["STATUS"] == "S" for name, part in reply.items() if name != "id")
    stats = reply["stats"][0]["STATS"][1]
    assert sum(float(stats[f"chain_rate{n}"]) for n in (1, 2, 3)) == pytest.approx(stats["GHS 5s"], abs=0.05)
    assert all(int(one) > 0 for n in (1, 2, 3) for one in stats[f"temp_chip{n}"].split("-"))
    assert reply["version"][0]["STATUS"][0]["Description"].startswith("LUXminer 2025.")
    assert await told(hall, "no such thing") == ("E", 14)


async def test_versions(tmp_path):
    async with Hall(tmp_path, "luxos@2024-01", "luxos@estimate") as hall:
        for slot in (0, 16):
            hall.set(slot, FULL)
        assert (await within((await hall.miner(0)).get_data())).fw_ver is None
        assert (await ask(hall, "power", slot=16))["POWER"] == [{"Watts": 3500, "PSU": False}]
        hall.set(16, OFF)
        assert (await ask(hall, "power", slot=16))["POWER"] == [{"Watts": 0, "PSU": False}]


async def test_the_automatic_tuner_is_switched_off_and_on_around_a_limit(hall):
    session = await log_on(hall)
    assert (await ask(hall, "atmset", session, "enabled=true"))["ATM"] == [{"Enabled": True}]
    miner = await hall.miner(0)
    assert await within(miner.set_power_limit(3000)) is True
    assert (await ask(hall, "atm"))["ATM"][0]["Enabled"] is True
    hall.pass_s(300)
    assert hall.truth(0).power_w <= 3000
