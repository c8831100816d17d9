"""What the gateways see of each device now, asked at most once in two seconds however many requests want it.

Truth about the present is the gateways', not Postgres': states are judged from the devices' own power.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from hcp_pipelines.api.state import Api
    from hcp_pipelines.fleet.inventory import FacilityInventory
    from hcp_pipelines.settings import Settings
    from hcp_pipelines.wire import edge_v1_pb2 as pb

REMEMBERED_S = 2.0
UNKNOWN = 255


@dataclass(frozen=True)
class GroupSeen:
    """Devices of a group: by state as judged from their power, and of all of them those without power, answer, or locked."""

    states: Mapping[str, int]
    unknown: int
    dark: int
    silent: int
    locked: int
    working: int  # in a state that earns
    issues: Mapping[
        tuple[str, str], int
    ]  # devices by what is wrong with them by their model's limits, and its severity


@dataclass(frozen=True)
class FacilitySeen:
    """A facility; `problem`: why its gateway can't be asked, and then nothing is known."""

    problem: str = ""
    power_mw: float = 0.0
    groups: Mapping[str, GroupSeen] = field(default_factory=dict)
    observed: "npt.NDArray[np.uint8] | None" = None
    silent: "npt.NDArray[np.bool_] | None" = None
    dark: "npt.NDArray[np.bool_] | None" = None
    locked: "npt.NDArray[np.bool_] | None" = None
    issues: "Mapping[tuple[str, str], npt.NDArray[np.bool_]]" = field(default_factory=dict)


class Seen:
    """The gateways' word, remembered for a moment."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._until_s = 0.0
        self._held: dict[str, FacilitySeen] = {}

    async def now(self, api: "Api") -> dict[str, FacilitySeen]:
        """By facility."""
        async with self._lock:
            if api.clock.monotonic_s() >= self._until_s:
                self._held = await api.blocking(lambda connection: _ask(api.settings, connection))
                self._until_s = api.clock.monotonic_s() + REMEMBERED_S
            return self._held


def _ask(settings: "Settings", connection: psycopg.Connection[Any]) -> dict[str, FacilitySeen]:
    from hcp_pipelines.fleet.inventory import load_inventories
    from hcp_pipelines.operators.progress import gateway_addresses, read_gateways  # gRPC: only where somebody asks

    inventories = {i.facility_id: i for i in load_inventories(connection)}
    states = read_gateways(settings, gateway_addresses(connection), list(inventories))
    return {facility_id: seen_of(inventory, states[facility_id]) for facility_id, inventory in inventories.items()}


def seen_of(inventory: "FacilityInventory", state: "pb.FacilityState | Exception") -> FacilitySeen:
    """A facility as its gateway's word on it has it."""
    if isinstance(state, Exception):
        return FacilitySeen(problem=str(state))
    import numpy as np

    from hcp_pipelines.operators.availability import mask_of

    told = np.frombuffer(state.observed, dtype=np.uint8)[: inventory.slots]
    observed = np.full(inventory.slots, UNKNOWN, dtype=np.uint8)
    observed[: len(told)] = told
    dark, locked = mask_of(state.dark, inventory), mask_of(state.locked, inventory)
    silent = ~dark & ~mask_of(state.reachable, inventory)
    issues = {(one.issue_type, one.severity): mask_of(one.slots, inventory) for one in state.issues}
    whole = FacilitySeen("", state.power_kw / 1000, {}, observed, silent, dark, locked, issues)
    groups = {
        group.group_id: of_devices(whole, slice(group.first_slot, group.first_slot + group.devices))
        for group in inventory.groups
    }
    return replace(whole, groups=groups)


def of_devices(seen: FacilitySeen, slots: slice) -> GroupSeen:
    """The devices in some slots of a facility whose gateway has answered."""
    import numpy as np

    from hcp_pipelines.domain.modes import DeviceState, Mode

    assert seen.observed is not None
    assert seen.dark is not None
    assert seen.silent is not None
    assert seen.locked is not None
    counts = np.bincount(seen.observed[slots], minlength=UNKNOWN + 1)
    states = {state: int(counts[state]) for state in DeviceState if counts[state]}
    return GroupSeen(
        states={state.label: n for state, n in states.items()},
        unknown=int(counts[UNKNOWN]),
        dark=int(seen.dark[slots].sum()),
        silent=int(seen.silent[slots].sum()),
        locked=int(seen.locked[slots].sum()),
        working=sum(n for state, n in states.items() if state.mode not in (Mode.IDLE, Mode.CURTAILED)),
        issues={key: int(mask[slots].sum()) for key, mask in seen.issues.items() if mask[slots].any()},
    )
