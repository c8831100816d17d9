"""Simulated miners against pyasic 0.79, the library that miners' owners use: identify, read, stop, resume, limit.

pyasic's ports are constants: here they are mapped to free ones (tests/support/miners.py), so that tests can run beside each
other; test_miners_ports.py has the same on the true ports.
"""

import asyncio

import pytest
from pyroaring import BitMap

from tests.support.miners import ECO, FULL, OFF, PYASIC_WARNINGS, APIError, Hall, MiningModeConfig, pyasic, within

pytestmark = PYASIC_WARNINGS
DIALECTS = ["stock", "whatsminer", "whatsminer-v3", "luxos"]


@pytest.fixture
async def hall(tmp_path):
    async with Hall(tmp_path, *DIALECTS) as hall:
        yield hall


@pytest.fixture
def patience():
    """Change how long pyasic waits, for one test."""
    before = {}

    def change(**seconds):
        for name, value in seconds.items():
            before[name] = pyasic.settings.get(name)
            pyasic.settings.update(name, value)

    yield change
    for name, value in before.items():
        pyasic.settings.update(name, value)


SLOT = {name: 16 * number for number, name in enumerate(DIALECTS)}
CLASSES = {
    "stock": ("BMMinerS21", "AntminerModern", "S21", "Stock"),
    "whatsminer": ("BTMinerM60SVK30", "BTMinerV2", "M60S VK30", "Stock"),
    "whatsminer-v3": ("BTMinerM60SVK30", "BTMinerV3", "M60S VK30", "Stock"),
    "luxos": ("LUXMinerS21", "LUXMiner", "S21", "LuxOS"),
}


def log_in_anew(miner):
    """Forget what ends: a session of LuxOS a minute after its last use, a token of WhatsMiner after half an hour."""
    miner.rpc.session_token = miner.rpc.token = None


@pytest.mark.parametrize("name", DIALECTS)
async def test_a_miner_is_identified(hall, name):
    miner = await hall.miner(SLOT[name])
    cls, backend, model, firmware = CLASSES[name]
    assert type(miner).__name__ == cls
    assert backend in {base.__name__ for base in type(miner).__mro__}
    assert (str(miner.raw_model.value), str(miner.firmware.value)) == (model, firmware)


@pytest.mark.parametrize("name", DIALECTS)
async def test_what_is_read_is_the_truth(hall, name):
    slot = SLOT[name]
    hall.set(slot, FULL)
    miner = await hall.miner(slot)
    data, truth = await within(miner.get_data()), hall.truth(slot)
    assert truth.power_w > 3300
    assert float(data.hashrate) == pytest.approx(truth.hashrate_th_per_s, rel=1e-3)
    assert [float(board.hashrate) for board in data.hashboards] == pytest.approx(
        list(truth.board_hashrates_th_per_s), rel=1e-3
    )
    assert data.total_chips == data.expected_chips
    assert [fan.speed for fan in data.fans] == list(truth.fan_rpm)
    assert data.uptime == int(truth.uptime_s)
    assert data.errors == []
    assert data.fault_light is False
    temperature = {"whatsminer-v3": truth.chip_temperature_c}.get(name, truth.board_temperature_c)
    assert data.temperature_avg == pytest.approx(temperature, abs=4)
    if name != "stock":
        assert data.wattage == round(truth.power_w)
        assert data.wattage_limit == {"luxos": 3500}.get(name, 3441)
    else:
        assert data.wattage is None  # 0.79 has no reader for it
        assert data.wattage_limit is None
    if name.startswith("whatsminer"):
        assert data.env_temp == pytest.approx(truth.ambient_c, abs=0.1)
        assert float(data.expected_hashrate) == 186
    else:
        assert float(data.expected_hashrate) == pytest.approx(truth.nominal_hashrate_th_per_s, rel=1e-3)
    if name != "whatsminer-v3":  # there pyasic looks for them where they are not
        assert [pool.accepted for pool in data.pools] == [truth.accepted_shares, 0, 0]
        assert data.pools[0].alive
        assert data.pools[0].active
    else:
        assert data.pools == []
    if name != "luxos":  # its MAC and serial number are not read
        assert data.mac == f"02:48:7F:10:00:{slot + 1:02X}"
        assert data.serial_number.startswith("HCP0213")
        assert data.hostname.endswith(f"16-0-{slot + 1}")


