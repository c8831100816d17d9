"""What the targets price and demand ask, by hand; the trace's tasks; LEAR."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.hours import microseconds
from hcp_pipelines.forecasting.known_prices import GRID_ROWS
from hcp_pipelines.forecasting.known_prices import PRICES as PRICE_ROWS
from hcp_pipelines.forecasting.learnable.autoregression import autoregression
from hcp_pipelines.forecasting.learnable.demand_trace import BEGAN, trace_changes
from hcp_pipelines.forecasting.learnable.lear import days_of, lear
from hcp_pipelines.forecasting.learnable.median_regression import foretold
from hcp_pipelines.forecasting.learnable.price_columns import median_of
from hcp_pipelines.forecasting.learnable.targets.demand import CHANGES, COLUMNS, TOTAL, DemandTarget, Steps
from hcp_pipelines.forecasting.learnable.targets.price import GRID, PRICE, PRICES
from tests.property.test_learnable_leakage import BEGAN as WORK_BEGAN
from tests.property.test_learnable_leakage import price_tables, work
from tests.support.mixed import power_series

HOUR = 3_600_000_000
START = datetime(2024, 3, 4, tzinfo=UTC)


def changes(*rows):
    """(class, GPUs, submitted, ended) in hours since the start."""
    parts = []
    for name, gpus, began, ended in rows:
        begins, ends = (START + timedelta(hours=n) for n in (began, ended))
        parts += [(name, gpus, begins, begins), (name, -gpus, begins, ends)]
    return pl.DataFrame(parts, schema=COLUMNS, orient="row")


def test_steps_have_levels_and_means():
    steps = Steps.of(np.array([10, 2, 6]) * HOUR, np.array([-3.0, 2.0, 1.0]))
    assert steps.level(np.array([0, 2, 5, 6, 10, 99]) * HOUR).tolist() == [0, 2, 2, 3, 0, 0]
    assert steps.mean(np.array([0, 2, 4, 9, 11]) * HOUR, np.array([4, 6, 8, 11, 12]) * HOUR).tolist() == [
        1,
        2,
        2.5,
        1.5,
        0,
    ]
    assert Steps.of(np.empty(0, np.int64), np.empty(0)).mean(np.array([0]), np.array([HOUR])).tolist() == [0]


def test_demand_by_hand():
    table = changes(
        ("serving", 8.0, 0, 200), ("batch", 4.0, 30, 34.5), ("batch", 2.0, 33, 40), ("batch", 1.0, 199, 201)
    )
    window = (START + timedelta(hours=34), START + timedelta(hours=35))
    found = DemandTarget(every_h=1).examples({CHANGES: table}, window)
    assert found.entities == ("batch", "serving", TOTAL)
    assert len(found) == 3 * 72
    batch = found.only(found.entity == 0)
    assert batch.target[:8].tolist() == [4, 2, 2, 2, 2, 2, 0, 0]
    assert batch.feature("last")[0] == 6
    total = found.only(found.entity == 2)
    assert (total.target - batch.target).tolist() == [8.0] * 72
    first = dict(zip(batch.names, batch.features[0].tolist(), strict=True))
    scale = batch.scale[0]
    assert scale == 1.0  # hardly anything in the 34 hours that are known
    assert first["older_1h"] == 6  # the newer piece asks for exactly an hour
    assert first["older_6h"] == 0
    assert first["came_6h"] == 6
    assert first["mean_1h"] == pytest.approx(6 - 6)
    assert first["mean_6h"] == pytest.approx((4 * 4 + 2) / 6 - 6, abs=1e-5)
    assert np.isnan(first["mean_168h"])
    assert np.isnan(first["lag_week"])
    assert batch.naive[0] == 0
    assert found.known_us.tolist() == (found.wanted_us + HOUR).tolist()
    far = DemandTarget(every_h=1).examples(
        {CHANGES: table}, (window[0] + timedelta(hours=150), window[1] + timedelta(hours=150))
    )
    assert np.isnan(far.target[far.wanted_us + HOUR > microseconds(START + timedelta(hours=201))]).all()


def test_work_that_began_before_what_is_known_is_left_out():
    table = changes(("batch", 4.0, 0, 50), ("batch", 2.0, 10, 60), ("batch", 1.0, 20, 70))
    window = (START + timedelta(hours=55), START + timedelta(hours=56))
    cut = table.filter(pl.col("known_at") > START + timedelta(hours=5))
    found = DemandTarget(every_h=1).examples({CHANGES: cut}, window)
    assert found.feature("last")[0] == 3


def test_what_cannot_be_asked_is_said():
    table, window = work(0), (BEGAN, BEGAN + timedelta(days=1))
    with pytest.raises(ConfigError, match="is known before 2023-01-03"):
        DemandTarget().examples({CHANGES: table}, window)
    with pytest.raises(ConfigError, match="training: no such class of work; there are batch, serving, total"):
        DemandTarget().examples({CHANGES: table}, window, ("training",))
    with pytest.raises(ConfigError, match="has no work yet"):
        DemandTarget().examples({CHANGES: pl.DataFrame(schema=COLUMNS)}, window)
    tables, start = price_tables(0)
    week = (start, start + timedelta(days=7))
    with pytest.raises(ConfigError, match="HB_WEST: no real-time prices; there are HB_TEST"):
        PRICE.examples(tables, week, ("HB_WEST",))
    with pytest.raises(ConfigError, match="no prices are known of 2024"):
        PRICE.examples({PRICES: pl.DataFrame(schema=PRICE_ROWS), GRID: pl.DataFrame(schema=GRID_ROWS)}, week)


def test_demand_is_learnt_by_every_model_and_one_class_can_be_asked_for():
    table = work(1, pieces=1500, days=40)
    window = (WORK_BEGAN, WORK_BEGAN + timedelta(days=39))
    found = DemandTarget().examples({CHANGES: table}, window, ("serving",))
    assert found.entities == ("serving",)
    until = window[0] + timedelta(days=30)
    later = found.only(found.asked_us >= microseconds(until))
    for model in DemandTarget().models:
        said = model.fit(found, until).predict(later)
        assert np.isfinite(said).all()
        assert (said >= 0).all()


@pytest.mark.shared_data
def test_the_recorded_cluster():
    from tests.support.recorded import REAL

    file = REAL / "traces" / "alibaba_gpu_v2023_pods.parquet"
    if not file.is_file():
        pytest.skip("the recorded cluster is not beside the project")
    table = trace_changes(file)
    window = (BEGAN + timedelta(days=120), BEGAN + timedelta(days=121))
    found = DemandTarget().examples({CHANGES: table}, window, (TOTAL,))
    assert found.target[: 5 * 72].min() > 15  # GPUs
    assert found.target[: 5 * 72].max() < 80
    with pytest.raises(ConfigError, match="has not the columns"):
        trace_changes(REAL / "MANIFEST.md")


def test_lear_finds_what_follows_from_the_days_before():
    """Prices of an hour are two thirds of yesterday's and a share of the forecast: LEAR comes near, a week ago does not."""
    random, series = np.random.default_rng(0), power_series(24 * 160)
    days = days_of(series.hours, series.day_ahead, (series.hours.forecast_mw,))
    forecast = random.normal(50, 5, days.prices.shape)
    prices = np.zeros_like(days.prices)
    for day in range(1, len(prices)):
        prices[day] = 0.66 * prices[day - 1] + 0.3 * forecast[day] + random.normal(0, 0.5, 24)
    made = type(days)(days.first, prices, (forecast,))
    asked = np.arange(140, 142)
    error = np.abs(lear(made, asked, (56,)) - prices[asked]).mean()
    assert error < 0.6 * np.abs(prices[asked - 7] - prices[asked]).mean()
    changed = prices.copy()
    changed[140:] = 1e4
    again = lear(type(days)(days.first, changed, (forecast,)), asked[:1], (56,))
    assert again.tobytes() == lear(made, asked[:1], (56,)).tobytes()  # the day itself is not seen
    assert np.isnan(lear(made, np.array([20]))).all()
    late = forecast.copy()
    late[:30, 5] = np.nan  # figures that begin later than prices cost the days before, not themselves
    whole = type(days)(days.first + 30, prices[30:], (forecast[30:],))
    found = lear(type(days)(days.first, prices, (late,)), asked[:1], (56, 1092))
    assert found.tobytes() == lear(whole, asked[:1] - 30, (56, 1092)).tobytes()


