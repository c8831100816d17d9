"""What a good row is in tables that daemons write, or runs by themselves: what readers rely on, not every column.

Daemons' rows are not held back, since they are history and not input: a bad one is told by the table's check.
"""

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.domain.ticks import Quality, Stream
from hcp_pipelines.economics.settlement import KINDS
from hcp_pipelines.forecasting.capacity.fleet_days import TABLE
from hcp_pipelines.orchestration.history.fleet_models import FLEET_ROWS
from hcp_pipelines.orchestration.history.model import Model
from hcp_pipelines.orchestration.history.work_models import BILLED_ROWS, WORK

STATES = (0, max(DeviceState))


@dataclass(frozen=True, slots=True, eq=False)
class DaemonTable:
    """A table by its asset's key; `time` is the column that what is newest goes by, empty where it is small and read whole."""

    key: str
    name: str
    time: str
    model: Model
    span: timedelta = timedelta(days=1)  # of the world: how much of it is judged


def _table(name: str, time: str, model: Model) -> DaemonTable:
    return DaemonTable(f"raw_hcp__{name}", f"raw.{name}", time, model)


ALL = (
    _table(
        "price_ticks",
        "received_at",
        Model(
            {
                "id": pl.Int64, "stream": pl.String, "series": pl.String, "timestamp": INSTANT, "value": pl.Float64,
                "quality": pl.String, "revision": pl.Int32, "received_at": INSTANT,
            },
            ("id",),
            rules={
                "a known stream": pl.col("stream").is_in([stream.value for stream in Stream]),
                "a known quality": pl.col("quality").is_in([quality.value for quality in Quality]),
                "revision is not negative": pl.col("revision") >= 0,
            },
            nullable=frozenset({"value"}),  # NaN is kept as absurd
        ),
    ),
    _table(
        "switch_journal",
        "simulated_at",
        Model(
            {
                "id": pl.Int64, "event": pl.String, "facility_id": pl.String, "command_id": pl.String, "devices": pl.Int32,
                "to_state": pl.Int16, "mw_delta": pl.Float64, "reason": pl.String, "simulated_at": INSTANT,
            },
            ("id",),
            nullable=frozenset({"to_state", "mw_delta", "command_id", "devices"}),
            bounds={"devices": (0, 1e7), "to_state": STATES, "mw_delta": (-2000.0, 2000.0)},
        ),
    ),
    _table(
        "policies",
        "solved_at",
        Model(
            {
                "id": pl.Int64, "facility_id": pl.String, "status": pl.String, "solved_at": INSTANT, "expires_at": INSTANT,
                "digest": pl.String,
            },
            ("id",),
            rules={"expires after it was solved": pl.col("expires_at") > pl.col("solved_at")},
        ),
    ),
    _table(
        "paper_plans",
        "simulated_at",
        Model(
            {
                "id": pl.Int64, "facility_id": pl.String, "hours": pl.Float64, "usd_actual": pl.Float64, "usd_paper": pl.Float64,
                "mw_actual": pl.Float64, "mw_paper": pl.Float64, "simulated_at": INSTANT,
            },
            ("id",),
            bounds={"hours": (0.0, 24.0), "mw_actual": (0.0, 2000.0), "mw_paper": (0.0, 2000.0)},
        ),
    ),
    _table(
        "allocation_history",
        "timestamp",
        Model(
            {
                "id": pl.Int64, "timestamp": INSTANT, "facility_id": pl.String, "resource_id": pl.String, "devices": pl.Int32,
                "expected_profit": pl.Float64,
            },
            ("id",),
            nullable=frozenset({"expected_profit", "devices"}),
            bounds={"devices": (0, 1e7)},
        ),
    ),
    _table(
        "profitability_scores",
        "timestamp",
        Model(
            {
                "id": pl.Int64, "timestamp": INSTANT, "tick_id": pl.Int64, "resource_id": pl.String, "workload_type": pl.String,
                "score": pl.Float64, "expected_revenue": pl.Float64, "net_profit": pl.Float64,
            },
            ("id",),
            bounds={"score": (0.0, 100.0), "expected_revenue": (0.0, 1e7)},
        ),
    ),
    *(_table(*of_work) for of_work in WORK),
    _table(
        "meter_readings",
        "read_at",
        Model(
            {
                "facility_id": pl.String, "read_at": INSTANT, "seq": pl.Int64, "power_kw": pl.Float64, "energy_mwh": pl.Float64,
                "is_metered": pl.Boolean,
            },
            ("facility_id", "seq"),
            nullable=frozenset({"energy_mwh"}),
            bounds={"power_kw": (0.0, 2e6), "energy_mwh": (0.0, 1e12)},
            rules={"a meter has a register": pl.col("energy_mwh").is_not_null() == pl.col("is_metered")},
        ),
    ),
    _table(
        "facilities",
        "",
        Model(
            {"id": pl.String, "capacity_mw": pl.Float64, "pue": pl.Float64, "settlement_point": pl.String},
            ("id",),
            bounds={"capacity_mw": (0.0, 2000.0), "pue": (1.0, 3.0)},
        ),
    ),
    _table(
        "device_groups",
        "",
        Model(
            {
                "facility_id": pl.String, "generation": pl.Int64, "group_id": pl.String, "first_slot": pl.Int32,
                "devices": pl.Int32,
            },
            ("facility_id", "generation", "group_id"),
            bounds={"devices": (0, 1e7), "first_slot": (0, 1e8)},
        ),
    ),
)  # fmt: skip