@pytest.mark.parametrize("name", DIALECTS)
async def test_stop_and_resume_change_power_and_hashrate(hall, name):
    slot = SLOT[name]
    hall.set(slot, FULL)
    miner = await hall.miner(slot)
    assert await within(miner.stop_mining()) is True
    hall.pass_s(600)
    truth = hall.truth(slot)
    assert (truth.state, truth.power_w, truth.hashrate_th_per_s) == (OFF, 25.0, 0.0)
    assert float((await within(miner.get_data())).hashrate) == 0
    is_mining = await within(miner.is_mining())
    assert is_mining is {"stock": False, "whatsminer": False}.get(name)  # the others are not read
    log_in_anew(miner)
    assert await within(miner.resume_mining()) is True
    hall.pass_s(600)
    truth = hall.truth(slot)
    assert truth.state == FULL
    assert truth.power_w > 3300
    assert truth.hashrate_th_per_s > 180
    assert [line["state"] for line in hall.log()[-2:]] == [OFF, FULL]


@pytest.mark.parametrize("name", ["whatsminer", "whatsminer-v3", "luxos"])
async def test_a_power_limit_holds(hall, name):
    slot = SLOT[name]
    hall.set(slot, FULL)
    full_ths = hall.truth(slot).hashrate_th_per_s
    miner = await hall.miner(slot)
    for watts, state in [(3100, FULL), (2800 if name == "luxos" else 2750, ECO), (2300, ECO)]:
        log_in_anew(miner)
        assert await within(miner.set_power_limit(watts)) is True
        hall.pass_s(600)
        truth, data = hall.truth(slot), await within(miner.get_data())
        assert truth.power_w == pytest.approx(watts, rel=0.05 if name == "luxos" else 1e-3)
        assert truth.hashrate_th_per_s < full_ths
        assert truth.state == state
        assert data.wattage == round(truth.power_w)
        assert data.wattage_limit == pytest.approx(watts, rel=0.05 if name == "luxos" else 0)
        assert data.wattage_limit <= watts
        assert float(data.hashrate) == pytest.approx(truth.hashrate_th_per_s, rel=1e-3)
        full_ths = truth.hashrate_th_per_s
    log_in_anew(miner)
    assert await within(miner.set_power_limit(3600)) is True
    hall.pass_s(600)
    assert hall.truth(slot).power_w > 3350


async def test_a_token_that_ended_is_kept_by_pyasic_and_refused_by_the_miner(hall):
    slot = SLOT["whatsminer"]
    hall.set(slot, FULL)
    miner = await hall.miner(slot)
    assert await within(miner.stop_mining()) is True
    hall.pass_s(1801)
    assert await within(miner.resume_mining()) is False
    assert hall.truth(slot).state == OFF
    log_in_anew(miner)
    assert await within(miner.resume_mining()) is True


async def test_a_limit_below_what_it_can_run_on_changes_nothing(hall):
    outcomes = {}
    for name in ("whatsminer", "whatsminer-v3", "luxos"):
        hall.set(SLOT[name], FULL)
        miner = await hall.miner(SLOT[name])
        outcomes[name] = await within(miner.set_power_limit(1000))
        hall.pass_s(600)
        assert hall.truth(SLOT[name]).power_w > 3300
    assert outcomes == {"whatsminer": False, "whatsminer-v3": True, "luxos": False}, "V3: any answer is taken for a yes"


