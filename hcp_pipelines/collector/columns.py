"""Columns by name and type, and those of the tables that the collector makes of what gateways tell.

Light, since Dagster's lean location shows them; Arrow's schema is made where one is asked for. What is copied from Postgres is in
`tables`, what is rolled up in `telemetry.rollup_sql`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

TEXTS = frozenset({"text", "uuid", "jsonb"})


@dataclass(frozen=True, slots=True)
class Column:
    """A column by its name and its Postgres type (`utinyint` is DuckDB's)."""

    name: str
    type: str

    @property
    def is_text(self) -> bool:
        """Whether it is text in the lake, as JSON and UUIDs are too."""
        return self.type in TEXTS


def columns_of(text: str) -> tuple[Column, ...]:
    """The columns of `name type, name type, …`."""
    return tuple(Column(*part.split()) for part in text.split(","))


def arrow_schema(columns: Sequence[Column]) -> Any:
    """The Arrow schema of a table in the lake."""
    import pyarrow as pa  # not for Dagster's lean location

    types = {
        "bool": pa.bool_(), "utinyint": pa.uint8(), "int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64(),
        "float4": pa.float32(), "float8": pa.float64(), "numeric": pa.float64(), "bytea": pa.binary(),
        "timestamptz": pa.timestamp("us", tz="UTC"),
    } | dict.fromkeys(TEXTS, pa.string())  # fmt: skip
    return pa.schema([(column.name, types[column.type]) for column in columns])


TELEMETRY = columns_of(  # sampled_at is real
    """simulated_at timestamptz, sampled_at timestamptz, facility_id text, group_id text, generation int8, slot int4, seq int8,
    power_kw float4, hashrate_th_per_s float4, temperature_celsius float4, state utinyint, flags utinyint"""
)
METER_READINGS = (
    columns_of(  # read_at is simulated, by the meter's own clock; energy_mwh: the register, null where power is summed
        """facility_id text, read_at timestamptz, sampled_at timestamptz, seq int8, power_kw float8, energy_mwh float8,
    is_metered bool"""
    )
)
GATEWAY_SWITCHES = columns_of(
    """facility_id text, seq int8, command_id text, assignment int4, node text, devices int4, from_state int2, to_state int2,
    workload_id text, outcome text, is_success bool, control_ms float8, control_pause_ms float8, control_checkpoint_ms float8,
    control_switch_ms float8, control_start_ms float8, device_pause_ms float8, device_checkpoint_ms float8,
    device_switch_ms float8, device_start_ms float8, problem text, simulated_at timestamptz, stored_at timestamptz"""
)
