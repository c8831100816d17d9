"""One facility in simulated time: the commands to its devices, what befalls them, and the passing of time itself.

Vectorised and lazy: a device costs nothing while it is settled; energy is integrated exactly, not sampled. What a device does
is in `devices`, power in `ramps`, hashing in `work`, heat in `heat` and `thermal`; what can be read is in `site_readings`, what
outlives the process in `site_saving`. Nothing here knows of sockets or files.
"""

from collections.abc import Iterable
from math import inf

import numpy as np
from pyroaring import BitMap

from simulators import faults as f
from simulators.ramps import PowerArray
from simulators.roaring import from_slots, slots
from simulators.site_readings import ReadableSite
from simulators.site_records import (
    SetResult,
    SiteState,
    kept_slots,
    merged,
)
from simulators.streams import BoolArray, IntArray
from simulators.tables import STATE_CODES

FAULT_RAMP_S = 5.0  # within which a device that stops by itself has stopped


class Site(ReadableSite):
    """One facility's devices and its revenue meter."""

    def set_state(self, state: int, wanted: BitMap, at_s: float) -> SetResult:
        """Command devices into a state; those already there, or on their way, accept and do nothing."""
        self.advance(at_s)
        able = wanted & self._tables.able[state] if state < STATE_CODES else BitMap()
        index = slots(able)
        answers = self._devices.answers(index, self.at_s)
        accepted = able if answers.all() else from_slots(index[answers])
        changed, diverted = self._devices.command(state, index[answers])
        moved = np.concatenate([changed, *diverted.values()])
        self._refit(moved)
        astray = {into: from_slots(whom) for into, whom in diverted.items()}
        return SetResult(accepted, wanted - accepted, from_slots(changed), astray)

    def put(self, state: int, changed: BitMap, at_s: float) -> None:
        """Do again what the devices' log says was done: whatever faults would make of the command now."""
        self.advance(at_s)
        index = slots(changed)
        self._devices.put(state, index)
        self._refit(index)

    def limit(self, wanted: BitMap, watts: float | None, at_s: float) -> BitMap:
        """Limit the power of devices that answer, or no longer; a GPU's watts are its board's, whose own limit is none.

        Returned: who took it.
        """
        self.advance(at_s)
        index = slots(wanted & BitMap.union(*self._tables.able))
        index = index[self._devices.answers(index, self.at_s)]
        self._devices.limit_w[index] = inf if watts is None else watts
        for slot in index[self._tables.is_gpu[index]].tolist() if watts is not None else ():
            is_none = watts is None or watts >= self._physics.board_limit_w(slot)
            self._devices.limit_w[slot] = inf if is_none else self._physics.slot_w(slot, float(watts or 0.0))
        self._refit(index)
        return from_slots(index)

    def end_work(self, wanted: BitMap, at_s: float) -> BitMap:
        """Let the applications on GPUs die; of those that ran any."""
        self.advance(at_s)
        struck = self._devices.lose_work(slots(wanted & BitMap.union(*self._tables.able)))
        self._refit(struck)
        return from_slots(struck)

    def impose(self, kind: str, wanted: BitMap, at_s: float, until_s: float = inf, xid: int = 0) -> None:
        """Give devices a fault that no schedule knows: consequences of a command, drills, tests. `xid`: what GPUs report."""
        self.advance(at_s)
        index = slots(wanted & BitMap.union(*self._tables.able))
        self.faults.impose(kind, index, self.at_s, until_s, xid)
        self._befall(kind, index)
        self._strike()

    def lift(self, kinds: Iterable[str], wanted: BitMap, at_s: float) -> None:
        """Mend devices: their faults of these kinds are over; `xid` among them forgets the last XID."""
        self.advance(at_s)
        index = slots(wanted & BitMap.union(*self._tables.able))
        for kind in kinds:
            self._befall(kind, self.faults.lift(kind, index, self.at_s))

    def advance(self, at_s: float) -> None:
        """Move to an instant: integrate the meter, and stop wherever something happens. Going back does nothing."""
        while True:
            plant_s = self.plant.next_after(self.at_s) if self.plant is not None else inf
            due_s = min(self.faults.next_s, self._heat.next_s, plant_s, self.calls.next_s)
            if due_s > at_s:
                break
            self._integrate(due_s)
            self._happen(due_s)
            if self.plant is not None and plant_s <= due_s:
                self.plant.step()
            self.calls.run(due_s)
        self._integrate(at_s)

    def set_without_power(self, dead: BoolArray) -> dict[int, BitMap]:
        """Which slots have no power from now on because a breaker is open; those that get it back boot.

        Returned: the devices whose state a restart has changed, by their state now.
        """
        self._cut = dead.copy()
        return self._relight(self._everyone)

    def save(self) -> SiteState:
        """A copy of the state, for the state file."""
        arrays = self._rooms.save() | {"cut": self._cut.copy(), **self.faults.save()}
        return SiteState(self.digest, tuple(self.keys.values()), self.at_s, self.energy_wh, arrays)

    def restore(self, state: SiteState) -> BitMap:
        """Take a saved state over, of the groups that are still the same; their slots. All others begin anew."""
        same = [group for group in self.config.groups if self.keys[group.group] in state.groups]
        kept = np.zeros(self.devices, dtype=np.bool_)
        kept[slots(kept_slots(same))] = True
        if is_whole := state.digest == self.digest:
            kept[:] = True
        self.at_s, self.energy_wh = state.at_s, state.energy_wh
        self._rooms.restore(state.arrays, kept, state.at_s)
        self._cut = merged(self._cut, state.arrays["cut"], np.flatnonzero(kept))
        self.faults.restore(state.arrays, state.at_s, kept)
        self.faults.take_struck()
        self._heat.step(self.ambient_c(self.at_s), self.at_s)
        self._ramps.take_over(state.at_s)
        if not is_whole:
            self._refit(self._everyone)
        return kept_slots(same)

    def _happen(self, due_s: float) -> None:
        """What befalls devices at the instant that the site has come to."""
        if self.faults.next_s <= due_s:
            for kind, index in self.faults.happen(due_s).items():
                self._befall(kind, index)
            self._strike()
        if self._heat.next_s <= due_s:
            self._refit(self._heat.step(self.ambient_c(due_s), due_s))

    def _integrate(self, at_s: float) -> None:
        if at_s <= self.at_s:
            return
        self.energy_wh += self._ramps.joules(self.at_s, at_s) * self.pue_at(self.at_s) / 3600.0
        self.at_s = self.faults.at_s = at_s
        self._ramps.settle(at_s)

    def _befall(self, kind: str, index: IntArray) -> None:
        """A fault has begun or ended at some devices."""
        if kind == f.POWER_LOST:
            restarted = self._relight(index)
        else:
            moved = self._devices.after(kind, index, self.at_s)
            restarted = {state: from_slots(whom) for state, whom in moved.items() if len(whom)}
            if kind == f.NODE_LOST:
                self._note_boot(index[~self.faults.any_of((kind,), index)])
        if kind == f.COOLING_LOST:
            self._heat.watch(self.at_s)
        self._refit(index)
        for state, changed in restarted.items():
            self.on_restart(state, changed)

    def _relight(self, index: IntArray) -> dict[int, BitMap]:
        """Who of some devices has power now; those that get it back boot. Whose state has changed by that."""
        was = self._devices.is_dark[index]
        now = self._cut[index] | self.faults.any_of((f.POWER_LOST,), index)
        self._devices.is_dark[index] = now
        restarted = self._devices.boot(index[was & ~now], self.at_s)
        self._note_boot(index[was & ~now])
        self._refit(index[was != now])
        return {state: from_slots(whom) for state, whom in restarted.items() if len(whom)}

    def _note_boot(self, index: IntArray) -> None:
        """Devices begin to boot: that mends what a restart mends, and their own software has to know of it."""
        if not len(index):
            return
        gpus = index[self._tables.is_gpu[index]]
        for kind in f.BY_RESTART if len(gpus) else ():
            self._befall(kind, self.faults.lift(kind, gpus, self.at_s))
        for tell in self.on_boot:
            tell(from_slots(index), self.at_s)

    def _strike(self) -> None:
        """XIDs have hit GPUs: with some of them the application there dies."""
        for index, xid in self.faults.take_struck():
            struck = self._devices.lose_work(index) if xid in f.APP_KILLERS else index[:0]
            self._refit(struck)
            for tell in self.on_work_lost if len(struck) else ():
                tell(from_slots(struck), xid, self.at_s)

    def _refit(self, index: IntArray) -> None:
        """Send devices to where their state and condition want them, if they aren't on their way there."""
        if not len(index):
            return
        power_w, hashrate = self._devices.targets(index, self._heat.allowed_w(index))
        moves = (power_w != self._ramps.to_w[index]) | (hashrate != self._physics.full_th_per_s[index])
        index, power_w, hashrate = index[moves], power_w[moves], hashrate[moves]
        if not len(index):
            return
        self._physics.turn(index, hashrate, self._heat.inlet_c(index), self.at_s)
        ramp_s = self._ramp_s(index, power_w)
        delay_s = np.maximum(self._devices.boots_until_s[index] - self.at_s, 0.0)
        self._ramps.retarget(index, power_w, ramp_s, self.at_s, delay_s)

    def _ramp_s(self, index: IntArray, to_w: PowerArray) -> PowerArray:
        """How long the way takes: a state's own time, 5 s for what stops by itself, none for what loses its power."""
        state = self._devices.acting[index]
        is_rising = to_w > self._ramps.power_of(index, self.at_s)
        down_s = self._tables.ramp_down_s[state, index]
        is_nominal = to_w == self._tables.power_w[state, index]
        down_s = np.where(is_nominal, down_s, np.minimum(down_s, FAULT_RAMP_S))
        ramp_s = np.where(is_rising, self._tables.ramp_up_s[state, index], down_s)
        return np.where(self._devices.is_dark[index], 0.0, ramp_s).astype(np.float32)
