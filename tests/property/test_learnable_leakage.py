"""The targets price and demand look not ahead, and the helper that says so would notice if one did."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.forecasting.hours import FORECAST, HOUR_US, LOAD, MCPC, TEMPERATURE, WIND, instant, microseconds
from hcp_pipelines.forecasting.known_prices import grid_rows
from hcp_pipelines.forecasting.learnable.targets.demand import CHANGES, COLUMNS, DemandTarget
from hcp_pipelines.forecasting.learnable.targets.price import GRID, PRICE, PRICES
from tests.property.test_backtest_mixed_leakage import STARTS
from tests.property.test_forecasting_leakage import rows_of
from tests.support.learnable import assert_no_look_ahead
from tests.support.mixed import power_series

DAYS = 14
BEGAN = datetime(2024, 3, 1, tzinfo=UTC)


def price_tables(n):
    series = power_series(24 * DAYS, STARTS[n % 3], seed=n)
    hours = series.hours
    grid = {LOAD: hours.load_mw, FORECAST: hours.forecast_mw, TEMPERATURE: hours.temperature_c, WIND: series.wind_mw}
    grid |= dict(zip(MCPC, hours.mcpc, strict=True))
    prices = rows_of(series, np.random.default_rng(n))
    return {PRICES: prices, GRID: grid_rows(grid, hours.starts_us)}, STARTS[n % 3]


def work(seed, pieces=400, days=20):
    """Pieces of work of two classes as changes of demand; some never end."""
    random = np.random.default_rng(seed)
    began = microseconds(BEGAN) + (np.sort(random.uniform(0, days, pieces)) * 86.4e9).astype(np.int64)
    ended = began + (random.exponential(0.5, pieces) * 86.4e9).astype(np.int64)
    rows = {"demand_class": random.choice(["batch", "serving"], pieces), "gpus": random.integers(1, 9, pieces) / 1.0}
    frame = pl.DataFrame({**rows, "began_at": began, "ended_at": ended}).with_columns(
        pl.col("began_at", "ended_at").cast(INSTANT)
    )
    begins = frame.with_columns(known_at=pl.col("began_at"))
    ends = frame.filter(pl.Series(random.random(pieces) < 0.9)).with_columns(
        known_at=pl.col("ended_at"), gpus=-pl.col("gpus")
    )
    return pl.concat(each.select(*COLUMNS) for each in (begins, ends)).sort("known_at")


@pytest.mark.parametrize("n", range(3))  # each of the starts, around which clocks change
def test_prices(n):
    tables, start = price_tables(n)
    at = start + timedelta(hours=int(np.random.default_rng(n).integers(24 * 9, 24 * 11)), minutes=5 + 7 * n)
    assert_no_look_ahead(PRICE, tables, (start + timedelta(days=8), start + timedelta(days=DAYS)), at)


@pytest.mark.parametrize("n", range(4))
def test_demand(n):
    changes = work(n)
    at = BEGAN + timedelta(hours=int(np.random.default_rng(n).integers(24 * 8, 24 * 15)), minutes=7 * n)
    assert_no_look_ahead(DemandTarget(every_h=1), {CHANGES: changes}, (BEGAN, BEGAN + timedelta(days=20)), at)


@dataclass(frozen=True)
class Leaky:
    """A target that sees the six hours after it is asked."""

    whole: DemandTarget

    def examples(self, tables, window, groups=()):
        found = self.whole.examples(tables, window, groups)
        return replace(found, asked_us=found.asked_us - 6 * HOUR_US)


def test_a_target_that_looks_ahead_is_noticed():
    changes, window = work(0), (BEGAN + timedelta(days=1), BEGAN + timedelta(days=20))
    with pytest.raises(AssertionError, match="features"):
        assert_no_look_ahead(Leaky(DemandTarget(every_h=1)), {CHANGES: changes}, window, BEGAN + timedelta(days=10))
    with pytest.raises(AssertionError, match="nothing is asked before"):
        assert_no_look_ahead(DemandTarget(), {CHANGES: changes}, window, BEGAN - timedelta(days=1))


def test_a_price_is_as_it_was_first_known_and_what_came_late_is_not_there():
    tables, start = price_tables(0)
    late = start + timedelta(days=9)
    is_late = (pl.col("stream") == "power.rt_spp") & pl.col("start_at").is_between(late, late + timedelta(hours=3))
    other = tables[PRICES].with_columns(
        known_at=pl.when(is_late).then(pl.col("known_at") + timedelta(hours=6)).otherwise(pl.col("known_at"))
    )
    window = (start + timedelta(days=8), start + timedelta(days=DAYS))
    found, whole = (PRICE.examples({**tables, PRICES: each}, window) for each in (other, tables[PRICES]))
    gone = (whole.wanted_us >= microseconds(late)) & (whole.wanted_us < microseconds(late + timedelta(hours=3)))
    assert np.isnan(found.target[gone]).all()
    assert np.isfinite(whole.target[gone]).all()
    series = power_series(24 * DAYS, STARTS[0], seed=0)
    row = series.hours.row_at(instant(int(whole.wanted_us[0])))
    assert whole.target[0] == pytest.approx(series.real_time[row])  # revised by 7 an hour later: not what was acted on
