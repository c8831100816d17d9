"""What of each facility's load is worth offering as a reserve: proposals for a person, kept as they were made."""

from typing import Any

import dagster as dg

from assets.daily import plain_schema
from hcp_pipelines.orchestration.io_managers import shown
from hcp_pipelines.orchestration.offering import OFFERS, SCHEMA, propose
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.storage import lake


@dg.asset(
    group_name="offers",
    owners=["team:decisions"],
    kinds={"highs", "polars", "ducklake"},
    deps=[
        "core_power__price_quantiles",
        "core_power__coincident_peak_probability",
        "raw_ercot__da_capacity",
        "core_hcp__demand_quantiles",
    ],
    metadata=plain_schema(SCHEMA),
)
def core_power__reserve_offers(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult[Any]:
    """Reserves that are worth offering over the 48 hours ahead: one row a facility, hour and product. Nobody submits them."""
    settings, run_id = platform.settings(), context.run.run_id
    with platform.connection() as connection:
        found = propose(connection, settings, platform.clock().now(), run_id)
    for facility_id, why in sorted(found.without.items()):
        context.log.warning(f"{facility_id}: {why}")
    if found.told:
        context.log.warning(found.told)
    if len(found.table):
        lake.write(settings, OFFERS, found.table, batch_id=run_id)
    return dg.MaterializeResult(
        metadata={
            "offers": shown(found.table.drop("run_id", "proposed_at")),
            "net_usd": float(found.table["net_usd"].sum()),
            "told": found.told,
            "expected": found.expected,
            "without": dg.MetadataValue.json(dict(found.without)),
            "dagster/row_count": len(found.table),
        }
    )
