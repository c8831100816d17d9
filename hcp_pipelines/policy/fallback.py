"""The static fallback plan: a state per group that needs no price (DESIGN §7.4)."""

from collections.abc import Mapping

from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.policy.arrays import Ints
from hcp_pipelines.policy.waves import FacilityShape


def fallback_targets(shape: FacilityShape, plan: Mapping[str, DeviceState], present: Ints) -> Ints:
    """[g, s] targets: every commandable device of a planned group in its state; other groups stay as they are."""
    targets = present.copy()
    for g, group_id in enumerate(shape.group_ids):
        state = plan.get(group_id)
        if state is not None:
            targets[g] = 0
            targets[g, int(state)] = present[g].sum()
    return targets
