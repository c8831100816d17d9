"""A facility's miners as one site: rounds of polls, commands that overtake each other, silent miners, feeders' meters."""

import asyncio
import dataclasses
import uuid

import numpy as np
import pytest
from pyroaring import BitMap

from hcp_pipelines.devices import again
from hcp_pipelines.devices.miner import fleet as fleet_module
from hcp_pipelines.devices.miner import limits
from hcp_pipelines.devices.miner import site as site_module
from hcp_pipelines.devices.miner.antminer import AntminerMiner
from hcp_pipelines.devices.miner.meters import FeederMeters
from hcp_pipelines.devices.miner.site import MinerApiSite
from hcp_pipelines.devices.miner.telemetry import MinerGroup
from hcp_pipelines.devices.site import Evidence
from hcp_pipelines.domain.errors import DeviceUnreachableError
from hcp_pipelines.wire.slots import encode_slots
from simulators import faults
from simulators.addresses import address_of
from simulators.miners.miner import Miner
from simulators.miners.server import MinersServer
from simulators.settings import WorldConfig
from tests.support.edge import until
from tests.support.miner_driver import OLD_MD5, S21_LEVELS, HallClock, levels_for, options_of
from tests.support.miners import ECO, FULL, OFF, S21, Hall
from tests.support.power_plant import PlantWorld, site_document

pytestmark = OLD_MD5
NAMES = ("stock", "whatsminer", "whatsminer-v3", "luxos")
SLOTS = 16 * len(NAMES)


class Rig:
    """Four miners of each dialect under one site; readings are kept."""

    def __init__(self, hall, folder, **options) -> None:
        self.hall, self.seen = hall, []
        groups = [
            MinerGroup(16 * n, tuple(address_of(0, 16 * n + m) for m in range(4)), name, levels_for(name), "f1")
            for n, name in enumerate(NAMES)
        ]
        self.slots = [16 * n + m for n in range(4) for m in range(4)]
        self.site = MinerApiSite(groups, SLOTS, options_of(hall, **options), folder, HallClock(hall), self.seen.append)

    def send(self, state, slots):
        return self.site.send_state(uuid.uuid4(), 0, state, encode_slots(np.array(sorted(slots), dtype=np.uint32)))

    async def to(self, state, slots=None):
        told = await self.site.finish_state(self.send(state, slots or self.slots))
        self.hall.pass_s(600)
        return told

    async def reading(self):
        """A reading that was begun after now."""
        before = len(self.seen)
        await until(lambda: len(self.seen) > before + 1, "another round")
        return self.seen[-1]

    def states(self):
        return {int(self.hall.site.commanded[slot]) for slot in self.slots}


@pytest.fixture
async def rig(tmp_path):
    async with Hall(tmp_path, *NAMES, speed=1000.0, is_mapped=False) as hall:
        rig = Rig(hall, tmp_path)
        await rig.site.connect(200)
        yield rig
        await rig.site.close()


async def test_power_and_states_of_every_slot_come_with_each_round(rig):
    assert rig.site.devices == SLOTS
    assert (await rig.site.read_states())[rig.slots].tolist() == [OFF] * 16
    accepted, refused = await rig.to(FULL)
    assert (accepted.tolist(), refused.tolist()) == (rig.slots, [])
    reading = await rig.reading()
    truth = [rig.hall.truth(slot).power_w for slot in rig.slots]
    assert reading.values[rig.slots].tolist() == pytest.approx(truth, rel=0.05)
    assert set(reading.values[[n for n in range(SLOTS) if n not in rig.slots]].tolist()) == {0.0}
    assert set(reading.evidence[rig.slots].tolist()) == {Evidence.MEASURED, Evidence.INFERRED}
    assert (await rig.site.read_states())[rig.slots].tolist() == [FULL] * 16


async def test_chips_that_are_too_hot_come_with_the_reading(rig, monkeypatch):
    await rig.to(FULL)
    assert (await rig.reading()).issues == {}
    monkeypatch.setattr(limits, "_DEFAULT", limits.MinerLimits("", 40.0, 200.0))
    [(issue, warm)] = (await rig.reading()).issues.items()
    assert (issue, warm.tolist()) == (("elevated_temperature", "warning"), sorted(rig.slots))


async def test_a_round_is_as_old_as_its_beginning(rig):
    began_s = rig.hall.clock.at_s
    rig.seen.clear()
    await until(lambda: rig.seen, "a round")
    rig.hall.pass_s(100)
    assert rig.seen[-1].simulated_at_s == began_s


