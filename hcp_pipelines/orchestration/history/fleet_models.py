"""What a good row is of the fleet's hours, which models of capacity learn from."""

from datetime import timedelta

import polars as pl

from hcp_pipelines.forecasting.capacity.fleet_days import FLEET_HOURS
from hcp_pipelines.orchestration.history.model import Model

FLEET_KEY = ("start_at", "facility_id", "group_id")
FLEET_ROWS = Model(
    FLEET_HOURS,
    FLEET_KEY,
    nullable=frozenset({"hottest_celsius", "outdoor_celsius", "price_usd_per_mwh", "outdoor_known_at"}),
    bounds={
        "installed": (1, 1e6),
        "failures": (0, 1e6),
        "hottest_celsius": (-60.0, 150.0),
        "outdoor_celsius": (-60.0, 60.0),
    },
    rules={
        "no more is available than is installed": pl.col("available_h").is_between(0.0, pl.col("installed") + 1e-6),
        "no more is in use than is available": pl.col("in_use_h").is_between(0.0, pl.col("available_h") + 1e-6),
        "known when the hour is over": pl.col("known_at") >= pl.col("start_at") + timedelta(hours=1),
    },
)
