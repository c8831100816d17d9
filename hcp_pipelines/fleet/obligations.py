"""What a facility can promise a grid programme, from its inventory. The rules are in `policy.obligations`."""

from collections.abc import Mapping

from hcp_pipelines.domain.modes import ResourceType
from hcp_pipelines.fleet.inventory import FacilityInventory
from hcp_pipelines.policy.obligations import Flexible


def flexible_of(inventory: FacilityInventory, unavailable: Mapping[str, int] | None = None) -> list[Flexible]:
    """The interruptible load: miners, from their highest to their lowest state, MW at the meter.

    `unavailable`: devices by group that are not counted (locked out, held down, without an answer).
    """
    missing = unavailable or {}
    found = []
    for group in inventory.groups:
        if group.type is not ResourceType.ASIC or len(group.ladder) < 2:
            continue
        low, high = group.ladder[0], group.ladder[-1]
        devices = max(group.devices - missing.get(group.group_id, 0), 0)
        mw = devices * (high.power_kw - low.power_kw) * inventory.pue / 1000
        found.append(Flexible(group.group_id, mw, low.settle_s))
    return found
