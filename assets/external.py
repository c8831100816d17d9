"""Tables that daemons write, as external assets: they stand in the graph, but no run of ours makes them."""

import dagster as dg

from assets.daily import plain_schema
from hcp_pipelines.collector.columns import GATEWAY_SWITCHES, METER_READINGS, TELEMETRY
from hcp_pipelines.collector.tables import APPENDED, REPLACED
from hcp_pipelines.collector.telemetry.rollup_sql import GROUP_MINUTE_COLUMNS, HOUR_COLUMNS
from hcp_pipelines.storage.declared import declared_tables

_IN_LAKE = {f"raw_hcp__{table.target.removeprefix('raw.')}": table.columns for table in (*APPENDED, *REPLACED)} | {
    "raw_hcp__gateway_switches": GATEWAY_SWITCHES,
    "raw_hcp__telemetry": TELEMETRY,
    "raw_hcp__meter_readings": METER_READINGS,
    "core_hcp__telemetry_group_1min": GROUP_MINUTE_COLUMNS,
    "core_hcp__telemetry_1h": HOUR_COLUMNS,
}
_OF_SEVERAL_TABLES = {"hcp__directives": ("operator_overrides", "lockouts", "approvals")}


def _written_by(
    daemon: str, key: str, description: str, kinds: set[str], deps: list[str] | None = None
) -> dg.AssetSpec:
    return dg.AssetSpec(
        key,
        group_name="daemons",
        description=f"{description} Written by the {daemon}.",
        owners=["team:platform"],
        kinds=kinds,
        deps=deps or [],
        tags={"hcp/written_by": daemon},
        metadata=plain_schema(_columns(key)),
    )


def _columns(key: str) -> dict[str, str]:
    """Type by column of an asset's table in the lake or in Postgres; of several tables each column with its table's name."""
    if key in _IN_LAKE:
        return {column.name: column.type for column in _IN_LAKE[key]}
    declared, tables = declared_tables(), _OF_SEVERAL_TABLES.get(key)
    if tables is None:
        return declared[key.removeprefix("hcp__")]
    return {f"{table}.{name}": kind for table in tables for name, kind in declared[table].items()}


external_assets = [
    _written_by("feed", "hcp__price_data", "Each tick as it came, with its quality.", {"postgres"}),
    _written_by("feed", "hcp__grid_signals", "Signals of the grid: frequency, dispatch, emergencies.", {"postgres"}),
    _written_by("operators", "hcp__grid_obligations", "Obligations sold to the grid, and their state.", {"postgres"}),
    _written_by("operators", "hcp__directives", "Overrides, curtailments, stops, locks, approvals.", {"postgres"}),
    _written_by(
        "allocator",
        "hcp__switch_journal",
        "Each switch: intent, ack, settling.",
        {"postgres"},
        ["core_hcp__policies", "hcp__directives"],
    ),
    _written_by("collector", "raw_hcp__price_ticks", "Ticks.", {"ducklake", "parquet"}, ["hcp__price_data"]),
    _written_by(
        "collector", "raw_hcp__switch_journal", "Journal events.", {"ducklake", "parquet"}, ["hcp__switch_journal"]
    ),
    _written_by(
        "collector", "raw_hcp__policies", "Policies without their bodies.", {"ducklake"}, ["core_hcp__policies"]
    ),
    _written_by("collector", "raw_hcp__facilities", "Facilities as applied.", {"ducklake"}),
    _written_by("collector", "raw_hcp__device_groups", "Groups of each generation.", {"ducklake"}),
    _written_by(
        "allocator", "hcp__paper_plans", "What policies would have earned in observe and approve.", {"postgres"}
    ),
    _written_by("collector", "raw_hcp__paper_plans", "The same, copied.", {"ducklake"}, ["hcp__paper_plans"]),
    _written_by("collector", "raw_hcp__allocation_history", "What each group did, by tick.", {"ducklake"}),
    _written_by(
        "collector",
        "raw_hcp__profitability_scores",
        "Profit of each group in each use, as it was scored.",
        {"ducklake"},
        ["core_hcp__profitability_scores"],
    ),
    _written_by("scheduler", "hcp__workload_events", "Each step of customers' work.", {"postgres"}),
    _written_by("collector", "raw_hcp__workload_events", "The same, copied.", {"ducklake"}, ["hcp__workload_events"]),
    _written_by("collector", "raw_hcp__allocation_events", "Which devices work had, and until when.", {"ducklake"}),
    _written_by("collector", "raw_hcp__workload_checkpoints", "Where work could go on from.", {"ducklake"}),
    _written_by(
        "collector", "raw_hcp__desired_state", "Which devices the scheduler wanted in which state.", {"ducklake"}
    ),
    _written_by(
        "collector",
        "raw_hcp__desired_outcomes",
        "What became of that, by the owner.",
        {"ducklake"},
        ["raw_hcp__desired_state"],
    ),
    _written_by("collector", "raw_hcp__saved_work", "What devices said that they have kept of work.", {"ducklake"}),
    _written_by("collector", "raw_hcp__work_stops", "What was kept and lost as work stood still.", {"ducklake"}),
    _written_by("collector", "raw_hcp__routing_decisions", "Where work was sent, or why nowhere.", {"ducklake"}),
    _written_by(
        "collector",
        "raw_hcp__gateway_switches",
        "Switches of what ran, by phase, from gateways' logs.",
        {"ducklake"},
    ),
    _written_by("collector", "raw_hcp__billing_terms", "What missed deadlines are owed, from when on.", {"ducklake"}),
    _written_by(
        "collector", "raw_hcp__telemetry", "A row a device and sample, from the gateways.", {"ducklake", "parquet"}
    ),
    _written_by(
        "collector", "raw_hcp__meter_readings", "What gateways read of revenue meters.", {"ducklake", "parquet"}
    ),
    _written_by(
        "collector",
        "core_hcp__telemetry_group_1min",
        "Telemetry by group and minute.",
        {"ducklake", "parquet"},
        ["raw_hcp__telemetry"],
    ),
    _written_by(
        "collector",
        "core_hcp__telemetry_1h",
        "Telemetry by device and hour.",
        {"ducklake", "parquet"},
        ["raw_hcp__telemetry"],
    ),
]
