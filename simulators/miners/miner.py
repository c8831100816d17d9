"""One miner behind its address: what it remembers, what it obeys, and its reboot. `Hall` finds it.

What only a control board knows (pools, lights, sessions) is kept here and is forgotten when the world restarts. States go through
the devices' own log, like the gateway's; the truth about power and hashes is the site's.
"""

import asyncio
import uuid
from bisect import bisect_right
from typing import Final

from pyroaring import BitMap

from simulators.addresses import Place, locate
from simulators.clock import Clock
from simulators.durability import TransitionLog
from simulators.faults import HUNG, LYING, NO_POOL, UNREACHABLE
from simulators.fleet import CURTAILED, Fleet, Site
from simulators.miners.firmware import Firmware, firmware_named
from simulators.miners.identity import Hardware, hardware_of, identity_of
from simulators.miners.memory import POOLS, Memory, Pool
from simulators.miners.report import FULL, MINING_STATES, Report, report_of
from simulators.settings import GroupConfig, WorldConfig
from simulators.streams import stream

LEAST_SHARE: Final = 0.4  # of its full power, below which a miner takes no limit (setting)
RESTART_S: Final = 15.0  # the mining process alone, simulated seconds (setting)
_REBOOT_S: Final = (30.0, 90.0)
_SOONEST_S: Final = 0.05
_SAMPLE_S: Final = 0.05  # real: a control board doesn't look at its boards more often
_NEAR: Final = 0.01  # a limit this close to a state's own power is that state


class Hall:
    """All miners of the world by their address."""

    def __init__(self, config: WorldConfig, fleet: Fleet, transitions: TransitionLog, clock: Clock) -> None:
        self.seed = config.seed
        self.clock = clock
        self.transitions = transitions
        self._sites = [fleet.sites[site.site] for site in config.sites]
        self._groups = [sorted(site.groups, key=lambda group: group.first_slot) for site in config.sites]
        self._firsts = [[group.first_slot for group in groups] for groups in self._groups]
        self._firmware = {
            group.firmware: firmware_named(group.firmware) for site in config.sites for group in site.groups
        }
        self._memories: dict[Place, Memory] = {}
        self._boots: dict[Place, asyncio.TimerHandle] = {}

    def at(self, address: str) -> "Miner | None":
        """The miner at an address, whatever its condition; None where there is none."""
        place = locate(address)
        if place is None or place.site_index >= len(self._sites):
            return None
        number = bisect_right(self._firsts[place.site_index], place.slot) - 1
        group = self._groups[place.site_index][number] if number >= 0 else None
        if group is None or place.slot >= group.end_slot or group.kind != "ASIC":
            return None
        return Miner(self, place, self._sites[place.site_index], group, self._firmware[group.firmware], address)

    @property
    def remembered(self) -> int:
        """How many miners were ever told anything; the others cost nothing, however often they are read."""
        return len(self._memories)

    def memory(self, place: Place) -> Memory | None:
        """What a miner was told; None: nothing yet."""
        return self._memories.get(place)

    def keep(self, place: Place, memory: Memory) -> None:
        """Have a miner remember what it is told from now on."""
        self._memories.setdefault(place, memory)

    def boot_later(self, place: Place, miner: "Miner", seconds: float) -> None:
        """Look after a boot when it should be over."""
        loop = asyncio.get_running_loop()
        delay_s = max(_SOONEST_S, seconds / self.clock.speed)
        if place in self._boots:
            self._boots[place].cancel()
        self._boots[place] = loop.call_later(delay_s, self._finish_boot, place, miner)

    def stop(self) -> None:
        """Forget the boots under way."""
        for handle in self._boots.values():
            handle.cancel()
        self._boots.clear()

    def _finish_boot(self, place: Place, miner: "Miner") -> None:
        self._boots.pop(place, None)
        left_s = miner.memory.boot_until_s - self.clock.now_s()
        if miner.memory.boot_state is not None and left_s > 0:
            self.boot_later(place, miner, left_s)
        miner.finish_boot()