def of_yesterday(days, start, noise):
    """Prices of the day-ahead price and of what yesterday's was above it."""
    series = power_series(24 * days, start)
    prices = series.day_ahead + np.random.default_rng(1).normal(0, noise, len(series.hours))
    prices[24:] += 0.5 * (prices[:-24] - series.day_ahead[:-24])
    return replace(series, real_time=prices)


@pytest.mark.parametrize("start", [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 8, 20, tzinfo=UTC)])
def test_an_autoregression_sees_nothing_that_is_not_known(start):
    """Around both changes of clocks, before and after publication."""
    series = of_yesterday(80, start, 1.0)
    rows, days = np.arange(len(series.hours)), series.hours.day
    changes = int(np.flatnonzero(np.diff(days) == 1)[np.flatnonzero(_lengths(days) != 24)[0]])
    for at in range(changes - 60, changes + 30, 11):
        asked, wanted = np.full(48, at), np.arange(at, at + 48)
        found = autoregression(series, asked, wanted)
        assert np.isfinite(found).all()
        unpublished = series.hours.ahead_rows >= at
        hours = replace(series.hours, forecast_mw=np.where(unpublished, 9e4, series.hours.forecast_mw))
        day_ahead = np.where(unpublished, 500.0, series.day_ahead)
        real_time = np.where(rows >= at, np.nan, series.real_time)
        other = replace(series, hours=hours, real_time=real_time, day_ahead=day_ahead)
        assert autoregression(other, asked, wanted).tobytes() == found.tobytes()
    assert np.isnan(autoregression(series, np.full(48, 24 * 40), np.arange(24 * 40, 24 * 42))).all()