_OF_DEVICES = {"facility_id": pl.String, "group_id": pl.String, "generation": pl.Int64}
_MEASURED = {"power_kw": (0.0, 50.0), "hashrate_th_per_s": (0.0, 5000.0), "temperature_celsius": (-60.0, 200.0)}
TELEMETRY = (
    DaemonTable(
        "raw_hcp__telemetry",
        "raw.telemetry",
        "simulated_at",
        Model(
            _OF_DEVICES | {"slot": pl.Int32, "seq": pl.Int64, "simulated_at": INSTANT} | dict.fromkeys(_MEASURED, pl.Float64),
            ("facility_id", "seq", "slot"),
            nullable=frozenset(_MEASURED),
            bounds=_MEASURED,
        ),
        timedelta(minutes=10),
    ),
    DaemonTable(
        "core_hcp__telemetry_group_1min",
        "core.telemetry_group_1min",
        "minute_at",
        Model(
            _OF_DEVICES | {
                "minute_at": INSTANT, "devices": pl.Int32, "samples": pl.Int64, "power_kw": pl.Float64,
                "devices_with_power": pl.Int32,
            },
            ("facility_id", "generation", "group_id", "minute_at"),
            nullable=frozenset({"power_kw"}),
            bounds={"power_kw": (0.0, 2e6), "devices": (1, 1e7)},
            rules={"power is told by devices that are there": pl.col("devices_with_power") <= pl.col("devices")},
        ),
    ),
    DaemonTable(
        "core_hcp__telemetry_1h",
        "core.telemetry_1h",
        "hour_at",
        Model(
            _OF_DEVICES | {
                "slot": pl.Int32, "hour_at": INSTANT, "samples": pl.Int64, "power_kw_avg": pl.Float64,
                "power_kw_min": pl.Float64, "power_kw_max": pl.Float64,
            },
            ("facility_id", "generation", "slot", "hour_at"),
            nullable=frozenset({"power_kw_avg", "power_kw_min", "power_kw_max"}),
            bounds={"power_kw_avg": _MEASURED["power_kw"]},
            rules={"the mean is between the extremes": pl.col("power_kw_avg").is_null()
                   | pl.col("power_kw_avg").is_between(pl.col("power_kw_min") - 1e-3, pl.col("power_kw_max") + 1e-3)},
        ),
        timedelta(hours=4),
    ),
)  # fmt: skip
SETTLED = (
    DaemonTable(
        "core_hcp__settlement",
        "core.hcp__settlement",
        "start_at",
        Model(
            {"facility_id": pl.String, "start_at": INSTANT, "kind": pl.String, "quantity": pl.Float64, "usd": pl.Float64},
            nullable=frozenset({"usd"}),
            bounds={"quantity": (-1e9, 1e9), "usd": (-1e9, 1e9)},
            rules={"a known kind": pl.col("kind").is_in(KINDS)},
        ),
        timedelta(days=2),
    ),
    DaemonTable("core_hcp__billing", "core.hcp__billing", "start_at", BILLED_ROWS, timedelta(days=2)),
    DaemonTable(
        "core_hcp__switch_value",
        "core.hcp__switch_value",
        "switched_at",
        Model(
            {
                "facility_id": pl.String, "switched_at": INSTANT, "command_id": pl.String, "assignment": pl.Int32,
                "devices": pl.Int64, "device_hours": pl.Float64, "realised_usd": pl.Float64,
            },
            bounds={"devices": (1, 1e7), "device_hours": (0.0, 2.5e8), "realised_usd": (-1e9, 1e9)},
        ),
        timedelta(days=2),
    ),
    DaemonTable(
        "core_hcp__regret",
        "core.hcp__regret",
        "day_at",
        Model(
            {
                "facility_id": pl.String, "day_at": INSTANT, "mw": pl.Float64, "hours": pl.Float64, "oracle_usd": pl.Float64,
                "realised_usd": pl.Float64,
            },
            ("facility_id", "day_at"),
            bounds={"hours": (0.0, 24.0), "mw": (0.0, 2000.0)},
        ),
        timedelta(days=3),
    ),
)  # fmt: skip
FLEET = DaemonTable("core_fleet__hours", TABLE, "start_at", FLEET_ROWS)
JUDGED = (*ALL, *TELEMETRY, *SETTLED, FLEET)
