"""What `auto` would do where it may not: in `observe`, and in `approve` until somebody agrees. Pure; recorded once a tick."""

from datetime import datetime

import numpy as np

from hcp_pipelines.allocator import metrics
from hcp_pipelines.allocator.decide import InForce, Wanted
from hcp_pipelines.allocator.journal import HistoryRow
from hcp_pipelines.allocator.site import Site
from hcp_pipelines.allocator.wave import mix_rows
from hcp_pipelines.policy.arrays import Floats, Ints


def would_be(
    site: Site, wanted: Wanted, present: Ints, revenue: Floats, now: datetime, tick_id: int, in_force: InForce | None
) -> list[HistoryRow]:
    """Rows of the groups that would change: what they should do, what they do, and the $/h of what they should do."""
    changed = np.flatnonzero((wanted.targets != present).any(axis=1)).tolist()
    devices = int(np.abs(wanted.targets - present).sum()) // 2
    metrics.WOULD_BE.labels(site.facility_id).inc(devices)
    value = revenue - (wanted.price or 0.0) * site.shape.power_mw
    policy_id = in_force.policy_id if in_force else None
    return mix_rows(site, now, wanted.targets, present, changed, value, tick_id, policy_id)
