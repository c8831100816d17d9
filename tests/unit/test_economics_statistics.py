"""Statistics and volatility of price series (EC-19, EC-20, ER-14)."""

import itertools
import math
import statistics as plain
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from hcp_pipelines.economics.statistics import RETURNS_OF_TYPE, calculate_price_volatility, get_price_statistics
from hcp_pipelines.storage.prices import PRICE_TYPE_OF_STREAM

START = datetime(2025, 1, 1, tzinfo=UTC)


def history(**series):
    rows = [
        (name, START + timedelta(minutes=5 * n), v) for name, values in series.items() for n, v in enumerate(values)
    ]
    return pl.DataFrame(
        rows, schema={"series": pl.String, "source_at": pl.Datetime("us", "UTC"), "value": pl.Float64}, orient="row"
    )


def test_statistics_are_those_of_the_textbook_by_series():
    values = [-20.0, 10.0, 35.0, 40.0, 5000.0]
    rows = get_price_statistics(history(HB_WEST=values, HB_NORTH=[7.0])).to_dicts()
    assert [r["series"] for r in rows] == ["HB_NORTH", "HB_WEST"]
    west = rows[1]
    assert (west["count"], west["min"], west["max"], west["median"]) == (5, -20.0, 5000.0, 35.0)
    assert west["mean"] == pytest.approx(plain.mean(values))
    assert west["std"] == pytest.approx(plain.stdev(values))
    assert (west["p25"], west["p75"], west["p95"]) == pytest.approx((10.0, 40.0, 4008.0))
    assert rows[0]["std"] is None


def test_volatility_of_bitcoin_is_that_of_log_returns_and_has_no_unit():
    values = [100.0, 110.0, 99.0, 120.0]
    returns = [math.log(b / a) for a, b in itertools.pairwise(values)]
    shuffled = history(btc=values).sample(fraction=1, shuffle=True, seed=3)
    [row] = calculate_price_volatility(shuffled, RETURNS_OF_TYPE["btc"]).to_dicts()
    assert row == {"series": "btc", "count": 3, "volatility": pytest.approx(plain.stdev(returns))}
    [dearer] = calculate_price_volatility(history(btc=[1000 * v for v in values]), "log").to_dicts()
    assert dearer["volatility"] == pytest.approx(row["volatility"])


def test_volatility_of_power_is_that_of_differences_as_it_crosses_zero():
    values = [-20.0, 0.0, 30.0, -5.0]
    [row] = calculate_price_volatility(history(HB_WEST=values), RETURNS_OF_TYPE["electricity"]).to_dicts()
    assert row["volatility"] == pytest.approx(plain.stdev([20.0, 30.0, -35.0]))
    with pytest.raises(
        ValueError, match=r"HB_WEST: value=-20: log returns need values above 0; use returns='difference'"
    ):
        calculate_price_volatility(history(HB_WEST=values), "log")


def test_series_are_kept_apart_and_two_values_have_no_volatility():
    rows = calculate_price_volatility(history(a=[1.0, 2.0], b=[5.0, 5.0, 5.0]), "difference").to_dicts()
    assert rows == [{"series": "a", "count": 1, "volatility": None}, {"series": "b", "count": 2, "volatility": 0.0}]


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_what_is_no_number_is_refused(value):
    for call in (get_price_statistics, lambda h: calculate_price_volatility(h, "difference")):
        with pytest.raises(ValueError, match=r"a: value=.*: must be a finite number"):
            call(history(a=[1.0, value]))


def test_returns_are_chosen_for_price_types_that_there_are():
    assert set(RETURNS_OF_TYPE) <= set(PRICE_TYPE_OF_STREAM.values())


def test_gpu_rates_under_a_dollar_have_log_returns_and_zero_has_none():
    [row] = calculate_price_volatility(history(A100=[0.5, 0.6, 0.5]), RETURNS_OF_TYPE["gpu_spot"]).to_dicts()
    assert row["volatility"] == pytest.approx(math.sqrt(2) * math.log(1.2))
    with pytest.raises(ValueError, match="A100: value=0: log returns"):
        calculate_price_volatility(history(A100=[0.5, 0.0]), "log")
