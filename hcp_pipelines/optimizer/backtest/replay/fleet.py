"""A facility's devices in money: what each state draws and earns, what a wake costs; and the one settlement for all schedules.

A schedule says how many devices of each group are in each state, step by step; who decided it doesn't matter here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hcp_pipelines.domain.modes import STATE_COUNT, Mode
from hcp_pipelines.domain.modes import DeviceState as State
from hcp_pipelines.optimizer.backtest.case import Case, Course, Known
from hcp_pipelines.optimizer.backtest.replay.history import STEP_H, History
from hcp_pipelines.optimizer.backtest.series import Floats, Ints
from hcp_pipelines.optimizer.backtest.simulate import Bools
from hcp_pipelines.optimizer.inputs import GroupInputs, SiteInputs
from hcp_pipelines.optimizer.steps import revenue_per_index, steps_of

KINDS = ("mining", "inference", "training", "energy", "switching")
KIND_OF_MODE = {
    Mode.BITCOIN_MINING: "mining",
    Mode.AI_INFERENCE_REALTIME: "inference",
    Mode.AI_INFERENCE_BATCH: "inference",
    Mode.MODEL_TRAINING: "training",
}


@dataclass(frozen=True)
class Fleet:
    """Arrays of a site: `[g]` groups, `[g, s]` group × state code, all of one device and all-in."""

    site: SiteInputs
    power_mw: Floats  # [g, s]
    usd_per_hour_per_index: Floats  # [g, s]
    wake_usd_per_index: Floats  # [g] a wake is wake_usd_per_index · index + wake_usd
    wake_usd: Floats  # [g]

    @property
    def groups(self) -> tuple[GroupInputs, ...]:
        """In the order of the arrays."""
        return self.site.groups

    @property
    def devices(self) -> Ints:
        """[g] of each group."""
        return np.array([group.devices for group in self.groups], dtype=np.int64)

    @property
    def earns(self) -> Bools:
        """[g, s] whether a state earns."""
        return self.usd_per_hour_per_index > 0

    @property
    def full_mw(self) -> float:
        """All devices in their highest states."""
        return float(
            sum(self.power_mw[g, group.ladder[-1].state] * group.devices for g, group in enumerate(self.groups))
        )

    def index(self, history: History) -> Floats:
        """[t, g] of each group."""
        return np.stack([history.indices[group.index] for group in self.groups], axis=1)

    def all_in(self, state_of: Mapping[int, int]) -> Ints:
        """[g, s] every device of each group in one state."""
        counts = np.zeros((len(self.groups), STATE_COUNT), dtype=np.int64)
        for g, group in enumerate(self.groups):
            counts[g, state_of[g]] = group.devices
        return counts

    def highest(self) -> Ints:
        """[g, s] every device in its group's highest state."""
        return self.all_in({g: int(group.ladder[-1].state) for g, group in enumerate(self.groups)})


def fleet_of(site: SiteInputs) -> Fleet:
    """The arrays of a site."""
    shape = (len(site.groups), STATE_COUNT)
    power, revenue, slope, fixed = np.zeros(shape), np.zeros(shape), np.zeros(shape[0]), np.zeros(shape[0])
    for g, group in enumerate(site.groups):
        for state in group.ladder:
            power[g, state.state] = state.power_kw / 1000
            revenue[g, state.state] = revenue_per_index(group, state, site)
        steps = steps_of(group, site, 1.0)
        slope[g], fixed[g] = sum(s.wake.slope for s in steps), sum(s.wake.offset for s in steps)
    return Fleet(site, power, revenue, slope, fixed)


@dataclass(frozen=True)
class Schedule:
    """What devices did: `[t, g, s]` devices (for a part of the step, a part of a device), and wakes and switches `[t, g]`."""

    counts: Floats
    wakes: Floats
    switches: Floats


def schedule_of(fleet: Fleet, start: Ints, counts: Ints) -> Schedule:
    """The schedule of mixes `[t, g, s]` that are taken up as each step begins, from a mix before the first."""
    before = np.concatenate([start[None], counts[:-1]])
    earning, earned = (fleet.earns[None] * mix for mix in (counts, before))
    wakes = np.maximum(earning.sum(axis=2) - earned.sum(axis=2), 0)
    return Schedule(counts.astype(np.float64), wakes.astype(np.float64), np.abs(counts - before).sum(axis=2) / 2)