async def test_a_session_that_ended_makes_luxos_refuse_what_pyasic_wants(hall):
    slot = SLOT["luxos"]
    hall.set(slot, FULL)
    miner = await hall.miner(slot)
    assert await within(miner.stop_mining()) is True
    hall.pass_s(61)
    assert await within(miner.resume_mining()) is False, "pyasic keeps a session id for ever, the miner for a minute"
    assert hall.truth(slot).state == OFF
    with pytest.raises(APIError, match="Invalid session ID"):
        await within(miner.set_power_limit(3600))
    log_in_anew(miner)
    assert await within(miner.resume_mining()) is True


async def test_a_stock_antminer_takes_no_power_limit_but_modes(hall):
    hall.set(SLOT["stock"], FULL)
    miner = await hall.miner(SLOT["stock"])
    assert await within(miner.set_power_limit(2900)) is False
    config = await within(miner.get_config())
    assert config.mining_mode.mode == "normal"
    for mode, state in [("low", ECO), ("normal", FULL), ("sleep", OFF), ("low", ECO)]:
        config.mining_mode = _mode(mode)
        await within(miner.send_config(config))
        hall.pass_s(600)
        assert hall.truth(SLOT["stock"]).state == state
        assert (await within(miner.get_config())).mining_mode.mode == mode
    assert await within(miner.stop_mining())
    assert await within(miner.resume_mining())
    assert hall.truth(SLOT["stock"]).state == FULL, "resume always means normal: it slept from low power"


def _mode(name):
    return getattr(MiningModeConfig, name)()


async def test_whatsminers_wake_in_the_profile_they_slept_from(hall):
    for name in ("whatsminer", "whatsminer-v3", "luxos"):
        hall.set(SLOT[name], ECO)
        miner = await hall.miner(SLOT[name])
        assert await within(miner.stop_mining())
        assert hall.truth(SLOT[name]).state == OFF
        assert await within(miner.resume_mining())
        assert hall.truth(SLOT[name]).state == ECO, name


async def test_power_modes_of_a_whatsminer(hall):
    slot = SLOT["whatsminer"]
    hall.set(slot, FULL)
    miner = await hall.miner(slot)
    for mode, state in [("low", ECO), ("normal", FULL), ("high", FULL)]:
        config = await within(miner.get_config())
        config.mining_mode = _mode(mode)
        await within(miner.send_config(config))
        assert hall.truth(slot).state == state
    assert [pool.url for pool in (await within(miner.get_config())).pools.groups[0].pools] == [
        f"stratum+tcp://pool-{n}.invalid:3333" for n in range(3)
    ]


async def test_lights(hall):
    for name in DIALECTS:
        miner = await hall.miner(SLOT[name])
        assert await within(miner.fault_light_on()) is True, name
        assert (await within(miner.get_data(include=["fault_light"]))).fault_light is True, name
        is_told_right = name != "stock"  # pyasic says False where it succeeded
        assert await within(miner.fault_light_off()) is is_told_right, name
        assert (await within(miner.get_data(include=["fault_light"]))).fault_light is False, name


@pytest.mark.parametrize("name", DIALECTS)
async def test_a_reboot_closes_the_port_and_ends_as_it_began(hall, name):
    slot = SLOT[name]
    hall.set(slot, ECO)
    miner = await hall.miner(slot)
    assert await within(miner.reboot()) is True
    assert await hall.miner(slot) is None
    hall.pass_s(25)
    assert await hall.miner(slot) is None
    assert hall.truth(slot).power_w < 1000
    hall.pass_s(70)
    again = await hall.miner(slot)
    hall.pass_s(120)
    assert hall.truth(slot).state == ECO
    assert (await within(again.get_data())).uptime < 300


