"""Power-price quantiles: what is learnt, what is fallen back on, how it is scored, and the command."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from hcp_pipelines.cli.main import cli
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting import power_forecast
from hcp_pipelines.forecasting.baselines import (
    ASSUMED_ERRORS_USD_PER_MWH,
    DAY_AHEAD,
    HORIZONS_H,
    LEVELS,
    NAIVE,
    PERSISTENCE,
    learn_baseline,
    pairs,
    point_forecast,
)  # fmt: skip
from hcp_pipelines.forecasting.conformal import conformal_shifts
from hcp_pipelines.forecasting.hours import instant
from hcp_pipelines.forecasting.learnable.models import BoostedTrees
from hcp_pipelines.forecasting.learnable.targets.price import NEAR_USUAL
from hcp_pipelines.forecasting.power_forecast import COLUMNS, LEVEL_COLUMNS, forecast_table, learn
from hcp_pipelines.forecasting.quantile_scores import scores, skill
from hcp_pipelines.forecasting.rolling import rolling_forecasts
from tests.support.mixed import power_series
from tests.support.recorded import DAY, random_prices, real_folder, write_folder

START = datetime(2024, 3, 1, 6, tzinfo=UTC)


@pytest.fixture
def small_trees(monkeypatch):
    model = BoostedTrees(NEAR_USUAL, trees=24, learning_rate=0.15, least_in_leaf=40)
    monkeypatch.setattr(power_forecast, "PRICE", replace(power_forecast.PRICE, models=(model,)))


def at(series, day):
    return instant(int(series.hours.starts_us[24 * day]))


def test_baselines_are_what_they_say():
    series = power_series(24 * 6)
    asked, wanted = np.array([100, 100, 100]), np.array([100, 124, 147])
    assert point_forecast(NAIVE, series, asked, wanted).tolist() == series.real_time[[76, 76, 99]].tolist()
    assert point_forecast(PERSISTENCE, series, asked, wanted).tolist() == series.real_time[[99] * 3].tolist()
    known = np.isfinite(point_forecast(DAY_AHEAD, series, *pairs(np.arange(24, 96), len(series.hours))))
    hour, ahead = series.hours.local_hour, np.subtract(*pairs(np.arange(24, 96), len(series.hours))[::-1])
    first = pairs(np.arange(24, 96), len(series.hours))[0]
    furthest = {int(h): int(ahead[known & (hour[first] == h)].max()) for h in range(24)}
    assert furthest == {h: (23 if h < 14 else 47) - h for h in range(24)}  # 13:30: the hours asked are whole


def test_without_learning_the_spread_is_what_errors_have_been():
    series = power_series(24 * 70)
    baseline = learn_baseline([series], at(series, 60))
    assert not baseline.is_assumed
    assert baseline.method == "anchor_errors"
    found = baseline.predict(series, *pairs(np.arange(24 * 60, 24 * 67), len(series.hours)))
    wanted = pairs(np.arange(24 * 60, 24 * 67), len(series.hours))[1]
    inside = (found[:, 1] <= series.real_time[wanted]) & (series.real_time[wanted] <= found[:, 5])
    assert inside.mean() == pytest.approx(0.8, abs=0.06)


def test_with_hardly_any_prices_the_spread_is_assumed_and_says_so():
    series = power_series(24 * 10)
    forecast = learn_baseline([series], at(series, 0) + timedelta(hours=5))
    assert forecast.method == "anchor_assumed_errors"
    table = forecast_table(forecast, series, np.array([5]))
    assert tuple(table.columns) == COLUMNS
    first = table.row(0, named=True)
    anchor = first["day_ahead_usd_per_mwh"]
    assert [first[c] - anchor for c in LEVEL_COLUMNS] == pytest.approx(ASSUMED_ERRORS_USD_PER_MWH)
    assert first["naive_usd_per_mwh"] is None
    assert learn_baseline([], START).is_assumed


def test_what_is_learnt_of_the_target_fills_the_table_and_beats_what_repeats(small_trees):
    series = power_series(24 * 40)
    until = at(series, 34)
    asked = np.arange(24 * 34, 24 * 38)
    table = forecast_table(learn([series], until), series, asked)
    assert tuple(table.columns) == COLUMNS
    assert table["method"].unique().to_list() == ["boosted_trees"]
    assert (table["trained_until"] == until).all()
    assert table["ahead_h"].max() == 48
    levels = table.select(LEVEL_COLUMNS).to_numpy()
    assert (np.diff(levels, axis=1) >= 0).all()
    pairs_of = pairs(asked, len(series.hours))
    error = np.abs(levels[:, LEVELS.index(0.5)] - series.real_time[pairs_of[1]]).mean()
    assert error < np.abs(point_forecast(NAIVE, series, *pairs_of) - series.real_time[pairs_of[1]]).mean()


def test_shifts_are_what_each_level_missed_by_horizon():
    random = np.random.default_rng(0)
    came_to, horizon = random.normal(1.0, 2.0, 6000), np.arange(6000) % 6
    came_to[horizon == 3] += 5
    found = np.zeros((6000, len(LEVELS)))
    shifts = conformal_shifts(found, came_to, horizon, LEVELS, 6)
    for n in range(6):
        assert [(came_to[horizon == n] <= shift).mean() for shift in shifts[n]] == pytest.approx(LEVELS, abs=0.01)
    few = conformal_shifts(found[:400], came_to[:400], horizon[:400], LEVELS, 6)
    assert np.ptp(few, axis=0).tolist() == [0.0] * len(LEVELS)  # fewer than 100 each: as all together
    assert not conformal_shifts(found[:99], came_to[:99], horizon[:99], LEVELS, 6).any()


def test_scores_by_hand():
    levels = {column: [10.0 * n] * 2 for n, column in enumerate(LEVEL_COLUMNS)}  # 0, 10, … 60
    starts = [START, START + timedelta(hours=30)]
    table = pl.DataFrame(
        {"start_at": starts, "ahead_h": [1, 30], **levels, "price_usd_per_mwh": [35.0, 58.0], "naive_usd_per_mwh": [25.0, None],
         "persistence_usd_per_mwh": [45.0, 48.0], "day_ahead_usd_per_mwh": [30.0, None]},
        schema_overrides={"naive_usd_per_mwh": pl.Float64, "day_ahead_usd_per_mwh": pl.Float64},
    )  # fmt: skip
    found = {row["horizon"]: row for row in scores(table).iter_rows(named=True)}
    assert list(found) == ["1", "25–36", "all"]
    assert found["1"]["mae_usd_per_mwh"] == 5
    assert found["1"]["rmae_naive"] == 0.5
    assert found["1"]["rmae_day_ahead"] == 1.0
    assert found["25–36"]["rmae_day_ahead"] is None
    assert found["all"]["known_day_ahead"] == 0.5
    assert (found["1"]["coverage_80"], found["25–36"]["coverage_80"], found["25–36"]["coverage_90"]) == (1, 0, 1)
    assert found["25–36"]["p90_pinball"] == pytest.approx(0.9 * 8)
    assert found["25–36"]["p95_pinball"] == pytest.approx(0.05 * 2)
    assert skill(table.head(0), "persistence") is None
    assert skill(table, "persistence")[0] == pytest.approx((5 + 28) / (10 + 10))
    assert HORIZONS_H[-1] == 48


def test_each_month_is_learnt_from_what_was_over():
    series, asked = power_series(24 * 100), []

    def learning(lessons, until):
        asked.append(until)
        return learn_baseline(lessons, until)

    window = (datetime(2024, 4, 20, tzinfo=UTC), datetime(2024, 6, 2, tzinfo=UTC))
    table = rolling_forecasts(series, window, learning, every_h=6)
    assert asked == [window[0], datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC)]
    assert (table["issued_at"] >= table["trained_until"]).all()
    assert table["issued_at"].min() == window[0]
    assert table["price_usd_per_mwh"].null_count() == 0
    with pytest.raises(ConfigError, match="--from must be before --to"):
        rolling_forecasts(series, window[::-1], learning)


def test_the_command_says_what_the_folder_lacks(tmp_path, small_trees):
    write_folder(tmp_path, random_prices(96 * 50))
    window = ["--from", f"{DAY + timedelta(days=40):%Y-%m-%d}", "--to", f"{DAY + timedelta(days=46):%Y-%m-%d}"]
    arguments = ["forecast", "power", "--prices", str(tmp_path), "--point", "HB_TEST", *window, "--every-h", "5"]
    done = CliRunner().invoke(cli, [*arguments, "--json"], catch_exceptions=False)
    told = json.loads(done.stdout)
    assert told["scores"][-1]["horizon"] == "all"
    assert told["rmae"]["naive"]["low"] <= told["rmae"]["naive"]["value"] <= told["rmae"]["naive"]["high"]
    assert "ercot_load_mw" in told["missing"]
    assert list(told["below"]) == [f"{level:g}" for level in LEVELS]
    assert list(told["below"].values()) == sorted(told["below"].values())
    printed = CliRunner().invoke(cli, arguments, catch_exceptions=False).stdout
    assert "note: no file has ercot_load_mw" in printed
    assert f"prices below each quantile: {told['below']['0.05']:.2f} of 0.05, " in printed
    with pytest.raises(ConfigError, match="at least 28 are needed"):
        CliRunner().invoke(cli, [*arguments[:-6], "--from", "2024-03-05", *window[2:]], catch_exceptions=False)


@pytest.mark.shared_data
def test_on_real_prices_a_few_trees_beat_the_baselines_and_the_band_holds(small_trees):
    from hcp_pipelines.optimizer.backtest.folder import Sources
    from hcp_pipelines.optimizer.backtest.power_series import load_power_series

    window = (datetime(2024, 9, 1, tzinfo=UTC), datetime(2024, 10, 1, tzinfo=UTC))
    series, missing = load_power_series(Sources(real_folder()), *window)
    assert missing == []
    found = scores(rolling_forecasts(series, window, learn, every_h=7)).row(-1, named=True)
    plain = scores(rolling_forecasts(series, window, learn_baseline, every_h=7)).row(-1, named=True)
    assert found["pinball_usd_per_mwh"] < 0.95 * plain["pinball_usd_per_mwh"]
    assert found["rmae_naive"] < 0.8
    assert 0.7 < found["coverage_80"] < 0.92
