"""The plain power forecast: shape, blending, and no look-ahead."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from hcp_pipelines.forecasting.plain import FORECAST_SCHEMA, forecast_power

AT = datetime(2025, 1, 1, 12, 0, tzinfo=UTC)
UTC_US = pl.Datetime("us", "UTC")


def day_ahead(price=30.0, available_at=AT - timedelta(hours=20)):
    rows = [("HB_NORTH", AT.replace(hour=0) + timedelta(hours=h), price, available_at) for h in range(24)]
    schema = {
        "settlement_point": pl.String,
        "interval_start": UTC_US,
        "price_usd_per_mwh": pl.Float64,
        "available_at": UTC_US,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def lmps(*values):
    rows = [("HB_NORTH", at, lmp, at) for at, lmp in values]
    schema = {"settlement_point": pl.String, "source_at": UTC_US, "lmp_usd_per_mwh": pl.Float64, "available_at": UTC_US}
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_the_last_price_fades_into_the_day_ahead_price():
    got = forecast_power(day_ahead(), lmps((AT, 130.0)), AT, timedelta(hours=6))
    assert got.schema == FORECAST_SCHEMA
    assert got.height == 24
    prices = got["price_usd_per_mwh"].to_list()
    assert prices[0] == pytest.approx(130.0)
    assert prices[3] == pytest.approx(80.0)  # a half life of 45 minutes later
    assert prices[-1] < 31.0
    assert got["available_at"].unique().to_list() == [AT]


def test_without_a_day_ahead_price_the_last_value_stays():
    got = forecast_power(day_ahead().clear(), lmps((AT, 55.0)), AT, timedelta(hours=1))
    assert got["price_usd_per_mwh"].to_list() == [55.0] * 4


def test_what_comes_later_changes_nothing():
    """Rows that became available after the instant, absurd ones on purpose."""
    known = forecast_power(day_ahead(), lmps((AT, 40.0)), AT, timedelta(hours=2))
    later = AT + timedelta(seconds=1)
    leaky_da = pl.concat([day_ahead(), day_ahead(9e9, available_at=later)])
    leaky_lmp = lmps((AT, 40.0), (later, float("nan")))
    assert forecast_power(leaky_da, leaky_lmp, AT, timedelta(hours=2)).equals(known)
