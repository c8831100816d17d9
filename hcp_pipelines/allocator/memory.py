"""What an owner knows beside the journal and hands to its successor: guard accounts, and the mix to restore. Pure.

Kept as JSON by names, not positions, so that it outlives another policy and another inventory; what no longer fits is left out.
"""

import math
from typing import Any

import numpy as np

from hcp_pipelines.allocator.shadow import Shadow
from hcp_pipelines.domain.modes import STATE_COUNT, DeviceState
from hcp_pipelines.policy.arrays import CompiledPolicy
from hcp_pipelines.policy.guard import ACCOUNTS, EMPTY, GuardState
from hcp_pipelines.policy.waves import FacilityShape

Memory = dict[str, Any]


def memory_of(guard: GuardState | None, shadow: Shadow, shape: FacilityShape) -> Memory:
    """As it is stored; accounts that are empty are left out."""
    accounts = {}
    if guard is not None:
        columns = zip(guard.block_keys, guard.accounts.round(6).T.tolist(), strict=True)
        accounts = {key: column for key, column in columns if column != EMPTY.tolist()}
    mixes = {
        shape.group_ids[g]: {DeviceState(s).label: int(counts[s]) for s in np.flatnonzero(counts).tolist()}
        for g, counts in shadow.kept.items()
    }
    return {"guard": accounts, "mix": mixes}


def guard_of(memory: Memory, compiled: CompiledPolicy) -> GuardState:
    """The accounts, for the blocks of a policy; those of blocks that it does not have are lost."""
    state, accounts = GuardState.empty(compiled), memory.get("guard", {})
    for n, key in enumerate(compiled.block_keys):
        known = [v for v in accounts.get(key) or () if isinstance(v, int | float) and math.isfinite(v)]
        known = known[: len(ACCOUNTS)]  # another release kept fewer, or more
        state.accounts[: len(known), n] = known
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
