"""Profitability of each group of a site, as a frame for `economics.profitability.score_groups`: one row per group and use."""

from collections.abc import Sequence

import polars as pl

from hcp_pipelines.domain.modes import DeviceState, ResourceType
from hcp_pipelines.economics import switching
from hcp_pipelines.economics.profitability import is_workload, score_groups
from hcp_pipelines.optimizer.inputs import FacilityInputs, GroupInputs
from hcp_pipelines.optimizer.steps import revenue_per_index

DWELL_H = 1.0  # a switch is spread over so long (setting)
_USES_SCHEMA = {
    "resource_id": pl.String, "type": pl.String, "workload_type": pl.String, "revenue_usd_per_hour": pl.Float64,
    "power_kw": pl.Float64, "price_usd_per_mwh": pl.Float64, "switch_usd": pl.Float64, "is_present": pl.Boolean,
    "dwell_h": pl.Float64, "confidence_factor": pl.Float64,
}  # fmt: skip


def score_facilities(inputs: Sequence[FacilityInputs]) -> pl.DataFrame:
    """Scores of all groups, dollars per hour for the whole group; `resource_id` is 'facility/group'."""
    rows = [row for one in inputs for group in one.site.groups for row in _uses(one, group)]
    return score_groups(pl.DataFrame(rows, schema=_USES_SCHEMA))


def _uses(inputs: FacilityInputs, group: GroupInputs) -> list[dict[str, object]]:
    """A row per workload type of the group's ladder, at its most powerful state."""
    index, present = inputs.indices[group.index], inputs.present.get(group.group_id, {})
    by_use = {s.state.mode: s for s in group.ladder if is_workload(s.state.mode)}
    rows: list[dict[str, object]] = []
    for mode, state in by_use.items():
        revenue = revenue_per_index(group, state, inputs.site) * index
        wake = switching.gpu_wake() if group.type is ResourceType.GPU else switching.asic_wake(state.hash_rate_th_per_s)
        now = sum(n for s, n in present.items() if DeviceState(s).mode is mode)
        rows.append(
            {
                "resource_id": f"{inputs.site.facility_id}/{group.group_id}",
                "type": group.type.value,
                "workload_type": mode.value,
                "revenue_usd_per_hour": revenue * group.devices,
                "power_kw": state.power_kw * group.devices,
                "price_usd_per_mwh": inputs.decision_price_usd_per_mwh + inputs.site.adders_usd_per_mwh,
                "switch_usd": wake.at(revenue) * group.devices,
                "is_present": 2 * now >= group.devices,
                "dwell_h": DWELL_H,
                "confidence_factor": 1.0,
            }
        )
    return rows