async def test_after_a_reboot_only_a_whatsminer_that_slept_is_awake(hall):
    woken = {}
    for name in DIALECTS:
        hall.set(SLOT[name], FULL)
        miner = await hall.miner(SLOT[name])
        assert await within(miner.stop_mining())
        assert await within(miner.reboot())
        hall.pass_s(100)
        assert await hall.miner(SLOT[name])
        woken[name] = hall.truth(SLOT[name]).state
    assert woken == {"stock": OFF, "whatsminer": FULL, "whatsminer-v3": FULL, "luxos": OFF}


async def test_a_restart_of_the_mining_process_leaves_the_port_open(hall):
    for name in ("whatsminer", "whatsminer-v3", "luxos"):
        hall.set(SLOT[name], FULL)
        miner = await hall.miner(SLOT[name])
        assert await within(miner.restart_backend())
        hall.pass_s(12)
        assert hall.truth(SLOT[name]).hashrate_th_per_s == 0
        assert await hall.miner(SLOT[name])
        hall.pass_s(60)
        assert await hall.miner(SLOT[name])
        hall.pass_s(60)
        assert hall.truth(SLOT[name]).hashrate_th_per_s > 180


# False acks.


async def test_a_read_that_fails_once_makes_pyasic_write_empty_pools_and_the_miner_wakes_without_any(tmp_path):
    async with Hall(tmp_path, "stock") as hall:
        hall.set(0, FULL)
        miner = await hall.miner(0)
        read = miner.web.get_miner_conf
        miner.web.get_miner_conf = _failing_once(read)
        assert await within(miner.stop_mining()) is True
        hall.pass_s(600)
        assert hall.truth(0).state == OFF
        conf = await within(read())
        assert [pool["url"] for pool in conf["pools"]] == ["", "", ""]
        miner = await hall.miner(0)
        assert await within(miner.resume_mining()) is True
        hall.pass_s(600)
        truth = hall.truth(0)
        assert (truth.state, truth.hashrate_th_per_s, truth.power_w) == (FULL, 0.0, 50.0)
        data = await within(miner.get_data())
        assert data.is_mining is True, "it says it mines"
        assert float(data.hashrate) == 0
        assert data.pools == []
        config = await within(miner.get_config())
        config.pools.groups[0].pools[0].url = "stratum+tcp://pool.invalid:3333"
        await within(miner.send_config(config))
        hall.pass_s(600)
        assert hall.truth(0).hashrate_th_per_s > 180


def _failing_once(read):
    calls = []

    async def once():
        calls.append(1)
        return {} if len(calls) == 1 else await read()

    return once


async def test_firmware_that_acknowledges_and_does_nothing(tmp_path):
    async with Hall(tmp_path, "stock@2025-02", "stock@2025-10") as hall:
        for slot in (0, 16):
            hall.set(slot, FULL)
            miner = await hall.miner(slot)
            assert await within(miner.stop_mining()) is True
            hall.pass_s(600)
            truth = hall.truth(slot)
            assert truth.state == FULL
            assert truth.power_w > 3300
            assert await within(miner.is_mining()) is True
        miner = await hall.miner(0)
        assert await within(miner.reboot()) is True
        assert await hall.miner(0) is not None, "nor does it reboot"


async def test_a_reply_after_21_seconds_is_a_yes_as_well(tmp_path, patience):
    patience(api_function_timeout=1)  # pyasic's own is 5 s
    async with Hall(tmp_path, "stock@2022-12", speed=1.0) as hall:
        hall.set(0, FULL)
        miner = await hall.miner(0)
        loop = asyncio.get_running_loop()
        begin = loop.time()
        assert await within(miner.stop_mining()) is True
        assert 0.9 < loop.time() - begin < 15, "pyasic gave up after 1 s; the reply takes 21"
        hall.pass_s(600)
        assert hall.truth(0).power_w == 25.0


@pytest.mark.parametrize(("fault", "power"), [("false_ack", 3300), ("stuck", 3300)])
async def test_random_false_acks(hall, fault, power):
    for name in DIALECTS:
        slot = SLOT[name]
        hall.set(slot, FULL)
        hall.break_(slot, fault)
        miner = await hall.miner(slot)
        assert await within(miner.stop_mining()) is True
        hall.pass_s(600)
        assert hall.truth(slot).power_w > power, name