@dataclass(frozen=True)
class Ledger:
    """Dollars by kind and step, costs below zero; MWh not drawn by devices that could have, switches per device and day."""

    usd: Mapping[str, Floats]
    load_mw: Floats
    curtailed_mwh: float
    switches_per_device_day: float

    @property
    def net_usd(self) -> Floats:
        """By step."""
        net: Floats = np.sum([self.usd[kind] for kind in KINDS], axis=0)
        return net

    def parts(self) -> dict[str, float]:
        """Dollars by kind."""
        return {kind: float(self.usd[kind].sum()) + 0.0 for kind in KINDS}


def settle(fleet: Fleet, history: History, done: Schedule) -> Ledger:
    """The ledger of a schedule: revenue at the indices of the time, energy at its interval's price with the adders."""
    index = fleet.index(history)
    earned = done.counts * fleet.usd_per_hour_per_index[None] * index[:, :, None] * STEP_H
    load = (done.counts * fleet.power_mw[None]).sum(axis=(1, 2))
    usd = {kind: np.zeros(len(history)) for kind in KINDS}
    for state in State:
        if state.mode in KIND_OF_MODE:
            usd[KIND_OF_MODE[state.mode]] += earned[:, :, state].sum(axis=1)
    usd["energy"] = -load * (history.settled_usd_per_mwh + fleet.site.adders_usd_per_mwh) * STEP_H
    usd["switching"] = -(done.wakes * (fleet.wake_usd_per_index * index + fleet.wake_usd)).sum(axis=1)
    device_days = float(fleet.devices.sum()) * len(history) * STEP_H / 24
    return Ledger(
        usd, load, float((fleet.full_mw - load).sum()) * STEP_H, float(done.switches.sum()) / max(device_days, 1e-12)
    )


def case_of(fleet: Fleet, history: History, g: int) -> Case:
    """A group as one asset that is on, in its highest state, or off, in its lowest; per MW between the two."""
    group, index = fleet.groups[g], history.indices[fleet.groups[g].index]
    low, top = group.ladder[0].state, group.ladder[-1].state
    mw = fleet.power_mw[g, top] - fleet.power_mw[g, low]
    revenue = (fleet.usd_per_hour_per_index[g, top] - fleet.usd_per_hour_per_index[g, low]) / mw * index
    revenue = revenue - fleet.site.adders_usd_per_mwh
    wake = (fleet.wake_usd_per_index[g] * index + fleet.wake_usd[g]) / mw
    known, settled = (Course(p, revenue, wake) for p in (history.known_usd_per_mwh, history.settled_usd_per_mwh))
    return Case(0.0, Known.AT_START, history.starts_us, STEP_H, known, settled, history.day_ahead_usd_per_mwh)


def best_states(fleet: Fleet, history: History, g: int) -> tuple[Case, Ints]:
    """For perfect foresight: the group's case with each step's gain that of the best state that earns, and which one that is."""
    group, case = fleet.groups[g], case_of(fleet, history, g)
    low, top = group.ladder[0].state, group.ladder[-1].state
    mw = fleet.power_mw[g, top] - fleet.power_mw[g, low]
    price = history.settled_usd_per_mwh + fleet.site.adders_usd_per_mwh
    states = [int(each.state) for each in group.ladder if fleet.earns[g, each.state]] or [int(top)]
    index = history.indices[group.index]
    gains = np.stack(
        [
            fleet.usd_per_hour_per_index[g, s] * index - (fleet.power_mw[g, s] - fleet.power_mw[g, low]) * price
            for s in states
        ]
    )
    at_best = case.settled.price_usd_per_mwh + gains.max(axis=0) / mw
    course = Course(case.settled.price_usd_per_mwh, at_best, case.settled.wake_usd)
    best = Case(0.0, case.model, case.starts_us, case.step_h, course, course, case.day_ahead)
    return best, np.array(states, dtype=np.int64)[gains.argmax(axis=0)]