class Miner:
    """One miner, as long as a connection lasts."""

    def __init__(
        self, hall: Hall, place: Place, site: Site, group: GroupConfig, firmware: Firmware, address: str
    ) -> None:
        self.hall = hall
        self.place = place
        self.site = site
        self.group = group
        self.firmware = firmware
        self.address = address
        maker = "whatsminer" if firmware.is_whatsminer else "antminer"
        self.identity = identity_of(address, maker)
        self.hardware: Hardware = hardware_of(group.model, is_whatsminer=firmware.is_whatsminer)
        self._unwritten: Memory | None = None
        self._report: Report | None = None
        self._looked_s = 0.0

    @property
    def memory(self) -> Memory:
        """What it remembers; of one that was never told anything, the factory's setting."""
        kept = self.hall.memory(self.place)
        if kept is not None:
            return kept
        if self._unwritten is None:
            urls = [f"stratum+tcp://pool-{number}.invalid:3333" for number in range(POOLS)]
            pools = [Pool(url, f"hcp.{self.identity.hostname}", "x") for url in urls]
            self._unwritten = Memory(pools, (self.states or [FULL])[-1])
        return self._unwritten

    def keep(self) -> Memory:
        """Remember what comes now; to be called before anything is changed."""
        self.hall.keep(self.place, self.memory)
        return self.memory

    @property
    def now_s(self) -> float:
        """The miner's own clock."""
        return self.hall.clock.now_s()

    @property
    def is_hung(self) -> bool:
        """Whether it takes connections and answers none."""
        return HUNG in self.site.faults.at(self.place.slot, self.now_s)

    @property
    def is_listening(self) -> bool:
        """Whether anything answers at its address: not while it boots, has no power or can't be reached."""
        now_s = self.now_s
        if now_s < self.memory.closed_until_s or UNREACHABLE in self.site.faults.at(self.place.slot, now_s):
            return False
        self.finish_boot()
        return self.report().power_w > 0

    @property
    def states(self) -> list[int]:
        """States it can mine in, rising in power."""
        return _mining_states(self.group)

    @property
    def has_pool(self) -> bool:
        """Whether it has anything to work for."""
        return any(pool.url for pool in self.memory.pools)

    def state_power_w(self, state: int) -> float:
        """Nominal power of a state."""
        return next((one.power_w for one in self.group.states if one.state == state), 0.0)

    def state_rate_ths(self, state: int) -> float:
        """Nominal hashrate of a state."""
        return next((one.hash_rate_th_per_s for one in self.group.states if one.state == state), 0.0)

    def report(self) -> Report:
        """What it says of itself now."""
        now_s = self.now_s
        if self._report is None or now_s - self._looked_s >= _SAMPLE_S * self.hall.clock.speed:
            self._report, self._looked_s = self._look(now_s), now_s
        return self._report

    def turn(self, state: int) -> bool:
        """Obey a command to be in a state; False where this machine has no such state."""
        if state != CURTAILED and state not in self.states:
            return False
        if state in MINING_STATES:
            self.memory.mining_state = state
        self.memory.boot_state = None
        return self._set(state)

    def sleep(self) -> bool:
        """Stop hashing."""
        self.report()
        return self.turn(CURTAILED)

    def wake(self) -> bool:
        """Hash in the state that it last hashed in."""
        self.report()
        return self.turn(self.memory.mining_state)

    def choose(self, state: int) -> bool:
        """Take a state to mine in: at once if it mines, else at the next wake."""
        if state not in self.states:
            return False
        if self.report().is_mining:
            return self.turn(state)
        self.memory.mining_state = state
        return True

    def limit(self, watts: float) -> bool:
        """Draw no more than that while mining, in the strongest state that doesn't need the limit much; False: too little."""
        states = self.states
        if not states or watts < LEAST_SHARE * self.state_power_w(states[-1]):
            return False
        fitting = [state for state in states if self.state_power_w(state) <= watts * (1 + _NEAR)]
        above = [state for state in states if state not in fitting]
        is_near = bool(fitting) and self.state_power_w(fitting[-1]) >= watts * (1 - _NEAR)
        state = fitting[-1] if fitting and (is_near or not above) else above[0]
        self._report = None
        self.site.limit(BitMap([self.place.slot]), watts, self.now_s)
        return self.choose(state)

    def unlimit(self) -> None:
        """Draw what the state draws."""
        self._report = None
        self.site.limit(BitMap([self.place.slot]), None, self.now_s)

    def write_pools(self, pools: list[Pool]) -> None:
        """Take other pools and start anew with them; without any it draws little and hashes nothing, whatever its mode."""
        had_pool, state = self.has_pool, self.report().state
        self.memory.pools = (pools + [Pool("", "", "")] * POOLS)[:POOLS]
        here = BitMap([self.place.slot])
        if self.has_pool:
            self.site.lift((NO_POOL,), here, self.now_s)
        elif had_pool:
            self.site.impose(NO_POOL, here, self.now_s)
        if had_pool and not self.has_pool and state != CURTAILED:
            self._set(CURTAILED)
            self._set(state)
        self._report = None

    def reboot(self) -> None:
        """Restart the control board: nobody answers for 30 to 90 simulated seconds."""
        low, high = _REBOOT_S
        self.memory.counter += 1
        draw = stream(self.hall.seed, "miners.reboot", *self.place, self.memory.counter).random()
        seconds = low + (high - low) * float(draw)
        self.memory.closed_until_s = self.now_s + seconds
        self._boot(seconds)

    def restart(self) -> None:
        """Restart the mining process alone; the control board goes on answering."""
        self._boot(RESTART_S)

    def finish_boot(self) -> None:
        """Take up work again if the boot is over."""
        state = self.memory.boot_state
        if state is not None and self.now_s >= self.memory.boot_until_s:
            self.turn(state)

    def _boot(self, seconds: float) -> None:
        """Stop, and remember what to do afterwards: a WhatsMiner that was off mines again, the others stay as they were."""
        report = self.report()
        after = self.memory.mining_state if self.firmware.is_whatsminer else report.state
        self._set(CURTAILED)
        self.memory.boot_state, self.memory.boot_until_s = after, self.now_s + seconds
        self.hall.boot_later(self.place, self, seconds)

    def _look(self, now_s: float) -> Report:
        reading = self.site.miner(self.place.slot, now_s)
        if reading.state in MINING_STATES:
            self.memory.mining_state = reading.state
        lie = self._lie() if LYING in reading.faults else 1.0
        factory_ths = max((one.hash_rate_th_per_s for one in self.group.states), default=0.0)
        boot = self.memory.boot_state
        return report_of(reading, self.hardware, factory_ths, reading.state if boot is None else boot, lie, int(now_s))

    def _lie(self) -> float:
        """Times the hashes done that this one claims when it lies."""
        return 1.08 + 0.17 * float(stream(self.hall.seed, "miners.lie", *self.place).random())

    def _set(self, state: int) -> bool:
        name = f"protocol/{self.firmware.dialect.value}/{self.site.config.site}/{self.place.slot}"
        ref = uuid.uuid5(uuid.NAMESPACE_URL, name).bytes
        result = self.hall.transitions.set_state(self.site, ref, 0, state, BitMap([self.place.slot]))
        self._report = None
        return bool(result.accepted)


def _mining_states(group: GroupConfig) -> list[int]:
    mining = [one for one in group.states if one.state in MINING_STATES]
    return [one.state for one in sorted(mining, key=lambda one: one.power_w)]
