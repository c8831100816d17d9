"""Reports of a day as pages that need no network. `hcp_pipelines.orchestration.reports` draws them; so does `hcp report`."""

from datetime import date
from typing import Any

import dagster as dg

from hcp_pipelines.orchestration.reports.make import Kind, Report, make_report
from hcp_pipelines.orchestration.resources import Platform

GROUP, OWNERS, KINDS = "reports", ["team:analytics"], {"plotly", "duckdb"}


class ReportConfig(dg.Config):
    """`day`: YYYY-MM-DD; the newest that there is anything of, unless given."""

    day: str = ""


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds=KINDS,
    deps=["fct_facility_days", "fct_facility_5min", "fct_curtailment", "fct_demand_response"],
)
def report_daily_operations(config: ReportConfig, platform: Platform) -> dg.MaterializeResult[Any]:
    """What each facility earned and drew on an operating day, why load was reduced, what was owed to the grid."""
    return _made(config, platform, Kind.DAILY)


@dg.asset(group_name=GROUP, owners=OWNERS, kinds=KINDS, deps=["fct_prices", "fct_forecast_accuracy"])
def report_market(config: ReportConfig, platform: Platform) -> dg.MaterializeResult[Any]:
    """Real-time and day-ahead prices of an operating day by point, reserves, how the day lies in the weeks before."""
    return _made(config, platform, Kind.MARKET)


@dg.asset(
    group_name=GROUP, owners=OWNERS, kinds=KINDS,
    deps=["dim_device_groups", "fct_utilisation", "fct_device_reliability", "fct_device_hashrate"],
)  # fmt: skip
def report_fleet_health(config: ReportConfig, platform: Platform) -> dg.MaterializeResult[Any]:
    """How much of each group was in use on a UTC day, what refused or failed, whose hashrate is not what its power makes."""
    return _made(config, platform, Kind.FLEET)


def _made(config: ReportConfig, platform: Platform, kind: Kind) -> dg.MaterializeResult[Any]:
    report = make_report(platform.settings(), kind, date.fromisoformat(config.day) if config.day else None)
    return dg.MaterializeResult(
        metadata={
            "page": dg.MetadataValue.path(report.path),
            "day": str(report.day),
            "preview": dg.MetadataValue.md(_preview(report)),
        }
    )


def _preview(report: Report) -> str:
    drawn = report.drawn
    rows = ["| " + " | ".join(row) + " |" for row in (drawn.headings(), ["---"] * len(drawn.columns), *drawn.rows)]
    return "\n".join([f"**{drawn.title}**", "", *(f"- {note}" for note in drawn.notes), "", *rows])
