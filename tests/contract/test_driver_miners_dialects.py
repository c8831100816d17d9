"""The miner driver against every firmware that the simulated miners know: identity, reading, states, restored profiles."""

import dataclasses

import pytest

from hcp_pipelines.devices.miner.evidence import is_there, power_of, state_of
from hcp_pipelines.devices.miner.identify import ask_dialect, ask_everything
from hcp_pipelines.devices.miner.limits import issues_of
from hcp_pipelines.devices.miner.telemetry import Dialect
from hcp_pipelines.devices.site import Evidence
from hcp_pipelines.domain.errors import DeviceUnreachableError
from simulators.miners.firmware import FIRMWARES
from tests.support.miner_driver import OLD_MD5, STATES, Rig
from tests.support.miners import ECO, FULL, OFF, Hall, group

pytestmark = OLD_MD5
DEAF = "stock@2025-02"  # takes sleep and wake with an OK and does nothing: in test_driver_miners_faults
NAMES = [name for name in FIRMWARES if name != DEAF]
DIALECTS = {
    "stock": Dialect.ANTMINER, "whatsminer": Dialect.WHATSMINER_V2, "whatsminer-v3": Dialect.WHATSMINER_V3,
    "luxos": Dialect.LUXOS,
}  # fmt: skip


@pytest.fixture
async def rig(tmp_path, request):
    name = request.param
    async with Hall(tmp_path, name, speed=1000.0, is_mapped=False) as hall, Rig(hall, 0, name, tmp_path) as rig:
        yield rig


each_firmware = pytest.mark.parametrize("rig", NAMES, indirect=True)


def firmware(rig):
    return FIRMWARES[rig.group.firmware]


@each_firmware
async def test_a_miner_says_who_it_is(rig):
    name = rig.group.firmware
    found = await ask_dialect(rig.address, rig.options)
    assert found.dialect is DIALECTS[name.split("@")[0]]
    assert found.firmware.strip("'").startswith(firmware(rig).version[:8])
    rig.hall.set(0, FULL)
    found = await ask_everything(rig.address, found, rig.options, rig.client)
    assert found.mac == "02:48:7F:10:00:01"
    assert found.serial.startswith("HCP0213")
    assert found.model in {"Antminer S21", "M60S_VK30", "Antminer BHB68601"}


@each_firmware
async def test_every_state_is_reached_and_read_back(rig):
    for state in (FULL, OFF, ECO, FULL, ECO, OFF):
        await rig.to(state)
        truth, told = rig.truth, await rig.read_back()
        level = rig.group.level(state)
        assert truth.state == state
        assert truth.power_w == pytest.approx(level.power_w, rel=0.02)
        assert is_there(told, level, rig.group.levels)
        assert state_of(told, rig.group.levels) is STATES[state]
        power_w, evidence = power_of(told, rig.group.levels)
        assert power_w == pytest.approx(truth.power_w, rel=0.03, abs=60)
        assert evidence in {Evidence.MEASURED, Evidence.ESTIMATED, Evidence.INFERRED}
        if told.is_power_measured:
            assert evidence is Evidence.MEASURED


@each_firmware
async def test_every_poll_tells_how_hot_the_chips_are_and_a_hot_miner_is_an_issue(rig, monkeypatch):
    rig.hall.set(0, FULL)
    device, model = await rig.the_device(), rig.hall.config.sites[0].groups[0].model
    told = await device.read()
    assert told.chip_temperature_celsius == pytest.approx(rig.truth.chip_temperature_c, abs=4)
    assert issues_of(told, model) == ()
    monkeypatch.setattr(rig.hall.site, "outdoor_c", lambda _at_s: 55.0)
    rig.hall.set(0, OFF)
    rig.hall.set(0, FULL)
    hot = await device.read()
    assert hot.chip_temperature_celsius == pytest.approx(rig.truth.chip_temperature_c, abs=4)
    assert next(issue.issue_type for issue in issues_of(hot, model)) in {"elevated_temperature", "high_temperature"}


@each_firmware
async def test_a_poll_without_the_mode_tells_power_and_hashrate(rig):
    await rig.to(FULL)
    device = await rig.the_device()
    told, truth = await device.read(), rig.truth
    assert told.hash_rate_th_per_s == pytest.approx(truth.hashrate_th_per_s, rel=0.01)
    assert power_of(told, rig.group.levels)[0] == pytest.approx(truth.power_w, rel=0.03)


