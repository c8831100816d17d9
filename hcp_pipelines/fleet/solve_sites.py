"""The inventory in the optimizer's words: IT power becomes all-in power, rates by state come from the specifications."""

from collections.abc import Sequence

import psycopg

from hcp_pipelines.fleet.inventory import FacilityInventory, GroupInventory, load_inventories
from hcp_pipelines.fleet.models import MODELS
from hcp_pipelines.optimizer.inputs import GroupInputs, RampInputs, SiteInputs, StateInputs


def load_sites(connection: psycopg.Connection, facility_ids: Sequence[str] | None = None) -> list[SiteInputs]:
    """Every facility (or those named) as the optimizer sees it."""
    return [site_inputs(inventory) for inventory in load_inventories(connection, facility_ids)]


def site_inputs(inventory: FacilityInventory) -> SiteInputs:
    """One facility as the optimizer sees it; all power at the meter."""
    document = inventory.document
    return SiteInputs(
        facility_id=inventory.facility_id,
        settlement_point=inventory.settlement_point,
        generation=inventory.generation,
        obligations_version=inventory.obligations_version,
        capacity_mw=inventory.capacity_mw,
        groups=tuple(_group(g, inventory) for g in inventory.groups),
        feeder_caps_mw=dict(inventory.feeder_limits_mw),
        ramps=tuple(
            RampInputs(r.scope_id if r.scope == "feeder" else "facility", r.up_mw, r.down_mw, r.window_s)
            for r in inventory.ramps
            if r.scope != "portfolio"
        ),
        min_up_s=document.dwell.min_up_s,
        min_down_s=document.dwell.min_down_s,
        starts_per_hour=document.dwell.starts_per_hour,
        adders_usd_per_mwh=document.contract.adders_usd_per_mwh,
        peak_usd_per_kw_year=document.contract.peak_usd_per_kw_year,
        pool_fee_fraction=document.economics.pool_fee_fraction,
        gpu_utilization=document.economics.gpu_utilization,
        gpu_rate_fraction=dict(document.economics.gpu_rate_fraction),
        regions=frozenset(name.casefold() for name in (document.location.city, document.location.state) if name),
    )


def _group(group: GroupInventory, inventory: FacilityInventory) -> GroupInputs:
    shipped = MODELS.get(group.model)
    rates = group.specifications.get("hash_rate_by_state_th_per_s", {})
    return GroupInputs(
        group_id=group.group_id,
        feeder_id=group.feeder_id,
        type=group.type,
        devices=group.devices,
        ladder=tuple(
            StateInputs(s.state, s.power_kw * inventory.pue, rates.get(s.state.label, 0.0)) for s in group.ladder
        ),
        gpu_type=str(group.specifications.get("gpu_type", "")),
        model=group.model,
        memory_gb=(shipped.memory_gb or None) if shipped else None,
        gpus_per_node=int(group.specifications.get("gpus_per_node", 0)),
        is_scheduled=group.group_id in inventory.scheduled,
    )
