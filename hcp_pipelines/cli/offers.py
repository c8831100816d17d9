"""`hcp policy offers`: the reserves that were proposed last for a facility, as they lie in the lake (docs/decisions.md)."""

from pathlib import Path

import click
import polars as pl

from hcp_pipelines.cli.common import print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.domain.errors import HcpError
from hcp_pipelines.fleet.inventory import load_inventory
from hcp_pipelines.orchestration.lake_state import has_tables
from hcp_pipelines.orchestration.offering import OFFERS
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

_NEWEST_SQL = """
select * exclude (facility_id, run_id) from lake.core.power__reserve_offers where facility_id = ?
qualify proposed_at = max(proposed_at) over () order by start_at, product"""
_COLUMNS = ("hour, UTC", "product", "MW", "at least $/MW", "pays $/MW", "brings $", "forgoes $", "net $", "why")


@click.command("offers")
@click.argument("facility")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def offers(context: click.Context, facility: str, as_json: bool, own_state_dir: Path | None) -> None:
    """Show the reserves that are worth offering for FACILITY: MW by hour and product. Nobody submits them but you."""
    found = newest(settings_of(context, own_state_dir), facility)
    proposed_at = found["proposed_at"][0]
    if as_json:
        print_json(
            {"facility_id": facility, "proposed_at": proposed_at, "offers": found.drop("proposed_at").to_dicts()}
        )
        return
    rows = [
        (
            f"{row['start_at']:%m-%d %H:%M}", row["product"], f"{row['mw']:.1f}", f"{row['least_usd_per_mw_h']:.2f}",
            f"{row['capacity_usd_per_mw_h']:.2f}", f"{row['revenue_usd']:,.0f}", f"{row['cost_usd']:,.0f}",
            f"{row['net_usd']:,.0f}", row["reason"],
        )
        for row in found.iter_rows(named=True)
    ]  # fmt: skip
    print_table(f"{facility} · proposed {proposed_at:%Y-%m-%d %H:%M}Z, simulated", _COLUMNS, rows)
    click.echo(f"{found['net_usd'].sum():,.0f} $ on average; what a market awards: hcp grid award {facility} …")


def newest(settings: Settings, facility_id: str) -> pl.DataFrame:
    """The last proposal of a facility.

    Raises:
        HcpError: there is none, or no such facility.
    """
    from hcp_pipelines.storage import lake  # duckdb

    rows = pl.DataFrame()
    if has_tables(settings, [OFFERS]):
        with lake.attach(settings, read_only=True) as connection:
            rows = connection.execute(_NEWEST_SQL, [facility_id]).pl()
    if rows.is_empty():
        with connect(settings, Role.OPERATOR) as hcp:
            load_inventory(hcp, facility_id)  # refuses one that there is not
        raise HcpError(
            f"{facility_id}: no reserve was ever proposed. Launch reserve_offers_job, or set HCP_RESERVE_OFFERS=on; "
            "the run says why a facility has none"
        )
    return rows
