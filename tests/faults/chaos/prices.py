"""Prices that flap, as recorded series that the world replays: they make the fleet move at nearly every tick."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

START = datetime(2024, 3, 1, tzinfo=UTC)
STEP = timedelta(minutes=15)
LOW, HIGH = (-20.0, 30.0), (80.0, 900.0)
POINTS = ("HB_HOUSTON", "HB_NORTH", "HB_HUBAVG")


def write_flapping(folder: Path, seed: int, hours: float) -> None:
    """Each point, each quarter of an hour: low or high, by chance; at speed 60 a quarter is 15 real seconds."""
    rng, rows = random.Random(seed), []
    for point in POINTS:
        for n in range(int(hours * 4)):
            low, high = LOW if rng.random() < 0.5 else HIGH
            rows.append((START + n * STEP, point, rng.uniform(low, high)))
    folder.mkdir(parents=True)
    frame = pl.DataFrame(rows, schema=["interval_start_utc", "settlement_point", "rt_price_usd_per_mwh"], orient="row")
    frame.write_parquet(folder / "prices.parquet")
