"""One miner behind its address: what it obeys, what it says, and its reboot. `hall` finds it and keeps what it remembers.

All that a command does to the device goes through the devices' own log, like the gateway's; the truth about power and hashes is
the site's.
"""

import uuid
from typing import TYPE_CHECKING, Final

import numpy as np
from pyroaring import BitMap

from simulators.addresses import Place
from simulators.faults import HUNG, LYING, NO_POOL, UNREACHABLE
from simulators.fleet import CURTAILED, Site
from simulators.miners.firmware import Firmware
from simulators.miners.identity import Hardware, hardware_of, identity_of
from simulators.miners.memory import NO_POOLS, POOLS, Memory, Pool
from simulators.miners.report import FULL, MINING_STATES, Report, report_of
from simulators.settings import GroupConfig
from simulators.streams import stream

if TYPE_CHECKING:
    from simulators.miners.hall import Hall

LEAST_SHARE: Final = 0.4  # of its full power, below which a miner takes no limit (setting)
RESTART_S: Final = 15.0  # the mining process alone, simulated seconds (setting)
_REBOOT_S: Final = (30.0, 90.0)
_SAMPLE_S: Final = 0.05  # real: a control board doesn't look at its boards more often
_NEAR: Final = 0.01  # a limit this close to a state's own power is that state


class Miner:
    """One miner, as long as a connection lasts."""

    def __init__(
        self, hall: "Hall", place: Place, site: Site, group: GroupConfig, firmware: Firmware, address: str
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
            self._unwritten = self.factory_memory()
        return self._unwritten

    def factory_memory(self) -> Memory:
        """What a board remembers that was never told anything."""
        urls = [f"stratum+tcp://pool-{number}.invalid:3333" for number in range(POOLS)]
        pools = [Pool(url, self.hall.worker(self.place), "x") for url in urls]
        return Memory(pools, (self.states or [FULL])[-1])

    def keep(self) -> Memory:
        """Remember what comes now; to be called before anything is changed."""
        self.hall.keep(self)
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
        return self.site.is_up(self.place.slot, now_s)

    @property
    def states(self) -> list[int]:
        """States it can mine in, rising in power."""
        return _mining_states(self.group)

    @property
    def pools(self) -> list[Pool]:
        """What it is configured to work for: nothing once it has woken without, until pools are written."""
        return NO_POOLS if self.site.has_no_pool(self.place.slot, self.now_s) else self.memory.pools

    @property
    def has_pool(self) -> bool:
        """Whether it has anything to work for."""
        return _is_any(self.pools)

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
        self.hall.transitions.limit(self.site, self._ref, watts, self._here)
        return self.choose(state)

    def unlimit(self) -> None:
        """Draw what the state draws."""
        self._report = None
        self.hall.transitions.limit(self.site, self._ref, None, self._here)

    def write_pools(self, pools: list[Pool]) -> None:
        """Take other pools and start anew with them; without any it draws little and hashes nothing, whatever its mode.

        Only one that has none is mended by pools: who gets those it has all the same still loses them with its next wake.
        """
        had_pool, was_written, state = self.has_pool, _is_any(self.memory.pools), self.report().state
        self.memory.pools = (pools + NO_POOLS)[:POOLS]
        is_written = _is_any(self.memory.pools)
        if is_written and not had_pool:
            self.hall.transitions.lift(self.site, self._ref, (NO_POOL,), self._here)
        elif was_written and not is_written:
            self.hall.transitions.impose(self.site, self._ref, NO_POOL, self._here)
        if had_pool and not is_written and state != CURTAILED:
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
        self.memory.tokens, self.memory.session, self.memory.is_blinking = {}, "", False
        self._boot(seconds)

    def restart(self) -> None:
        """Restart the mining process alone; the control board goes on answering."""
        self._boot(RESTART_S)

    def finish_boot(self, at_s: float) -> None:
        """Take up work again if the boot is over at an instant: by itself, whoever can reach it."""
        state = self.memory.boot_state
        if state is None or at_s < self.memory.boot_until_s:
            return
        self.keep().boot_state = None
        if state in MINING_STATES:
            self.memory.mining_state = state
        self.hall.transitions.resume(self.site, self._ref, state, self._here, at_s)

    def lose_power(self, at_s: float) -> None:
        """It was without power and begins to boot; a restart that was under way ends with that."""
        state = self.keep().boot_state
        self.memory.lose_power()
        if state is not None:
            self.hall.transitions.resume(self.site, self._ref, state, self._here, at_s)

    def _boot(self, seconds: float) -> None:
        """Stop, and remember what to do afterwards: a WhatsMiner that was off mines again, the others stay as they were."""
        report = self.report()
        after = self.memory.mining_state if self.firmware.is_whatsminer else report.state
        self._set(CURTAILED)
        self.memory.boot_state, self.memory.boot_until_s = after, self.now_s + seconds
        self.hall.boot_later(self, self.memory.boot_until_s)

    def _look(self, now_s: float) -> Report:
        reading = self.site.miner(self.place.slot, now_s)
        if reading.state in MINING_STATES:
            self.memory.mining_state = reading.state
        lie = float(self.site.claimed(np.array([self.place.slot]))[0]) if LYING in reading.faults else 1.0
        factory_ths = max((one.hash_rate_th_per_s for one in self.group.states), default=0.0)
        boot = self.memory.boot_state
        state = reading.state if boot is None else boot
        has_work = state in MINING_STATES and self.has_pool
        return report_of(reading, self.hardware, factory_ths, state, lie, int(now_s), has_work=has_work)

    @property
    def _ref(self) -> bytes:
        """What the devices' own log calls this miner's commands by."""
        name = f"protocol/{self.firmware.dialect.value}/{self.site.config.site}/{self.place.slot}"
        return uuid.uuid5(uuid.NAMESPACE_URL, name).bytes

    @property
    def _here(self) -> BitMap:
        return BitMap([self.place.slot])

    def _set(self, state: int) -> bool:
        result = self.hall.transitions.set_state(self.site, self._ref, 0, state, self._here)
        self._report = None
        return bool(result.accepted)


def _is_any(pools: list[Pool]) -> bool:
    return any(pool.url for pool in pools)


def _mining_states(group: GroupConfig) -> list[int]:
    mining = [one for one in group.states if one.state in MINING_STATES]
    return [one.state for one in sorted(mining, key=lambda one: one.power_w)]
