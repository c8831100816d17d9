"""Desired rows as Postgres would hand them over, and an owner of a small facility whose GPUs are scheduled."""

import math
from dataclasses import dataclass, field, replace

import numpy as np

from hcp_pipelines.allocator.decide import InForce, Limits
from hcp_pipelines.allocator.desired_table import RowWork, StoredRows
from hcp_pipelines.allocator.owner import Owner
from hcp_pipelines.allocator.site import site_of
from hcp_pipelines.domain.clock import ManualClock
from hcp_pipelines.domain.modes import DeviceState, ResourceType
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.schema import Affine, BlockWork
from hcp_pipelines.wire.work import key_of
from tests.support import fleet
from tests.support.fleet import NOON, row

GROUP = "h100"
IDLE, BATCH, TRAINING = (int(s) for s in (DeviceState.IDLE, DeviceState.INFERENCE_BATCH, DeviceState.TRAINING))
LIMITS = Limits(power_staleness_s=900.0, bitcoin_staleness_s=7200.0, hold_s=1800.0)
STEADY, SHAKY = 60, 40  # devices that the policy keeps at work up to about 1,640 $/MWh, and up to about 820


@dataclass(frozen=True)
class Desired:
    """A row of `desired_state`."""

    row_id: int
    slots: tuple[int, ...]
    state: int = BATCH
    priority: int = 50
    order_index: int = 0
    group_id: str = GROUP
    generation: int = 1
    is_outdated: bool = False
    workload: str = ""  # the row's own, unless it is said
    ends_at_s: float = field(default=math.inf, compare=False)


def stored(*rows):
    """As they come from Postgres: in line."""
    rows = sorted(rows, key=lambda r: (-r.priority, r.order_index, r.row_id))
    return StoredRows(
        [r.row_id for r in rows], [r.group_id for r in rows], [r.state for r in rows], [r.generation for r in rows],
        [len(r.slots) for r in rows], [r.is_outdated for r in rows], [r.ends_at_s for r in rows],
        b"".join(np.array(r.slots, dtype="<u4").tobytes() for r in rows), [work_of(r) for r in rows],
    )  # fmt: skip


def work_of(row):
    """What it is to run."""
    return RowWork(row.workload or f"work-{row.row_id}", f"model-{row.row_id}", 16.0, 1, "cold", "")


def works_of(*rows, first=500, devices=600):
    """[n] the keys of what the slots of some rows run."""
    works = np.zeros(devices, dtype=np.int64)
    for r in rows:
        works[first + np.array(r.slots)] = key_of(work_of(r).workload_id)
    return works


def inventory(**changes):
    return fleet.inventory(**({"scheduled": frozenset({GROUP})} | changes))


def policy(book, made):
    """The optimizer's policy for the same devices unscheduled; a part of the GPUs is worth half as much."""
    whole = fleet.policy(replace(made, scheduled=frozenset()), book)
    [gpus] = [b for b in whole.blocks if b.group_id == GROUP]

    def part(devices, worth):
        pays = Affine(slope=gpus.on.slope * worth, offset=0.0)
        strikes = {"on": pays, "off": Affine(slope=gpus.off.slope * worth, offset=0.0), "work": BlockWork(worth=pays)}
        size = {"devices": devices, "mw": gpus.mw * devices / gpus.devices, "wake_cost_usd_per_mw": 0.0}
        return gpus.model_copy(update=size | strikes)

    others = [b for b in whole.blocks if b is not gpus]
    blocks = [part(STEADY, 1.0), part(SHAKY, 0.5), *others]
    return whole.model_copy(update={"blocks": tuple(b.model_copy(update={"order": n}) for n, b in enumerate(blocks))})


class Rig:
    """An owner of 500 miners and 100 GPUs that its gateway follows; all of them work at first."""

    def __init__(
        self,
        price=30.0,
        memory=None,
        states=None,
        works=None,
        clock=None,
        epoch=1,
        in_force=None,
        starting=None,
        **changes,
    ):
        self.inventory = inventory(**changes)
        self.site = site_of(self.inventory, self.inventory.capacity_mw, "unix:/nowhere.sock")
        self.clock, self.book, self.next_id = clock or ManualClock(NOON), fleet.book(price), 100
        self.owner = Owner(self.site, epoch, self.clock, LIMITS)
        if memory is not None:
            self.owner.inherit(memory)
        if in_force is None:
            made = policy(self.book, self.inventory)
            in_force = InForce(1, made, compile_policy(made))
        self.owner.follow(in_force)
        self.first = next(g.first_slot for g in self.inventory.groups if g.type is ResourceType.GPU)
        if states is None:
            tops = np.array([ladder[-1] for ladder in self.site.shape.ladders], dtype=np.uint8)
            states = tops[self.site.shape.group_of_slot]
        self.owner.devices.adopt(states.tobytes(), states.tobytes(), NOON.timestamp(), works, starting)
        self.owner.is_ready = True
        self.miners_at_first = self.miners()

    def miners(self):
        """What they were told."""
        return self.owner.devices.states[: self.first].tobytes()

    def runs(self, row):
        """Whether each of a row's slots was told its state and its work, and no other slot that work."""
        key = key_of(work_of(row).workload_id)
        return (
            set(np.flatnonzero(self.owner.devices.works[self.first :] == key).tolist())
            == set(row.slots)
            <= self.at(row.state)
        )

    def told(self):
        """As a gateway would say it to whoever announces next: states and works."""
        return {"states": self.owner.devices.states.copy(), "works": self.owner.devices.works.copy()}

    @property
    def states(self):
        """[100] what the GPUs were told."""
        return self.owner.devices.states[self.first : self.first + 100]

    def at(self, state):
        """Slots of the group that were told a state."""
        return set(np.flatnonzero(self.states == state).tolist())

    def desire(self, *rows):
        self.owner.desire(stored(*rows))
        self.owner.ask()
        return self.plan()

    def tick(self, price, minutes=5.0):
        """The clock moves and a new price comes."""
        self.clock.advance(minutes * 60)
        self.next_id += 1
        at = self.clock.now().replace(second=0, microsecond=0)
        self.book.take([row(self.next_id, price, at, origin_ns=1)])
        return self.plan()

    def plan(self):
        """The next wave, which leaves; its gateway has not answered."""
        wave = self.owner.plan(self.book)
        if wave is not None:
            self.owner.take(wave)
        return wave

    def acknowledge(self, wave):
        """The gateway has taken a wave on."""
        for move in wave.plan.moves if wave else ():
            self.owner.devices.taken_on(move.slots, move.to_state, move.work)
        self.owner.settle_work()

    def arrive(self, wave):
        """It has, and the devices have settled."""
        self.acknowledge(wave)
        for move in wave.plan.moves if wave else ():
            self.owner.devices.settled(move.slots)
        self.owner.settle_work()

    def news(self):
        """(row, state) of what was said since the last call."""
        return [(n.desired_state_id, n.state) for n in self.owner.take_work_news()]
