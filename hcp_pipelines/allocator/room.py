"""How much load may rise: the ramps' room, less what limits leave, and devices that may not rise at all. Pure."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from hcp_pipelines.allocator.devices import UNKNOWN, Devices
from hcp_pipelines.policy.arrays import Bools, Ints
from hcp_pipelines.policy.directives import Directive
from hcp_pipelines.policy.dwell import DwellLocks, dwell_locks
from hcp_pipelines.policy.ramps import FACILITY, Headroom
from hcp_pipelines.policy.schema import Couplings
from hcp_pipelines.policy.waves import FacilityShape


def fixed_mw(shape: FacilityShape, devices: Devices, free: Bools) -> dict[str, float]:
    """All-in MW by feeder of devices that nobody can command now, as far as their states are known."""
    counts = shape.counts(devices.states, ~free & (devices.states != UNKNOWN))
    mw, found = (counts * shape.power_mw).sum(axis=1), dict[str, float]()
    for feeder_id, group_mw in zip(shape.feeder_of_group, mw.tolist(), strict=True):
        found[feeder_id] = found.get(feeder_id, 0.0) + group_mw
    return found


def under_limits(
    headroom: Headroom,
    limits: Sequence[Directive],
    shape: FacilityShape,
    devices: Devices,
    present: Ints,
    fixed: Mapping[str, float],
    now_s: float,
) -> Headroom:
    """The ramps' room; under a limit nothing is woken into room that others are still leaving."""
    up = dict(headroom.up_mw)
    by_group = (present * shape.power_mw).sum(axis=1) + devices.falling_mw(now_s)
    for limit in limits:
        groups = [g for g, f in enumerate(shape.feeder_of_group) if limit.feeder_id in ("", f)]
        own_mw = sum(mw for f, mw in fixed.items() if limit.feeder_id in ("", f))
        room_mw = max(limit.cap_mw - float(by_group[groups].sum()) - own_mw, 0.0)
        scope = limit.feeder_id or FACILITY
        up[scope] = min(up.get(scope, room_mw), room_mw)
    return Headroom(up, headroom.down_mw)


def resting(
    devices: Devices,
    shape: FacilityShape,
    couplings: Couplings,
    ordered: Collection[int],
    scheduled: Collection[int],
    now_s: float,
) -> DwellLocks | None:
    """Minimum up and down times; and devices started often enough within the hour, but for groups that somebody `ordered`.

    Nothing of it holds where work is `scheduled`: it comes and goes by the scheduler, and a gang is never held in parts.
    """
    locks = dwell_locks(devices.changed_at_s, devices.rose, now_s, couplings.min_up_s, couplings.min_down_s)
    if locks is not None:
        for g in scheduled:
            locks.may_not_rise[shape.members[g]] = locks.may_not_fall[shape.members[g]] = False
    if couplings.starts_per_hour is None:
        return locks
    worn = devices.worn(couplings.starts_per_hour, now_s)
    for g in (*ordered, *scheduled):
        worn[shape.members[g]] = False
    return barred(locks, worn)


def barred(locks: DwellLocks | None, may_not_rise: Bools) -> DwellLocks | None:
    """Minimum up and down times, and devices that may not rise whatever these say."""
    if not may_not_rise.any():
        return locks
    if locks is None:
        return DwellLocks(may_not_rise, np.zeros_like(may_not_rise))
    return DwellLocks(locks.may_not_rise | may_not_rise, locks.may_not_fall)
