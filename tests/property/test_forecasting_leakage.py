"""The price forecast looks not ahead: what was not known when it was asked is shuffled or blanked, and it stays bit by bit."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from hcp_pipelines.domain.ticks import Stream
from hcp_pipelines.forecasting.baselines import ANCHOR, LEVELS, POINT_FORECASTS, learn_baseline, pairs, point_forecast
from hcp_pipelines.forecasting.hindsight import TrainedTooLateError
from hcp_pipelines.forecasting.horizon_features import horizon_columns
from hcp_pipelines.forecasting.hours import FORECAST, GRID, MCPC, instant, microseconds, published_at
from hcp_pipelines.forecasting.known_prices import PRICES, known_series
from hcp_pipelines.forecasting.learnable.fitted import FittedQuantiles
from hcp_pipelines.forecasting.learnable.lessons import HORIZONS_H
from hcp_pipelines.forecasting.learnable.targets.price import FRAMING, asked_of
from hcp_pipelines.forecasting.power_forecast import Learnt
from tests.property.test_backtest_mixed_leakage import DRAWS, STARTS, changed
from tests.support.mixed import power_series

DAYS = 14  # the clocks change on the seventh


def drawn(how):
    """(row asked, series, the same with everything that was not known when that hour began changed)."""
    random = np.random.default_rng(1)
    for n in range(DRAWS):
        whole = power_series(24 * DAYS, STARTS[n % 3], seed=n)
        t = int(random.integers(48, 24 * DAYS - 48))
        yield t, whole, as_known(whole, t, how, random)


def as_known(whole, t, how, random):
    rows, hours = np.arange(len(whole.hours)), whole.hours
    over, published = rows < t, hours.ahead_rows < t

    def later(values):
        return changed(values, ~over, how, random)

    def ahead(values):
        return changed(values, ~published, how, random)

    other = replace(
        hours, load_mw=later(hours.load_mw), temperature_c=later(hours.temperature_c), mcpc=ahead(hours.mcpc),
        forecast_mw=ahead(hours.forecast_mw),
    )  # fmt: skip
    return replace(
        whole, hours=other, real_time=later(whole.real_time), last_interval=later(whole.last_interval),
        day_ahead=ahead(whole.day_ahead), wind_mw=later(whole.wind_mw),
    )  # fmt: skip


@pytest.mark.parametrize("how", ["shuffle", "blank"])
def test_forecasts_and_baselines(how):
    for t, whole, other in drawn(how):
        asked = pairs(np.arange(24, t + 1), len(whole.hours))
        one, two = (horizon_columns(series, *asked) for series in (whole, other))
        assert [name for name in one if one[name].tobytes() != two[name].tobytes()] == []
        for name in (*POINT_FORECASTS, ANCHOR):
            assert point_forecast(name, whole, *asked).tobytes() == point_forecast(name, other, *asked).tobytes(), name
        latest = pairs(np.array([t]), len(whole.hours))
        one, two = (asked_of(series, *latest) for series in (whole, other))
        for name in ("features", "naive", "asked_us", "known_us"):
            assert getattr(one, name).tobytes() == getattr(two, name).tobytes(), name


@pytest.mark.parametrize("how", ["shuffle", "blank"])
def test_what_errors_are_counted(how):
    for t, whole, other in drawn(how):
        until = instant(int(whole.hours.starts_us[t]))
        one, two = (learn_baseline([series], until) for series in (whole, other))
        assert one.errors_usd_per_mwh.tobytes() == two.errors_usd_per_mwh.tobytes()


def test_asking_an_hour_too_early_would_be_noticed():
    caught = 0
    for t, whole, other in drawn("shuffle"):
        early = pairs(np.array([t + 1]), len(whole.hours))
        caught += asked_of(whole, *early).features.tobytes() != asked_of(other, *early).features.tobytes()
    assert caught == DRAWS


def late(quarters, random):
    """Five minutes at most after the interval's end."""
    return quarters + random.integers(900, 1200, len(quarters)) * 1_000_000


def rows_of(series, random):
    """The prices of a series as rows that became known when they did, some of them twice: at first wrong, then revised."""
    starts = series.hours.starts_us
    quarters = (starts[:, None] + np.arange(4) * 900_000_000).ravel()
    published = [microseconds(published_at(instant(int(us)))) for us in starts]
    parts = [
        (Stream.POWER_RT_SPP, quarters, np.repeat(series.real_time, 4), late(quarters, random)),
        (Stream.POWER_DA_SPP, starts, series.day_ahead, np.array(published)),
    ]
    parts += [(s, at, values + 7, known + 3_600_000_000) for s, at, values, known in parts]
    frames = [
        pl.DataFrame(
            {
                "stream": s.value,
                "settlement_point": "HB_TEST",
                "start_at": at,
                "price_usd_per_mwh": values,
                "known_at": known,
            }
        )
        for s, at, values, known in parts
    ]
    return pl.concat(frames).select(pl.col(name).cast(kind) for name, kind in PRICES.items())


@pytest.mark.parametrize("how", ["shuffle", "blank"])
def test_rows_that_were_not_known_yet_are_in_no_series(how):
    random = np.random.default_rng(2)
    for t, whole, _ in drawn(how):
        at = instant(int(whole.hours.starts_us[t])) + timedelta(minutes=int(random.integers(0, 60)))
        prices = rows_of(whole, random)
        row, hours = t, whole.hours  # the hour that `at` lies in
        recorded = (hours.load_mw, hours.forecast_mw, hours.temperature_c, whole.wind_mw, *hours.mcpc)
        grid = dict(zip(GRID, recorded, strict=True))
        ahead = np.isin(list(GRID), (FORECAST, *MCPC))
        later = {
            name: changed(values, hours.ahead_rows >= row if is_ahead else np.arange(len(hours)) >= row, how, random)
            for (name, values), is_ahead in zip(grid.items(), ahead, strict=True)
        }
        unknown = (prices["known_at"] > at).to_numpy()
        other = prices.with_columns(
            price_usd_per_mwh=changed(prices["price_usd_per_mwh"].to_numpy(), unknown, how, random)
        )
        one, two = (
            known_series(frame, ["HB_TEST"], at, columns, hours.starts_us)[0]
            for frame, columns in ((prices, grid), (other, later))
        )
        for name in ("real_time", "last_interval", "day_ahead", "wind_mw"):
            assert getattr(one, name).tobytes() == getattr(two, name).tobytes(), name
        for name in ("load_mw", "forecast_mw", "temperature_c", "mcpc"):
            assert getattr(one.hours, name).tobytes() == getattr(two.hours, name).tobytes(), name
        assert np.isfinite(one.real_time[: row - 1]).all()
        assert not np.isfinite(one.real_time[row:]).any()


@pytest.mark.parametrize("start", STARTS)
def test_what_has_learnt_from_the_hours_asked_refuses(start):
    series = power_series(24 * 9, start)
    until = start + timedelta(hours=100)
    asked = pairs(np.array([99]), len(series.hours))
    nothing = FittedQuantiles("anchor", until, LEVELS, FRAMING, np.zeros((len(HORIZONS_H), len(LEVELS))))
    forecasts = (Learnt(nothing), learn_baseline([series], until))
    for forecast in forecasts:
        forecast.predict(series, *pairs(np.array([100]), len(series.hours)))
        with pytest.raises(
            TrainedTooLateError, match=f"{forecast.method} was trained until {until:%Y-%m-%dT%H:%M}Z, past"
        ):
            forecast.predict(series, *asked)
