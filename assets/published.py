"""What analysts take away: the marts in one DuckDB file. `hcp_pipelines.orchestration.published` writes it."""

from typing import Any

import dagster as dg

from assets import switches
from hcp_pipelines.orchestration.published import publish_marts
from hcp_pipelines.orchestration.resources import Platform

MARTS = sorted(key for key in switches.switch_models.keys if key.path[-1].startswith(("fct_", "dim_")))


@dg.asset(group_name="published", owners=["team:analytics"], kinds={"duckdb"}, deps=MARTS)
def published_marts(platform: Platform) -> dg.MaterializeResult[Any]:
    """All marts of one snapshot as `.hcp/published/hcp.duckdb`, put in the place of the last file; its readers go on."""
    done = publish_marts(platform.settings())
    table = "\n".join(["| mart | rows |", "|---|---|", *(f"| {mart} | {rows:,} |" for mart, rows in done.rows.items())])
    return dg.MaterializeResult(
        metadata={
            "file": dg.MetadataValue.path(done.path),
            "bytes": done.size_bytes,
            "snapshot": done.snapshot,
            "dagster/row_count": sum(done.rows.values()),
            "marts": dg.MetadataValue.md(table),
        }
    )