@each_firmware
async def test_a_state_that_is_there_is_not_commanded_again(rig):
    await rig.to(FULL)
    before = len(rig.hall.log())
    await rig.to(FULL)
    assert len(rig.hall.log()) == before


@pytest.mark.parametrize("rig", ["luxos", "luxos@estimate", "whatsminer", "whatsminer-v3", "stock"], indirect=True)
async def test_what_it_was_set_to_before_its_sleep_is_restored_even_by_another_process(rig, tmp_path):
    await rig.to(ECO)
    await rig.to(OFF)
    stored = (tmp_path / "profiles.jsonl").read_text()
    assert stored.count("\n") == 1
    async with Rig(rig.hall, 0, rig.group.firmware, tmp_path) as other:
        remembered = other.profiles.recall(other.address)
        assert remembered.state == ECO
        await other.to(ECO)
        assert other.truth.state == ECO
        await other.to(OFF)
    assert (tmp_path / "profiles.jsonl").read_text() == stored, "what is unchanged is not written again"


async def test_a_limit_of_its_own_comes_back_after_a_sleep(tmp_path):
    async with (
        Hall(tmp_path, "whatsminer", speed=1000.0, is_mapped=False) as hall,
        Rig(hall, 0, "whatsminer", tmp_path) as rig,
    ):
        await rig.to(FULL)
        device = await rig.the_device()
        await device._write(lambda: device._api.adjust_power_limit(3500), "a person at the machine")
        await rig.to(OFF)
        await rig.to(FULL)
        assert (await rig.read_back()).profile_w == 3500


async def test_a_profile_of_another_firmware_is_not_restored(tmp_path):
    async with (
        Hall(tmp_path, "whatsminer", speed=1000.0, is_mapped=False) as hall,
        Rig(hall, 0, "whatsminer", tmp_path) as rig,
    ):
        await rig.to(FULL)
        await rig.to(OFF)
        known = rig.profiles.recall(rig.address)
        await rig.profiles.remember(rig.address, dataclasses.replace(known, firmware="older", limit_w=2800.0))
        await rig.to(FULL)
        assert rig.truth.state == FULL


async def test_a_luxos_machine_under_thermal_management_stays_so(tmp_path):
    async with Hall(tmp_path, "luxos", speed=1000.0, is_mapped=False) as hall, Rig(hall, 0, "luxos", tmp_path) as rig:
        await rig.to(FULL)
        device = await rig.the_device()
        async with device._session():
            await device._call(device._api.atmset(enabled=True), "atmset")
        await rig.to(ECO)
        assert rig.truth.state == ECO
        assert (await device._call(device._api.atm(), "atm"))["ATM"][0]["Enabled"] is True


async def test_a_session_of_somebody_elses_is_waited_for_not_taken_over(tmp_path):
    async with Hall(tmp_path, "luxos", speed=1000.0, is_mapped=False) as hall, Rig(hall, 0, "luxos", tmp_path) as rig:
        await rig.to(FULL)
        device = await rig.the_device()
        async with device._session(), Rig(hall, 0, "luxos", tmp_path / "other") as other:
            with pytest.raises(DeviceUnreachableError, match="somebody else's session"):
                await other.to(OFF)
        assert rig.truth.state == FULL
        await rig.to(OFF)
        assert rig.truth.state == OFF


async def test_a_token_that_is_worn_out_is_exchanged(tmp_path):
    async with (
        Hall(tmp_path, "whatsminer", speed=1000.0, is_mapped=False) as hall,
        Rig(hall, 0, "whatsminer", tmp_path) as rig,
    ):
        for n in range(40):  # more than its 32 uses, in one process
            await rig.to(OFF if n % 2 else FULL, after_s=120)
        assert rig.truth.state == OFF


async def test_the_strongest_profile_within_the_ladders_power_is_taken(tmp_path):
    own = {OFF: (25.0, 0.0), ECO: (2400.0, 160.0), FULL: (3300.0, 195.0)}  # the ladder has 2,800 and 3,500 W
    groups = [group("luxos", 0, states=own)]
    async with (
        Hall(tmp_path, speed=1000.0, groups=groups, is_mapped=False) as hall,
        Rig(hall, 0, "luxos", tmp_path) as rig,
    ):
        for state in (ECO, FULL, ECO):
            await rig.to(state)
            profiles = (await rig.the_device())._profiles
            fitting = [one.power_w for one in profiles if one.power_w <= rig.group.level(state).power_w * 1.02]
            assert rig.truth.power_w == pytest.approx(max(fitting), rel=0.02)