async def test_a_newer_command_overtakes_an_older_one_that_waits(rig):
    rig.site._teller._at_once = asyncio.Semaphore(1)
    older, newer = rig.send(FULL, rig.slots), rig.send(ECO, rig.slots)
    await asyncio.gather(rig.site.finish_state(older), rig.site.finish_state(newer))
    assert rig.states() == {ECO}
    full = [line for line in rig.hall.log() if line.get("state") == FULL]
    assert len(full) <= 1, "what was no longer wanted was not sent"


async def test_slots_and_states_that_are_not_there_are_refused(rig):
    _, refused = await rig.site.finish_state(rig.send(FULL, [0, 5, 60]))
    assert refused.tolist() == [5, 60]
    _, refused = await rig.site.finish_state(rig.send(1, [0]))
    assert refused.tolist() == [0]


async def test_a_miner_that_can_not_be_reached_is_told_later_and_has_no_power_meanwhile(rig, monkeypatch):
    monkeypatch.setattr(again, "RETRY_AFTER_S", (0.3, 0.3, 0.3, 0.3, 0.3, 0.3))
    rig.hall.break_(1, faults.UNREACHABLE)
    _, refused = await rig.to(FULL)
    assert refused.tolist() == [1]
    reading = await rig.reading()
    assert np.isnan(reading.values[1]), "silent is not asleep"
    assert reading.evidence[1] == Evidence.NONE
    assert (await rig.site.read_states())[1] == 255
    rig.hall.mend(1, faults.UNREACHABLE)
    await until(lambda: rig.hall.site.commanded[1] == FULL, "told again behind the reply")


async def test_what_is_no_longer_wanted_is_not_told_later(rig, monkeypatch):
    monkeypatch.setattr(again, "RETRY_AFTER_S", (0.5,))
    rig.hall.break_(1, faults.UNREACHABLE)
    await rig.to(FULL, [1])
    rig.hall.mend(1, faults.UNREACHABLE)
    await rig.to(ECO, [1])
    await asyncio.sleep(0.8)
    assert rig.hall.site.commanded[1] == ECO


async def test_hung_miners_do_not_hold_up_the_rounds(tmp_path):
    async with Hall(tmp_path, *NAMES, speed=1000.0, is_mapped=False) as hall:
        for slot in (0, 16, 32, 48):
            hall.break_(slot, faults.HUNG)
        rig = Rig(hall, tmp_path, deadline_s=0.3)
        await rig.site.connect(100)
        await until(lambda: len(rig.seen) >= 12, "twelve rounds, though each hung miner takes its deadline")
        assert np.isnan(rig.seen[-1].values[[0, 16, 32, 48]]).all()
        assert np.isfinite(rig.seen[-1].values[[1, 17, 33, 49]]).all()
        await rig.site.close()


async def test_a_miner_whose_turn_never_ends_holds_up_no_round_and_is_asked_ever_more_rarely(rig, monkeypatch):
    """Every byte comes in time, and the whole never: it has failed, as one that does not answer at all."""
    real, turns = AntminerMiner.read, []

    async def slowly(miner):
        if miner is rig.site.fleet.by_slot[0].device:
            turns.append(rig.site._round)
            await asyncio.sleep(3600)
        return await real(miner)

    monkeypatch.setattr(AntminerMiner, "read", slowly)
    rig.site._options = dataclasses.replace(rig.site._options, deadline_s=0.05)
    rig.seen.clear()
    await until(lambda: len(rig.seen) >= 8 and len(turns) >= 3, "the rounds go on")
    assert np.isnan(rig.seen[-1].values[0])
    assert np.diff(turns)[:2].tolist() == [1, 2]
    rig.site._options = dataclasses.replace(rig.site._options, deadline_s=2.0)
    monkeypatch.undo()
    await until(lambda: np.isfinite(rig.seen[-1].values[rig.slots]).all(), "and it is read again")


async def test_a_mode_that_can_not_be_read_is_asked_for_ever_more_rarely_and_power_is_read_on(tmp_path, monkeypatch):
    """A stock miner's web page may drip while its figures come: it fails each round of modes, and never two in a row."""
    asked, is_slow = [], True
    real = AntminerMiner.read_back

    async def read_back(miner):
        asked.append(site._round)
        if is_slow:
            raise DeviceUnreachableError("no whole page in time")
        return await real(miner)

    async with Hall(tmp_path, "stock", speed=1000.0, is_mapped=False) as hall:
        group = MinerGroup(0, (address_of(0, 0), address_of(0, 1)), "stock", S21_LEVELS)
        seen = []
        site = MinerApiSite([group], 2, options_of(hall), tmp_path / "p", HallClock(hall), seen.append)
        for module in (fleet_module, site_module):
            monkeypatch.setattr(module, "READ_MODES_EACH", 2)
        await site.connect(10)
        site.fleet.by_slot.pop(1)
        monkeypatch.setattr(AntminerMiner, "read_back", read_back)
        await until(lambda: len(asked) >= 5, "modes are asked for")
        assert np.diff(asked)[:4].tolist() == [2, 4, 8, 16]
        await until(lambda: np.isfinite(seen[-1].values[0]), "its power is known all along")
        is_slow = False
        await until(lambda: site.fleet.by_slot[0].mode_failures == 0, "and its mode again")
        await site.close()