async def test_nobody_there_is_a_yes_of_pyasics(hall):
    miner = await hall.miner(SLOT["stock"])
    await hall.server.stop()
    assert await within(miner.stop_mining()) is True


# Other faults.


async def test_a_lying_miner_lies_on_every_surface(hall):
    for name in DIALECTS:
        slot = SLOT[name]
        hall.set(slot, FULL)
        honest = await within((await hall.miner(slot)).get_data())
        hall.break_(slot, "lying")
        miner = await hall.miner(slot)
        data, truth = await within(miner.get_data()), hall.truth(slot)
        factor = float(data.hashrate) / truth.hashrate_th_per_s
        assert 1.07 < factor < 1.26
        boards = [float(board.hashrate) for board in data.hashboards]
        assert sum(boards) == pytest.approx(float(data.hashrate), rel=1e-3)
        assert float(honest.hashrate) == pytest.approx(truth.hashrate_th_per_s, rel=1e-3)
        if name == "stock":
            by_4028 = (await within(miner.rpc.summary()))["SUMMARY"][0]
            by_web = (await within(miner.web.summary()))["SUMMARY"][0]
            assert float(by_4028["GHS 5s"]) == by_web["rate_5s"] == pytest.approx(1000 * float(data.hashrate), rel=1e-4)
            assert by_4028["Accepted"] == int(factor * truth.accepted_shares)
        assert hall.truth(slot).power_w == pytest.approx(truth.power_w), "power is not lied about"


async def test_a_hung_miner_takes_the_connection_and_says_nothing(hall, patience):
    patience(factory_get_timeout=1)  # pyasic's own is 3 s
    slot = SLOT["stock"]
    miner = await hall.miner(slot)
    hall.break_(slot, "hung")
    loop = asyncio.get_running_loop()
    begin = loop.time()
    assert await hall.miner(slot) is None
    assert 0.9 < loop.time() - begin < 30
    with pytest.raises(TimeoutError):
        await within(miner.get_data(), 1)
    hall.mend(slot, "hung")
    assert await hall.miner(slot)


async def test_an_unreachable_miner(hall):
    hall.break_(SLOT["luxos"], "unreachable")
    assert await hall.miner(SLOT["luxos"]) is None
    assert await hall.miner(SLOT["luxos"] + 1) is not None, "its neighbour is there"


async def test_a_dead_board_and_a_dead_fan(hall):
    for name in DIALECTS:
        slot = SLOT[name]
        hall.set(slot, FULL)
        hall.break_(slot, "board_dropout")
        hall.pass_s(60)
        truth = hall.truth(slot)
        dead = truth.board_hashrates_th_per_s.index(0.0)
        data = await within((await hall.miner(slot)).get_data())
        if name != "luxos":
            assert float(data.hashrate) == pytest.approx(truth.hashrate_th_per_s, rel=1e-3), name
            assert [float(board.hashrate or 0) > 0 for board in data.hashboards] == [n != dead for n in range(3)]
            assert data.total_chips == data.expected_chips * 2 // 3
        if name.startswith("whatsminer"):  # pyasic reads them twice
            assert {error.error_code for error in data.errors} == {530 + dead}
        elif name == "stock":
            assert [error.error_message for error in data.errors] == ["missing hash board"]
        hall.mend(slot, "board_dropout")
        hall.break_(slot, "fan_failure")
        hall.pass_s(600)
        data = await within((await hall.miner(slot)).get_data())
        assert hall.truth(slot).hashrate_th_per_s == 0
        if name != "luxos":
            assert {getattr(error, "error_code", None) or error.error_message for error in data.errors} == {
                "fan lost" if name == "stock" else 110
            }


