"""Recorded series for the tests of the back-test: made up in a folder, or the real ones beside the project."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hcp_pipelines.optimizer.backtest.case import Case, Course, Known

DAY = datetime(2024, 3, 1, tzinfo=UTC)
REAL = Path(__file__).resolve().parents[3] / "shared" / "data"


def real_folder():
    """The real series, or a skip."""
    if not (REAL / "ercot" / "ercot_rt_15min_hubavg.parquet").is_file():
        pytest.skip("the real series are not beside the project: nothing to run the back-test on")
    return REAL


def price_frame(prices, start=DAY, minutes=15, point="HB_TEST"):
    """Rows in the columns of the manifest."""
    starts = [start + n * timedelta(minutes=minutes) for n in range(len(prices))]
    return pl.DataFrame(
        {"interval_start_utc": starts, "settlement_point": [point] * len(prices), "rt_price_usd_per_mwh": list(prices)},
        schema_overrides={"interval_start_utc": pl.Datetime("us", "UTC"), "rt_price_usd_per_mwh": pl.Float64},
    )


def random_prices(n, seed=0):
    """A day-long rhythm with spikes around the miners' break-even prices."""
    random = np.random.default_rng(seed)
    level = 45 + 25 * np.sin(np.arange(n) / 96 * 2 * np.pi) + random.normal(0, 8, n)
    spikes = np.where(random.random(n) < 0.03, random.exponential(300, n), 0.0)
    return level + spikes + 0.5 * np.r_[0.0, spikes[:-1]]


def write_folder(path, prices, start=DAY, first_day=None, **columns):
    """A folder of a price file, a day-ahead file and a network file; more price columns or other frames by keyword."""
    frame = price_frame(prices, start)
    frame.write_parquet(path / "prices.parquet")
    hours = frame.group_by_dynamic("interval_start_utc", every="1h").agg(
        settlement_point=pl.col("settlement_point").first(), da_price_usd_per_mwh=pl.col("rt_price_usd_per_mwh").mean()
    )
    hours.write_parquet(path / "day_ahead.parquet")
    days = int(len(prices) / 96) + 3
    first = (first_day or start) - timedelta(days=1)
    pl.DataFrame(
        {
            "date_utc": [first + timedelta(days=n) for n in range(days)],
            "hashprice_usd_per_ph_per_day_derived": [columns.get("hashprice", 50.0)] * days,
        },
        schema_overrides={"date_utc": pl.Datetime("us", "UTC")},
    ).write_parquet(path / "network.parquet")
    return path


def plain_case(prices, revenue=60.0, wake_usd=12.0, known=None, model=Known.AT_START):
    """A case of constant revenue and wake cost."""
    n = len(prices)
    settled = Course(np.asarray(prices, dtype=float), np.full(n, float(revenue)), np.full(n, float(wake_usd)))
    seen = (
        settled
        if known is None
        else Course(np.asarray(known, dtype=float), settled.revenue_usd_per_mwh, settled.wake_usd)
    )
    starts = round(DAY.timestamp()) * 1_000_000 + np.arange(n, dtype=np.int64) * 900_000_000
    return Case(17.5, model, starts, 0.25, seen, settled, np.full(n, np.nan))
