"""Orders from what an operator says: which devices, how many, how many MW, against the facility's inventory. Pure."""

import math
import re
from collections.abc import Iterable
from datetime import datetime

import numpy as np

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.fleet.inventory import FacilityInventory, GroupInventory
from hcp_pipelines.operators.orders import Order
from hcp_pipelines.wire.slots import Slots

_RANGE = re.compile(r"(\d{1,7})(?:-(\d{1,7}))?")


def curtailment(
    inventory: FacilityInventory,
    cap_mw: float,
    reason: str,
    now: datetime,
    until: datetime | None,
    within_s: float | None,
) -> Order:
    """At most so many MW at the meter; with `within_s` what settles by then goes first."""
    if not (math.isfinite(cap_mw) and cap_mw >= 0):
        raise ConfigError(f"{inventory.facility_id}: {cap_mw:g} MW at the meter can't be: 0 or more")
    if cap_mw > inventory.capacity_mw:
        limit = f"its capacity is {inventory.capacity_mw:g} MW"
        raise ConfigError(f"{inventory.facility_id}: a limit of {cap_mw:g} MW at the meter curtails nothing: {limit}")
    value = {"cap_mw": cap_mw} | ({} if within_s is None else {"within_s": within_s})
    return Order(inventory.facility_id, "curtail", reason, now, until, value=value)


def stop(inventory: FacilityInventory, reason: str, now: datetime) -> Order:
    """Everything to its lowest state, until it is released."""
    return Order(inventory.facility_id, "stop_all", reason, now, None)


def override(
    inventory: FacilityInventory,
    group_id: str,
    state: DeviceState,
    reason: str,
    now: datetime,
    until: datetime | None,
    *,
    devices: int | None = None,
    mw: float | None = None,
) -> Order:
    """So many devices of a group (or as many as draw `mw` at full load; or all) in a state.

    Raises:
        ConfigError: no such group, a state that is not on its ladder, or more devices than it has.
    """
    group = group_of(inventory, group_id)
    ladder = [step.state for step in group.ladder]
    if state not in ladder:
        raise ConfigError(f"{group_id} has no state {state.label}; it has {', '.join(s.label for s in ladder)}")
    if mw is not None:
        devices = math.ceil(mw / inventory.all_in_mw(group, ladder[-1], 1) - 1e-9)
    if devices is not None and not 0 < devices <= group.devices:
        raise ConfigError(f"{group_id} has {group.devices} devices, the order says {devices}")
    return Order(
        inventory.facility_id,
        "override",
        reason,
        now,
        until,
        scope={"group_id": group_id},
        value={"state": state.label, "devices": devices},
    )


def drain(inventory: FacilityInventory, reason: str, now: datetime, until: datetime) -> list[Order]:
    """Each group in the state of the facility's fallback plan."""
    return [
        override(inventory, group.group_id, inventory.fallback.get(group.group_id, group.lowest), reason, now, until)
        for group in inventory.groups
    ]


def group_of(inventory: FacilityInventory, group_id: str) -> GroupInventory:
    """A group of a facility.

    Raises:
        ConfigError: there is none of that id.
    """
    for group in inventory.groups:
        if group.group_id == group_id:
            return group
    known = ", ".join(g.group_id for g in inventory.groups)
    raise ConfigError(f"{inventory.facility_id} has no group {group_id!r}; it has {known}")


def feeder_of(inventory: FacilityInventory, feeder_id: str) -> str:
    """A feeder of a facility.

    Raises:
        ConfigError: there is none of that id.
    """
    if feeder_id not in inventory.feeder_limits_mw:
        known = ", ".join(inventory.feeder_limits_mw)
        raise ConfigError(f"{inventory.facility_id} has no feeder {feeder_id!r}; it has {known}")
    return feeder_id


def slots_of(inventory: FacilityInventory, texts: Iterable[str]) -> Slots:
    """The slots of texts like `7`, `10-19` or `3,5,8-9`.

    Raises:
        ConfigError: a text that is none, or a slot without a device.
    """
    found: set[int] = set()
    for part in (p.strip() for text in texts for p in text.split(",")):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise ConfigError(f"{part!r} is no slot and no range of slots: 7, 10-19 or 3,5,8-9")
        first, last = int(match[1]), int(match[2] or match[1])
        _refuse_empty(inventory, part, first, last)
        found.update(range(first, last + 1))
    return np.array(sorted(found), dtype=np.uint32)


def _refuse_empty(inventory: FacilityInventory, part: str, first: int, last: int) -> None:
    runs = [(g.first_slot, g.first_slot + g.devices - 1) for g in inventory.groups]
    inside = sum(max(min(last, end) - max(first, start) + 1, 0) for start, end in runs)
    if first > last or inside < last - first + 1:
        has = ", ".join(f"{start}-{end}" for start, end in runs)
        raise ConfigError(f"slots {part}: {inventory.facility_id} has devices in {has}")
