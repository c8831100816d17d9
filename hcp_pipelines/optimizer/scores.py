"""Profitability of each group of a site, as a frame for `economics.profitability.score_uses`: one row per group and use."""

from collections.abc import Mapping, Sequence

import polars as pl

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.modes import DeviceState, Mode, ResourceType
from hcp_pipelines.domain.ticks import Stream
from hcp_pipelines.economics.contract import all_in_usd_per_mwh
from hcp_pipelines.economics.profitability import (
    SITE_SCHEMA,
    ProfitabilityScore,
    confidence_factor,
    is_workload,
    score_uses,
)
from hcp_pipelines.economics.switching import switch_cost
from hcp_pipelines.optimizer.inputs import FacilityInputs, GroupInputs
from hcp_pipelines.optimizer.steps import revenue_per_index

DWELL_H = 1.0  # a switch is spread over so long (setting)
INDEX_STREAMS = {
    ResourceType.ASIC: (Stream.BTC_USD, Stream.BTC_NETWORK),
    ResourceType.GPU: (Stream.GPU_SPOT,),
    ResourceType.CPU: (),
}
_USES_SCHEMA = {
    "resource_id": pl.String, "site_id": pl.String, "type": pl.String, "workload_type": pl.String,
    "revenue_usd_per_hour": pl.Float64, "power_kw": pl.Float64, "price_usd_per_mwh": pl.Float64,
    "switch_usd": pl.Float64, "is_present": pl.Boolean, "dwell_h": pl.Float64, "confidence_factor": pl.Float64,
}  # fmt: skip


def score_facilities(
    inputs: Sequence[FacilityInputs], stale_after_s: Mapping[str, float] | None = None
) -> pl.DataFrame:
    """Scores of all groups, dollars per hour for the whole group; `resource_id` is 'facility/group'.

    A site's power is scarce where its groups want more than its capacity. `stale_after_s` is by stream, for the confidence;
    a stream left out is believed at any age.
    """
    limits = stale_after_s or {}
    rows = [row for one in inputs for group in one.site.groups for row in _uses(one, group, limits)]
    sites = [(one.site.facility_id, one.site.capacity_mw, 0.0) for one in inputs]
    return score_uses(pl.DataFrame(rows, schema=_USES_SCHEMA), pl.DataFrame(sites, schema=SITE_SCHEMA, orient="row"))


def calculate_profitability(inputs: FacilityInputs, group_id: str, workload_type: Mode) -> ProfitabilityScore:
    """The score of one group in one use (EC-16): the same arithmetic for GPUs and miners, on the facility's newest values.

    Raises:
        ConfigError: the facility has no such group, or the group can't do such work; the message says what there is.
    """
    groups = {group.group_id: group for group in inputs.site.groups}
    if group_id not in groups:
        raise ConfigError(f"{inputs.site.facility_id} has no group {group_id!r}; there are {', '.join(groups)}")
    resource_id = f"{inputs.site.facility_id}/{group_id}"
    scores = score_facilities([inputs]).filter(pl.col("resource_id") == resource_id)
    kinds = scores["workload_type"].to_list()
    if workload_type.value not in kinds:
        raise ConfigError(f"{resource_id} does no {workload_type.value}; it does {', '.join(kinds) or 'no work'}")
    return ProfitabilityScore(**scores.row(kinds.index(workload_type.value), named=True))


def _uses(inputs: FacilityInputs, group: GroupInputs, stale_after_s: Mapping[str, float]) -> list[dict[str, object]]:
    """A row per workload type of the group's ladder, at its most powerful state."""
    index, present = inputs.indices[group.index], inputs.present.get(group.group_id, {})
    by_use = {s.state.mode: s for s in group.ladder if is_workload(s.state.mode)}
    streams = (Stream.POWER_RT_LMP, *(INDEX_STREAMS[group.type]))
    ages = {s.value: inputs.input_age_s.get(s.value, 0.0) for s in streams if s.value in stale_after_s}
    believed = min((confidence_factor(age, stale_after_s[stream]) for stream, age in ages.items()), default=1.0)
    rows: list[dict[str, object]] = []
    for mode, state in by_use.items():
        revenue = revenue_per_index(group, state, inputs.site) * index
        switch = switch_cost(group.type, _before(group, present, mode), state.state, state.hash_rate_th_per_s)
        now = sum(n for s, n in present.items() if DeviceState(s).mode is mode)
        rows.append(
            {
                "resource_id": f"{inputs.site.facility_id}/{group.group_id}",
                "site_id": inputs.site.facility_id,
                "type": group.type.value,
                "workload_type": mode.value,
                "revenue_usd_per_hour": revenue * group.devices,
                "power_kw": state.power_kw * group.devices,
                "price_usd_per_mwh": all_in_usd_per_mwh(
                    inputs.decision_price_usd_per_mwh, inputs.site.adders_usd_per_mwh
                ),
                "switch_usd": switch.at(revenue) * group.devices,
                "is_present": 2 * now >= group.devices,
                "dwell_h": DWELL_H,
                "confidence_factor": believed,
            }
        )
    return rows


def _before(group: GroupInputs, present: Mapping[DeviceState, int], mode: Mode) -> DeviceState:
    """The state a switch into a mode starts from: what most devices do, or the lowest one if that is the mode itself."""
    lowest = group.ladder[0].state
    most = DeviceState(max(present, key=lambda state: present[state], default=lowest))
    return lowest if most.mode is mode else most