async def test_nobody_at_all_is_unreachable_and_nothing_is_taken(tmp_path):
    async with Hall(tmp_path, *NAMES, is_mapped=False) as hall:
        rig = Rig(hall, tmp_path, deadline_s=0.3, api_port=1, v3_port=1)
        with pytest.raises(DeviceUnreachableError, match="none of 16 miners answers"):
            await rig.site.connect(200)
        with pytest.raises(DeviceUnreachableError):
            rig.send(FULL, [0])
        await rig.site.close()
        await rig.site.close()


async def test_closing_ends_commands_under_way_and_connecting_again_begins_anew(rig):
    rig.hall.break_(0, faults.HUNG)
    sent = rig.send(FULL, [0])
    await asyncio.sleep(0.05)
    await rig.site.close()
    with pytest.raises(DeviceUnreachableError, match="let go of"):
        await rig.site.finish_state(sent)
    assert rig.site.devices == 0
    rig.hall.mend(0, faults.HUNG)
    await rig.site.connect(200)
    await rig.to(FULL)
    assert rig.states() == {FULL}


# -- the feeders' meters -------------------------------------------------------------------------------------------------


@pytest.fixture
async def metered(tmp_path):
    """Twenty stock miners on a feeder whose meter is read over Modbus."""
    states = [
        {"state": state, "power_w": watts, "hash_rate_th_per_s": rate, "ramp_up_s": 0, "ramp_down_s": 0}
        for state, (watts, rate) in S21.items()
    ]
    miners = {"group": "m", "kind": "ASIC", "model": "S21", "firmware": "stock", "first_slot": 0, "devices": 20}
    document = site_document(groups=[miners | {"feeder": "miners", "states": states}])
    async with PlantWorld(tmp_path, document) as world:
        paths = {
            key: tmp_path / key for key in ("anchor", "bulk_socket", "ready_file", "transition_log", "exogenous_log")
        }
        protocols = {"miners": {"enabled": True, "port_4028": 0, "http_port": 0, "v3_port": 0}}
        config = WorldConfig(version=1, sites=[world.site.config], protocols=protocols, **paths)
        world.miners = MinersServer(config, world.fleet, world.transitions, world.clock)
        await world.miners.start()
        yield world
        await world.miners.stop()


async def test_what_miners_without_a_wattage_say_is_squared_with_their_feeders_meter(metered, tmp_path, monkeypatch):
    metered.transitions.set_state(metered.site, bytes(16), 0, FULL, BitMap(range(20)))
    metered.to(60)
    ports = metered.miners.ports
    options = options_of(type("Ports", (), {"port": lambda _, n: ports[{4028: "4028", 80: "http", 4433: "v3"}[n]]})())
    group = MinerGroup(0, tuple(address_of(0, n) for n in range(20)), "stock", S21_LEVELS, "miners")
    host, port = metered.address
    seen = []
    meters = FeederMeters(f"{host}:{port}", metered.site.config.pue)
    site = MinerApiSite([group], 20, options, tmp_path / "p", HallClock(metered), seen.append, meters)
    await site.connect(100)
    try:
        assert set(seen[-1].evidence.tolist()) == {Evidence.METERED}
        assert seen[-1].values.sum() == pytest.approx(metered.site.power_w(metered.clock.at_s).sum(), rel=0.02)
        honest = Miner.report

        def lie(miner):
            return dataclasses.replace(honest(miner), state=OFF, rate_ghs=0.0)

        monkeypatch.setattr(Miner, "report", lie)
        before = len(seen)
        await until(lambda: len(seen) > before + 13, "rounds in which all say that they sleep")
        assert seen[-1].values.sum() == pytest.approx(metered.site.power_w(metered.clock.at_s).sum(), rel=0.05)
        assert seen[-1].values.min() > 3000, "the meter tells that they don't"
    finally:
        await site.close()
