"""A facility as it is settled: devices in money, and what its contract says."""

from hcp_pipelines.fleet.inventory import FacilityInventory
from hcp_pipelines.fleet.solve_sites import site_inputs
from hcp_pipelines.optimizer.backtest.replay.fleet import fleet_of
from hcp_pipelines.optimizer.settlement.day import Terms
from hcp_pipelines.optimizer.settlement.inputs import Facility


def settled_site(inventory: FacilityInventory) -> Facility:
    """The facility of an inventory."""
    contract = inventory.document.contract
    hedges = [(hedge.start, hedge.end, hedge.mw, hedge.usd_per_mwh) for hedge in contract.hedge]
    terms = Terms(hedges, contract.peak_usd_per_kw_year)
    return Facility(fleet_of(site_inputs(inventory)), terms, contract.response_usd_per_mwh)
