"""Hours of a small fleet, made up: two facilities with a hall of GPUs and two groups of miners, a device down now and then."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from hcp_pipelines.forecasting.capacity.fleet_days import FLEET_HOURS

START = datetime(2024, 7, 1, tzinfo=UTC)
GROUPS = (
    ("hou-1", "h100", "GPU", 32),
    ("hou-1", "s21", "ASIC", 60),
    ("nor-1", "h100", "GPU", 16),
    ("nor-1", "s19xp", "ASIC", 40),
)


def fleet_hours(days: int, seed: int = 0, start: datetime = START) -> pl.DataFrame:
    """A row an hour and group, known when the hour is over."""
    random, hours = np.random.default_rng(seed), days * 24
    starts = [start + timedelta(hours=n) for n in range(hours)]
    frames = []
    for facility, group, kind, devices in GROUPS:
        down = np.convolve(random.poisson(0.03, hours + 23), np.ones(24), mode="valid")
        available = np.clip(devices - down, 0, devices)
        frame = pl.DataFrame(
            {
                "start_at": starts, "facility_id": facility, "group_id": group, "type": kind, "installed": devices,
                "available_h": available, "in_use_h": available * random.uniform(0.4, 0.9, hours),
                "failures": random.poisson(0.03, hours), "hottest_celsius": 60 + random.normal(0, 5, hours),
                "outdoor_celsius": 28 + random.normal(0, 4, hours), "price_usd_per_mwh": random.normal(30, 10, hours),
                "known_at": [at + timedelta(hours=1) for at in starts],
                "outdoor_known_at": [at.replace(hour=0) + timedelta(days=1, minutes=20) for at in starts],
            }
        )  # fmt: skip
        frames.append(frame)
    return pl.concat(frames).select(pl.col(name).cast(kind) for name, kind in FLEET_HOURS.items())