async def test_a_miner_without_power_does_not_answer(hall):
    slot = SLOT["stock"]
    hall.break_(slot, "power_lost")
    assert await hall.miner(slot) is None
    hall.mend(slot, "power_lost")
    assert await hall.miner(slot) is None, "it boots"
    hall.pass_s(120)
    assert await hall.miner(slot) is not None


async def test_a_wrong_wake(hall):
    for name in DIALECTS:
        slot = SLOT[name]
        hall.set(slot, FULL)
        miner = await hall.miner(slot)
        assert await within(miner.stop_mining()) is True
        hall.break_(slot, "wrong_wake")
        assert await within(miner.resume_mining()) is True
        hall.pass_s(600)
        assert hall.truth(slot).state == ECO, name
        assert 2500 < hall.truth(slot).power_w < 3000


async def pools_told(name, miner):
    """URLs of the pools on every surface that pyasic has a call for."""
    if name == "whatsminer-v3":
        return [pool["url"] for pool in (await within(miner.rpc.get_miner_status_pools()))["msg"]["pools"]]
    urls = [pool["URL"] for pool in (await within(miner.rpc.pools()))["POOLS"]]
    if name == "stock":
        written = [pool["url"] for pool in (await within(miner.web.get_miner_conf()))["pools"] if pool["url"]]
        assert written == urls
    return urls


async def write_a_pool(name, miner):
    url, user = "stratum+tcp://pool.invalid:3333", "hcp.one"
    if name == "stock":
        conf = await within(miner.web.get_miner_conf())
        await within(miner.web.set_miner_conf(conf | {"pools": [{"url": url, "user": user, "pass": "x"}]}))
    elif name == "luxos":
        await within(miner.rpc.addpool(url, user))
    else:
        await within(miner.rpc.update_pools(url, user, "x", "", "", "", "", "", ""))


@pytest.mark.parametrize("name", DIALECTS)
async def test_a_wake_without_a_pool_leaves_none_on_any_surface_until_one_is_written(hall, name):
    """A stock machine's wake posts its pools with the mode: they are gone afterwards all the same."""
    slot = SLOT[name]
    hall.set(slot, FULL)
    miner = await hall.miner(slot)
    hall.break_(slot, "no_pool")
    assert len(await pools_told(name, miner)) == 3, "who was awake goes on"
    assert hall.truth(slot).hashrate_th_per_s > 180
    for _ in range(2):  # what it reads and writes back the second time has no pools: that mends nothing
        assert await within(miner.stop_mining()) is True
        hall.pass_s(600)
        log_in_anew(miner)
        assert await within(miner.resume_mining()) is True
        hall.pass_s(600)
        log_in_anew(miner)
        assert await pools_told(name, miner) == []
        assert (hall.truth(slot).power_w, hall.truth(slot).hashrate_th_per_s) == (50.0, 0.0)
    if name != "whatsminer-v3":  # there pyasic can't write them
        await write_a_pool(name, miner)
        hall.pass_s(600)
        assert len(await pools_told(name, miner)) == 1
        assert hall.truth(slot).hashrate_th_per_s > 180


async def test_empty_pools_written_to_one_that_lost_its_own_outlast_the_fault(hall):
    slot, at_s = SLOT["stock"], hall.clock.at_s
    hall.site.impose("no_pool", BitMap([slot]), at_s, at_s + 3600)
    miner = await hall.miner(slot)
    for _ in range(2):
        await within(miner.resume_mining())
        await within(miner.stop_mining())
    hall.pass_s(7200)
    await within(miner.resume_mining())
    hall.pass_s(600)
    assert await pools_told("stock", miner) == []
    assert hall.truth(slot).hashrate_th_per_s == 0


async def test_a_power_limit_that_is_no_number_is_refused(hall):
    miner = await hall.miner(SLOT["whatsminer"])
    with pytest.raises(APIError, match="API command ERROR"):
        await within(miner.rpc.send_privileged_command("adjust_power_limit", power_limit="lots"))
    assert hall.log() == []
