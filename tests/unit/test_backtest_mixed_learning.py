"""What a mixed facility's models learn, and the command from recorded files to its report."""

import json
from dataclasses import fields, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from hcp_pipelines.cli.main import cli
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting import peaks
from hcp_pipelines.forecasting.hindsight import TrainedTooLateError
from hcp_pipelines.forecasting.hours import Hours, instant, published_at
from hcp_pipelines.optimizer import waiting
from hcp_pipelines.optimizer.backtest.folder import Recorded, Sources
from hcp_pipelines.optimizer.backtest.mixed import learning, reserves
from hcp_pipelines.optimizer.backtest.mixed.site import FourPeaks
from hcp_pipelines.optimizer.backtest.request import Request
from hcp_pipelines.optimizer.backtest.series import prices_of
from tests.support.mixed import hourly_grid
from tests.support.recorded import price_frame, random_prices, write_folder

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "response.yaml"
SEASON_START = datetime(2023, 4, 1, 5, tzinfo=UTC)  # midnight in Texas


def test_a_reserve_forgoes_more_where_prices_will_be_high_and_worth_is_low():
    hours = hourly_grid(24 * 45)
    random, n = np.random.default_rng(5), len(hours)
    day_ahead = random.uniform(20, 120, n)
    real_time = day_ahead[:, None] * random.uniform(0.7, 1.3, (n, 4))
    model = reserves.trained(hours, day_ahead, real_time, instant(int(hours.starts_us[-1])))
    rows = np.arange(24, n)
    at = {
        worth: model.predict(hours, day_ahead, rows, np.full(len(rows), worth)) for worth in (-50.0, 25.0, 60.0, 100.0)
    }
    assert (at[25.0] >= at[60.0]).all()
    assert (at[60.0] >= at[100.0]).all()
    assert at[-50.0] - at[25.0] == pytest.approx(75.0)
    dear = day_ahead[rows] > 100
    assert at[60.0][dear].mean() == pytest.approx(np.maximum(real_time[rows][dear] - 60, 0).mean(), rel=0.15)
    assert at[60.0][day_ahead[rows] < 40].max() < 3
    scarce = (
        day_ahead * 10
    )  # no such price was ever seen: the record knows no more than its dearest hours, the market does
    told = model.predict(hours, scarce, rows, np.full(len(rows), 60.0))[dear]
    assert told.min() > 2.5 * at[60.0][dear].max()
    unknown = model.predict(hours, np.full(n, np.nan), rows, np.full(len(rows), 60.0))
    assert np.isfinite(unknown).all()


def test_a_product_that_there_was_not_yet_leaves_the_others():
    hours = hourly_grid(24)
    hours.mcpc[1] = np.nan  # ECRS began in June 2023
    hours.mcpc[:, 3] = np.nan
    best = reserves.best_mcpc(hours)
    assert np.flatnonzero(np.isnan(best)).tolist() == [3]
    assert best[0] == max(hours.mcpc[0, 0], hours.mcpc[2, 0])


def test_four_weeks_of_capacity_prices_are_needed():
    hours = hourly_grid(24 * 20)
    prices = np.full(len(hours), 30.0)
    with pytest.raises(
        ConfigError, match=r"480 hours with capacity prices.*at least 672.*Start later, or leave mpc out"
    ):
        reserves.trained(
            hours, prices, np.tile(prices[:, None], 4), instant(int(hours.starts_us[-1])) + timedelta(hours=1)
        )


def test_the_month_s_peak_is_likelier_than_any_other_hour_and_chances_add_up():
    hours = hourly_grid(24 * 214, SEASON_START)
    model = peaks.trained(hours, instant(int(hours.starts_us[-1])))(False)
    rows = np.flatnonzero((hours.month_of_year >= 6) & (hours.month_of_year <= 9))
    with pytest.raises(TrainedTooLateError, match="the model of peaks was trained until 2023-11-01"):
        model.probability(hours, np.arange(len(hours)), rows)
    model = replace(model, trained_until=SEASON_START)  # how well it fits, for once, not how well it foresees
    chance = model.probability(hours, np.arange(len(hours)), rows)
    is_peak = peaks.peak_hours(hours, FourPeaks().months)[rows]
    assert is_peak.sum() == 4
    assert chance[is_peak].min() > 20 * chance.mean()
    assert chance.sum() == pytest.approx(4, rel=0.5)


@pytest.mark.parametrize(("is_same_day", "days_old"), [(False, 1), (True, 0)])
@pytest.mark.parametrize("start", [datetime(2024, 3, 8, 3, tzinfo=UTC), datetime(2024, 11, 1, 9, tzinfo=UTC)])
def test_what_is_sold_knows_the_hashprice_of_no_day_that_is_not_over_when_it_is_sold(start, is_same_day, days_old):
    """With the same day's known: of none that had not begun."""
    hours = hourly_grid(24 * 5, start)  # the clocks change in it
    by_day = {start.date() + timedelta(days=n): float((start + timedelta(days=n)).toordinal()) for n in range(-4, 7)}
    prices = prices_of(price_frame([20.0] * 96 * 5, start), "HB_TEST", "made up")
    recorded = Recorded(prices, prices.usd_per_mwh, by_day, {"network": "made up"})
    asked = Request(Sources(None), start, start + timedelta(days=5), is_hashprice_same_day=is_same_day)
    used = learning.hashprice_as_sold(asked, recorded, hours, np.arange(len(hours)))
    for day, us in zip(used, hours.starts_us, strict=True):
        known_at = datetime.combine(date.fromordinal(int(day) + days_old), time(), UTC)
        assert known_at <= published_at(instant(int(us))) < known_at + timedelta(days=1), "the newest of them"


