"""One miner behind its address: what it remembers, what it obeys, and its reboot. `Hall` finds it.

What only a control board knows (pools, lights, limits, sessions) is kept here and is forgotten when the world restarts. States
go through the devices' own log, like the gateway's; the truth about power and hashes is the site's.
"""

import asyncio
import dataclasses
import uuid
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Final

from pyroaring import BitMap

from simulators.addresses import Place, locate
from simulators.clock import Clock
from simulators.durability import TransitionLog
from simulators.faults import HUNG, UNREACHABLE
from simulators.fleet import CURTAILED, Fleet, Site
from simulators.miners.firmware import Firmware, firmware_named
from simulators.miners.identity import Hardware, Identity, hardware_of, identity_of
from simulators.miners.report import FULL, MINING_STATES, Report, report_of
from simulators.settings import GroupConfig, WorldConfig
from simulators.streams import stream

POOLS: Final = 3
RESTART_S: Final = 15.0  # the mining process alone, simulated seconds (setting)
_REBOOT_S: Final = (30.0, 90.0)
_SOONEST_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Pool:
    """One configured pool; an empty URL is an unused place."""

    url: str
    user: str
    password: str


@dataclass(slots=True)
class Memory:
    """What a control board remembers of what it was told."""

    pools: list[Pool]
    mining_state: int  # the profile it mines in when it mines
    held_state: int | None = None  # asked for, but there is no pool
    boot_state: int | None = None  # to take once the boot is over
    boot_until_s: float = 0.0
    closed_until_s: float = 0.0
    is_blinking: bool = False
    power_limit_w: int | None = None
    settings: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, tuple[float, int]] = field(default_factory=dict)  # WhatsMiner: until when, uses left
    session: str = ""  # LuxOS
    session_until_s: float = 0.0
    counter: int = 0


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

    def memory(self, place: Place, identity: Identity, group: GroupConfig) -> Memory:
        """What a miner remembers; of one that was never told anything, the factory's setting."""
        memory = self._memories.get(place)
        if memory is None:
            pools = [
                Pool(f"stratum+tcp://pool-{n}.invalid:3333", f"hcp.{identity.hostname}", "x") for n in range(POOLS)
            ]
            memory = self._memories[place] = Memory(pools, (_profiles(group) or [FULL])[-1])
        return memory

    def boot_later(self, place: Place, miner: "Miner", seconds: float) -> None:
        """Look after a boot when it should be over."""
        loop = asyncio.get_running_loop()
        delay_s = max(_SOONEST_S, seconds / self.clock.speed)
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
        self.memory = hall.memory(place, self.identity, group)

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
        """Whether anything answers at its address: not while it boots or can't be reached."""
        now_s = self.now_s
        if now_s < self.memory.closed_until_s:
            return False
        self.finish_boot()
        return UNREACHABLE not in self.site.faults.at(self.place.slot, now_s)

    @property
    def profiles(self) -> list[int]:
        """States it can mine in, rising in power."""
        return _profiles(self.group)

    @property
    def has_pool(self) -> bool:
        """Whether it has anything to work for."""
        return any(pool.url for pool in self.memory.pools)

    def profile_power_w(self, state: int) -> float:
        """Nominal power of a state."""
        return next((one.power_w for one in self.group.states if one.state == state), 0.0)

    def profile_rate_ths(self, state: int) -> float:
        """Nominal hashrate of a state."""
        return next((one.hash_rate_th_per_s for one in self.group.states if one.state == state), 0.0)

    def report(self) -> Report:
        """What it says of itself now."""
        now_s = self.now_s
        reading = self.site.miner(self.place.slot, now_s)
        if reading.state in MINING_STATES:
            self.memory.mining_state = reading.state
        lie = 1.08 + 0.17 * float(stream(self.hall.seed, "miners.lie", *self.place).random())
        factory_ths = max((one.hash_rate_th_per_s for one in self.group.states), default=0.0)
        made = report_of(reading, self.hardware, factory_ths, self._configured(reading.state), lie)
        return dataclasses.replace(made, now_s=int(now_s))

    def turn(self, state: int) -> bool:
        """Obey a command to be in a state; False where this machine has no such state."""
        if state != CURTAILED and state not in self.profiles:
            return False
        if state in MINING_STATES:
            self.memory.mining_state = state
        self.memory.boot_state = None
        self.memory.held_state = None
        if state != CURTAILED and not self.has_pool:
            self.memory.held_state = state
            return self._set(CURTAILED)
        return self._set(state)

    def sleep(self) -> bool:
        """Stop hashing."""
        return self.turn(CURTAILED)

    def wake(self) -> bool:
        """Hash in the profile that it last hashed in."""
        self.report()
        return self.turn(self.memory.mining_state)

    def choose(self, state: int) -> bool:
        """Take a profile: at once if it hashes, else at the next wake."""
        if state not in self.profiles:
            return False
        if self.report().is_mining:
            return self.turn(state)
        self.memory.mining_state = state
        return True

    def profile_within(self, power_w: float) -> int | None:
        """The strongest profile that draws at most that; None where none does."""
        fitting = [state for state in self.profiles if self.profile_power_w(state) <= power_w]
        return fitting[-1] if fitting else None

    def write_pools(self, pools: list[Pool]) -> None:
        """Take other pools; one that mines stops without any, and one that waited for one begins."""
        state = self.report().state
        self.memory.pools = (pools + [Pool("", "", "")] * POOLS)[:POOLS]
        if state != CURTAILED:
            self.turn(state)

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

    def _configured(self, state: int) -> int:
        for waiting in (self.memory.boot_state, self.memory.held_state):
            if waiting is not None:
                return waiting
        return state

    def _set(self, state: int) -> bool:
        name = f"protocol/{self.firmware.dialect.value}/{self.site.config.site}/{self.place.slot}"
        ref = uuid.uuid5(uuid.NAMESPACE_URL, name).bytes
        result = self.hall.transitions.set_state(self.site, ref, 0, state, BitMap([self.place.slot]))
        return bool(result.accepted)


def _profiles(group: GroupConfig) -> list[int]:
    mining = [one for one in group.states if one.state in MINING_STATES]
    return [one.state for one in sorted(mining, key=lambda one: one.power_w)]