def test_an_autoregression_finds_what_follows_and_a_gap_costs_it_a_day_alone():
    series = of_yesterday(200, datetime(2024, 4, 1, tzinfo=UTC), 0.5)
    first = int(np.flatnonzero(series.hours.local_hour == 0)[-3])
    asked, wanted = np.full(24, first), np.arange(first, first + 24)
    said = autoregression(series, asked, wanted)
    errors = [np.abs(each - series.real_time[wanted]).mean() for each in (said, series.real_time[wanted - 168])]
    assert errors[0] < 0.6 * errors[1]
    with_gap = replace(series, real_time=np.where(np.arange(len(series.hours)) // 5 == 400, np.nan, series.real_time))
    assert np.abs(autoregression(with_gap, asked, wanted) - said).max() < errors[1]


def test_hourly_regressions_say_medians_by_few_regressors():
    """One of thirty regressors counts, another an hour; a fifth of the days are spikes, which least squares would follow."""
    random = np.random.default_rng(0)
    rows, hours, spikes = random.normal(0, 1, (320, 31)), np.arange(2), random.random((300, 2)) < 0.2
    hourly = np.array([[*range(29), 29 + hour] for hour in hours])
    truth = 1 + 2 * rows[:, :1] + rows[:, [29, 30]]
    spiky = truth[:300] + random.normal(0, 0.1, (300, 2)) + np.where(spikes, 8.0, 0.0)
    said = np.array([foretold(np.vstack([rows[:300], asked]), hourly, spiky) for asked in rows[300:]])
    assert np.abs((said - truth[300:]).mean(axis=0)).max() < 0.5  # least squares say 1.6 more
    assert np.abs(said - truth[300:]).mean() < 0.3 * np.abs(truth[300:] - np.median(spiky, axis=0)).mean()
    level = foretold(np.vstack([np.ones((300, 31)), rows[:1]]), hourly, spiky)
    assert (
        np.abs(level - np.median(spiky, axis=0)).max() < 0.5
    )  # the mean is 0.8 above; regressors that never move say nothing


def _lengths(day):
    """Hours of each day but the first and the last, which are cut; those count as whole."""
    hours = np.bincount(day - day[0])
    return np.r_[24, hours[1:-1], 24][:-1]


def test_medians_are_of_what_is_there():
    rows = np.array([[1.0, np.nan, np.nan], [5.0, 3.0, np.nan], [2.0, 4.0, np.nan]])
    assert median_of(rows)[:2].tolist() == [2.0, 3.5]
    assert np.isnan(median_of(rows)[2])


def test_days_have_24_hours_also_when_clocks_change():
    series = power_series(24 * 20, datetime(2024, 3, 1, 6, tzinfo=UTC))
    days = days_of(series.hours, series.real_time, ())
    skipped = 9  # 10 March
    assert days.prices[skipped, 2] == pytest.approx(days.prices[skipped, [1, 3]].mean())
    assert days.regressors.shape == (len(days.prices), 4 * 24 + 7)
    assert days.regressors[:, -7:].sum(axis=1).tolist() == [1.0] * len(days.prices)
    assert days.regressors[3, -7 + 0] == 1  # 4 March 2024 is a Monday