def test_a_month_that_is_not_recorded_to_its_end_neither_teaches_nor_is_charged_and_is_told():
    """Demand that ended in the middle of a month made its highest hour so far the peak, or left it without one, silently."""
    year = hourly_grid(24 * 215, SEASON_START)
    months, june = FourPeaks().months, 2023 * 12 + 5
    asked = Request(Sources(None), datetime(2023, 6, 10, tzinfo=UTC), datetime(2023, 7, 2, tzinfo=UTC))
    ends = {day: year.row_at(datetime(2023, 6, day, tzinfo=UTC)) for day in (15, 29)}
    cut = replace(year, load_mw=np.where(np.arange(len(year)) < ends[15], year.load_mw, np.nan))
    short = Hours(*(getattr(year, each.name)[..., : ends[29]] for each in fields(Hours)))
    for hours, until, known_h in ((cut, "2023-06-15", 13 * 24 + 19), (short, "2023-06-29", 27 * 24 + 19)):
        assert not peaks.peak_hours(hours, months)[hours.month == june].any()
        told = (
            f"peak of 2023-06 unknown, and the month not charged: demand of {known_h} of its 720 hours is read, until "
        )
        assert told + f"{until}T00:00Z" in learning.unknown_peaks(asked, hours, months)
    year.load_mw[year.row_at(datetime(2023, 6, 20, tzinfo=UTC)) + np.arange(6)] = np.nan
    assert peaks.peak_hours(year, months)[year.month == june].sum() == 1, "a handful missing hides none"
    assert not learning.unknown_peaks(asked, year, months)
    with pytest.raises(ConfigError, match="no month of May to October with demand ended"):
        peaks.trained(replace(cut, load_mw=np.where(cut.month < june, np.nan, cut.load_mw)), asked.end)


def test_without_a_season_peaks_can_t_be_learnt():
    hours = hourly_grid(24 * 60)
    with pytest.raises(ConfigError, match="no month of May to October with demand ended before 2024-04-30"):
        peaks.trained(hours, instant(int(hours.starts_us[-1])))


def recorded(path, days=100):
    """Prices of spring 2024, and demand with its forecast, capacity prices and weather from 2023 on."""
    write_folder(path, random_prices(96 * days))
    hours = hourly_grid(24 * 430, SEASON_START)
    starts = pl.Series(hours.starts_us).cast(pl.Datetime("us", "UTC"))
    columns = {
        "load": {"ercot_load_mw": hours.load_mw},
        "forecast": {"da_demand_forecast_mw": hours.forecast_mw},
        "weather": {"temperature_c": hours.temperature_c, "dew_point_c": hours.temperature_c - 5},
        "capacity": {
            f"{name}_mcpc_usd_per_mw_h": row for name, row in zip(("rrs", "ecrs", "nspin"), hours.mcpc, strict=True)
        },
    }
    for name, values in columns.items():
        pl.DataFrame({"interval_start_utc": starts} | values).write_parquet(path / f"{name}.parquet")
    return path


def test_from_recorded_files_to_the_report(tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "BAG", 1)
    monkeypatch.setattr(waiting, "TREES", waiting.TREES | {"max_iter": 20, "min_samples_leaf": 20})
    arguments = ["backtest", "--preset", "mixed-100mw", "--prices", str(recorded(tmp_path)), "--point", "HB_TEST"]
    window = ["--from", "2024-05-28", "--to", "2024-06-05"]
    page = tmp_path / "page.html"
    done = CliRunner().invoke(cli, [*arguments, *window, "--json", "--html", str(page)], catch_exceptions=False)
    found = json.loads(done.stdout)
    assert (found["files"]["reserves"], found["files"]["forecast"]) == ("capacity.parquet", "forecast.parquet")
    assert (found["subject"], found["hashprice"]) == ("mixed-100mw", "previous-day")
    told = found["strategies"]
    assert list(told) == ["always_on", "break_even", "hysteresis", "field", "mpc", "oracle"]
    assert all(each["net_usd"] <= told["oracle"]["net_usd"] for each in told.values())
    assert told["mpc"]["reserves"]["usd"] > 0
    assert told["mpc"]["deadlines_missed"] == 0
    assert "Dollars over break_even, by kind" in page.read_text(encoding="utf-8")
    more = ["--json", "--strategy", "always_on", "--response", str(EXAMPLE)]
    some = json.loads(CliRunner().invoke(cli, [*arguments, *window, *more], catch_exceptions=False).stdout)
    early = [
        "--from",
        "2024-03-03",
        "--to",
        "2024-03-05",
        *more[:3],
    ]  # where neither reserves nor peaks could be learnt
    told_early = json.loads(CliRunner().invoke(cli, [*arguments, *early], catch_exceptions=False).stdout)["strategies"]
    assert told_early["field"]["reserves"]["usd"] != 0
    of = some["strategies"]
    assert list(of) == ["always_on", "break_even", "field", "oracle"]
    assert (
        of["field"]["response"]["calls"]
        == of["field"]["response"]["calls_met"]
        > of["always_on"]["response"]["calls_met"]
    )
    assert of["always_on"]["net_usd"] == pytest.approx(
        told["always_on"]["net_usd"]
        + sum(of["always_on"]["parts_usd"][kind] for kind in ("response", "response_penalty")),
        abs=0.1,
    )
    assert all(each["net_usd"] <= of["oracle"]["net_usd"] for each in of.values())
    assert any(note.startswith("DR: 20 MW enrolled, told 120 minutes before") for note in some["notes"])
    with pytest.raises(ConfigError, match="a mixed facility needs whole hours"):
        CliRunner().invoke(
            cli, [*arguments, "--from", "2024-05-28T00:30Z", "--to", "2024-06-05"], catch_exceptions=False
        )
