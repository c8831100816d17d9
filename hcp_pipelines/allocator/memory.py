"""What an owner knows beside the journal and hands to its successor: guard accounts, and the mix to restore. Pure.

Kept as JSON by names, not positions, so that it outlives another policy and another inventory; what no longer fits is left out.
"""

from typing import Any

import numpy as np

from hcp_pipelines.allocator.shadow import Shadow
from hcp_pipelines.domain.modes import STATE_COUNT, DeviceState
from hcp_pipelines.policy.arrays import CompiledPolicy
from hcp_pipelines.policy.guard import GuardState
from hcp_pipelines.policy.waves import FacilityShape

Memory = dict[str, Any]


def memory_of(guard: GuardState | None, shadow: Shadow, shape: FacilityShape) -> Memory:
    """As it is stored; accounts that are empty are left out."""
    accounts = {}
    if guard is not None:
        pairs = zip(guard.block_keys, guard.forgone_usd_per_mw.tolist(), guard.lost_usd_per_mw.tolist(), strict=True)
        accounts = {key: [round(forgone, 6), round(lost, 6)] for key, forgone, lost in pairs if forgone or lost}
    mixes = {
        shape.group_ids[g]: {DeviceState(s).label: int(counts[s]) for s in np.flatnonzero(counts).tolist()}
        for g, counts in shadow.kept.items()
    }
    return {"guard": accounts, "mix": mixes}


def guard_of(memory: Memory, compiled: CompiledPolicy) -> GuardState:
    """The accounts, for the blocks of a policy; those of blocks that it does not have are lost."""
    state, accounts = GuardState.empty(compiled), memory.get("guard", {})
    for n, key in enumerate(compiled.block_keys):
        forgone, lost = accounts.get(key, (0.0, 0.0))
        state.forgone_usd_per_mw[n], state.lost_usd_per_mw[n] = float(forgone), float(lost)
    return state


def shadow_of(memory: Memory, shape: FacilityShape) -> Shadow:
    """The mixes to restore, of the groups that there still are."""
    shadow = Shadow()
    for group_id, mix in memory.get("mix", {}).items():
        if group_id not in shape.group_ids:
            continue
        counts = np.zeros(STATE_COUNT, dtype=np.int64)
        for label, devices in mix.items():
            counts[DeviceState[label.upper()]] = devices
        shadow.kept[shape.group_ids.index(group_id)] = counts
    return shadow
