"""What there is and what is left of it: groups as columns, their free devices, and how many may work in each state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np
import numpy.typing as npt

from hcp_pipelines.domain.modes import STATE_COUNT, DeviceState, ResourceType
from hcp_pipelines.workloads.routing.packing import Bools, Free, Ints, Topology

Floats = npt.NDArray[np.float64]
MANY = 2**40  # more devices than there are

SLEPT_MOST = 50_000  # pieces of work of which it is known where they sleep


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """A group of devices as its facility file has it. `power_kw` is all-in, by state; `closed` says why nothing goes there."""

    facility_id: str
    group_id: str
    kind: ResourceType
    called: str  # its type, as claims name it
    names: frozenset[str]  # what work may ask for by
    memory_gb: float
    topology: Topology
    devices: int
    first_slot: int
    generation: int
    power_kw: Mapping[int, float]
    settlement_point: str
    latitude: float
    longitude: float
    regions: frozenset[str]
    gpu_type: str = ""  # as the market prices it
    rate_fraction: Mapping[str, float] = field(default_factory=dict)
    closed: str = ""
    closed_by: str = ""  # who closed it and why, which is not for customers
    hold_s: float | None = (
        None  # world time: its facility's own, that its gateway goes on by itself before it falls back
    )

    @property
    def key(self) -> tuple[str, str]:
        """What names it."""
        return self.facility_id, self.group_id


@dataclass(frozen=True, slots=True)
class Market:
    """What the router is told of prices and policies, a row a group.

    `bounds` are the devices that its policy lets work in each state of the ladder *or one above it*, `why_none` why it lets none:
    who draws less may take the place of who draws more (docs/desired-state.md). `revenue_usd_per_hour` is of one device by state,
    NaN where nothing is known.
    """

    price_usd_per_mwh: Floats  # [g], NaN: none
    revenue_usd_per_hour: Floats  # [g, s]
    bounds: Ints  # [g, s]
    why_none: tuple[str, ...]


def _reach(group: GroupFacts) -> Bools:
    """[state, step]: the steps of the ladder that a device in a state counts at: its own and those below, but the lowest."""
    found = np.zeros((STATE_COUNT, STATE_COUNT), dtype=bool)
    ladder = sorted(group.power_kw, key=lambda state: group.power_kw[state])
    for n, state in enumerate(ladder):
        found[state, ladder[1 : n + 1]] = True
    return found


class Room:
    """The free devices of all groups, and how many work in which state by our own doing."""

    def __init__(
        self,
        groups: Sequence[GroupFacts],
        free: Sequence[Bools],
        slept: "dict[UUID, tuple[tuple[str, str], Ints]] | None" = None,
    ) -> None:
        """`slept`: where work that waits was put to sleep, by group and slots."""
        self.groups = tuple(groups)
        self.index = {group.key: g for g, group in enumerate(groups)}
        self.of = [Free(mask, group.topology) for mask, group in zip(free, groups, strict=True)]
        self.devices: Ints = np.array([group.devices for group in groups], dtype=np.int64)
        self.free: Ints = np.array([one.count for one in self.of], dtype=np.int64)
        self.reach = (
            np.stack([_reach(group) for group in groups]) if groups else np.zeros((0, STATE_COUNT, STATE_COUNT), bool)
        )
        self.working: Ints = np.zeros((len(groups), STATE_COUNT), dtype=np.int64)  # in each state or one above it
        self.given_back = 0  # how often something came free
        self.slept = {} if slept is None else slept
        self.serves_realtime: Bools = np.array(
            [DeviceState.INFERENCE_REALTIME in group.power_kw for group in groups], dtype=bool
        )

    def take(self, g: int, slots: Ints, state: int) -> None:
        """Devices begin to work for somebody."""
        self.of[g].take(slots)
        self.free[g] = self.of[g].count
        self.working[g] += len(slots) * self.reach[g, state]

    def give(self, g: int, slots: Ints, state: int) -> None:
        """They are let go of."""
        self.of[g].give(slots)
        self.given_back += 1
        self.free[g] = self.of[g].count
        self.working[g] -= len(slots) * self.reach[g, state]

    def put_to_sleep(self, workload_id: UUID, g: int, slots: Ints) -> None:
        """Work waits again, and sleeps on what it had: there it need only be woken, as long as nobody else begins there."""
        self.slept[workload_id] = self.groups[g].key, slots
        if len(self.slept) > SLEPT_MOST:
            del self.slept[next(iter(self.slept))]

    def where_it_sleeps(self, workload_id: UUID, g: int) -> Ints | None:
        """The slots of a group on which work sleeps, if all of them are free; which models else sleep there nobody tells."""
        key, slots = self.slept.get(workload_id, (None, None))
        free = self.of[g].free
        if slots is None or key != self.groups[g].key or slots[-1] >= len(free) or not free[slots].all():
            return None
        return slots

    def close(self, g: int, slots: Ints) -> None:
        """Free devices that nothing is to get for now."""
        self.of[g].take(slots)
        self.free[g] = self.of[g].count

    def left(self, market: Market, state: int) -> Ints:
        """[g] devices that may still begin to work in a state: free ones, within the bounds of its step and of those below it."""
        steps = self.reach[:, state, :]
        within = np.where(steps, market.bounds - self.working, MANY).min(axis=1, initial=MANY)
        left: Ints = np.where(steps.any(axis=1), np.maximum(np.minimum(self.free, within), 0), 0)
        return left

    def by_type(self, market: Market) -> dict[str, int]:
        """Devices to be had of each type."""
        every = np.max(np.stack([self.left(market, s) for s in range(STATE_COUNT)]), axis=0)
        found: dict[str, int] = {}
        for group, now in zip(self.groups, every.tolist(), strict=True):
            if not group.closed:
                found[group.called] = found.get(group.called, 0) + now
        return found

    def most_by_type(self, *, with_closed: bool = False) -> dict[str, int]:
        """The most devices of each type that one piece of work could ever have: those of the largest group."""
        found: dict[str, int] = {}
        for group in self.groups:
            if with_closed or not group.closed:
                found[group.called] = max(found.get(group.called, 0), group.devices)
        return found
