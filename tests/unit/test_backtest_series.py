"""Recorded series: what is wrong is refused by file and row, what is strange is used and counted."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from hcp_pipelines.forecasting.hours import instant
from hcp_pipelines.optimizer.backtest import folder, reading, series
from hcp_pipelines.optimizer.backtest.folder import Sources
from hcp_pipelines.optimizer.backtest.series import SeriesError, prices_of
from tests.support.recorded import DAY, price_frame, random_prices, write_folder

AUTUMN = datetime(2024, 11, 3, 5, tzinfo=UTC)  # local midnight of the day with 25 hours


def read(frame, **options):
    return prices_of(frame, "HB_TEST", "prices.parquet", **options)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            None,
            r"prices\.parquet: row 3 \(2024-03-01 00:45:00\+00:00\): rt_price_usd_per_mwh=None: must be a number from -1000",
        ),
        (float("nan"), r"row 3 .*=nan: must be"),
        (10_001.0, r"row 3 .*=10001\.0: must be a number from -1000 to 10000 \$/MWh\. Mend or remove it"),
        (-1000.5, r"row 3 .*=-1000\.5"),
    ],
)
def test_an_absurd_price_is_refused_by_row(value, told):
    prices = [20.0] * 8
    prices[3] = value
    with pytest.raises(SeriesError, match=told):
        read(price_frame(prices))


def test_prices_beyond_the_cap_of_their_date_are_used_and_counted():
    assert read(price_frame([20.0, 5000.0, 5168.62, -244.14])).unusual == 1
    assert read(price_frame([20.0, 5168.62, 9000.0], start=DAY.replace(year=2021))).unusual == 0


def test_a_duplicate_names_both_rows():
    frame = price_frame([20.0, 21.0, 22.0, 23.0])
    twice = pl.concat([frame, frame[2:3]])
    with pytest.raises(
        SeriesError, match=r"rows 2 and 4 are both of 2024-03-01T00:30Z \(1 duplicate\)\. Keep one of them\."
    ):
        read(twice)


def test_one_interval_is_too_short_a_window_and_it_says_why():
    with pytest.raises(
        SeriesError, match=r"1 row of HB_TEST in the window: at least 2 are needed, to tell how long an"
    ):
        read(price_frame([20.0]))


def test_a_gap_names_its_row_and_what_is_missing():
    frame = price_frame([20.0] * 12)
    with pytest.raises(
        SeriesError,
        match=r"after row 3 \(2024-03-01T00:45Z\) 0:30:00 are missing, from 2024-03-01T01:00Z on \(1 gap in all\): --hold-gaps",
    ):
        read(pl.concat([frame[:4], frame[6:]]))


def test_held_gaps_carry_the_last_price_up_to_two_hours():
    frame = price_frame(np.arange(40.0))
    held = read(pl.concat([frame[:4], frame[6:]]), hold_gaps=True)
    assert (held.held, held.usd_per_mwh[3:7].tolist()) == (2, [3.0, 3.0, 3.0, 6.0])
    with pytest.raises(SeriesError, match=r"2:15:00 are missing.*longer than the 2:00:00 that --hold-gaps fills"):
        read(pl.concat([frame[:4], frame[13:]]), hold_gaps=True)


def test_an_hour_lost_where_clocks_change_is_called_that():
    frame = price_frame([20.0] * 40, start=AUTUMN)
    lost = pl.concat([frame[:4], frame[12:]])  # the local hour from one to two, both times
    with pytest.raises(
        SeriesError, match="America/Chicago change on 2024-11-03: is the file in local time, or its repeated hour lost"
    ):
        read(lost)


def test_local_time_read_as_utc_shows_as_a_duplicate_or_a_gap_at_the_change():
    local = price_frame([20.0] * 40, start=AUTUMN).with_columns(
        pl.col("interval_start_utc")
        .dt.convert_time_zone("America/Chicago")
        .dt.replace_time_zone(None)
        .dt.replace_time_zone("UTC")
    )
    with pytest.raises(SeriesError, match=r"are both of 2024-11-03T01:00Z \(4 duplicates\).*change on 2024-11-03"):
        read(local)


def test_an_instant_off_the_grid_names_its_row():
    frame = price_frame([20.0] * 9)
    odd = frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 5)
        .then(pl.col("interval_start_utc") + timedelta(minutes=1))
        .otherwise(pl.col("interval_start_utc"))
        .alias("interval_start_utc")
    )
    with pytest.raises(SeriesError, match=r"row 5 \(2024-03-01T01:16Z\) is off the grid of 15 minutes"):
        read(odd)


def test_rows_in_any_order_and_other_granularities_are_read():
    frame = price_frame(np.arange(8.0), minutes=5)
    read_back = read(frame.reverse())
    assert (read_back.step_minutes, read_back.usd_per_mwh.tolist()) == (5, list(range(8)))


def test_a_missing_column_names_what_is_there(tmp_path):
    price_frame([1.0, 2.0]).rename({"rt_price_usd_per_mwh": "price"}).write_csv(tmp_path / "p.csv")
    with pytest.raises(
        SeriesError, match=r"p\.csv: no column rt_price_usd_per_mwh; it has interval_start_utc, settlement_point, price"
    ):
        reading.read_columns(tmp_path / "p.csv", ("interval_start_utc", "rt_price_usd_per_mwh"))


def test_hashprice_is_of_the_intervals_own_utc_day_or_the_day_before():
    starts_us = read(price_frame([1.0] * 8, start=DAY + timedelta(hours=23))).starts_us
    by_day = {DAY.date() + timedelta(days=n): 50.0 + n for n in (-1, 0, 1)}
    assert series.hashprice_of(by_day, starts_us, "n").tolist() == [50.0] * 4 + [51.0] * 4
    assert series.hashprice_of(by_day, starts_us, "n", days_back=1).tolist() == [49.0] * 4 + [50.0] * 4
    with pytest.raises(SeriesError, match=r"n: no hashprice.* of 2024-02-29; it has 2024-03-01 to 2024-03-01"):
        series.hashprice_of({DAY.date(): 50.0}, starts_us, "n", days_back=1)


@pytest.mark.parametrize("value", [None, 0.0, float("nan")])
def test_a_hashprice_that_cannot_be_names_its_row(value):
    frame = pl.DataFrame(
        {"date_utc": [date(2024, 3, 1)], series.HASHPRICE: [value]}, schema_overrides={series.HASHPRICE: pl.Float64}
    )
    with pytest.raises(SeriesError, match=r"network: row 0 \(2024-03-01\): hashprice"):
        series.daily_hashprice(frame, "network")


@pytest.mark.parametrize(
    ("days", "told"),
    [
        (pl.Series([], dtype=pl.Date), "network: no day has a hashprice"),
        (pl.Series(["03/01/2024"]), "network: date_utc is String: must be a date like 2024-01-01"),
        (pl.Series([None], dtype=pl.Date), r"network: row 0: date_utc is missing"),
    ],
)
def test_days_that_are_none_are_refused(days, told):
    frame = pl.DataFrame(
        {"date_utc": days, series.HASHPRICE: [50.0] * len(days)}, schema_overrides={series.HASHPRICE: pl.Float64}
    )
    with pytest.raises(SeriesError, match=told):
        series.daily_hashprice(frame, "network")


def test_the_folder_gives_the_window_with_its_history_and_nothing_after_it(tmp_path):
    write_folder(tmp_path, random_prices(96 * 4))
    start, end = DAY + timedelta(days=2), DAY + timedelta(days=3)
    recorded = folder.load(Sources(tmp_path, point="HB_TEST"), start, end)
    assert instant(int(recorded.prices.starts_us[0])) == DAY
    assert len(recorded.prices.starts_us) == 96 * 3
    assert recorded.prices.row_at(start) == 96 * 2
    assert np.isfinite(recorded.day_ahead).all()


@pytest.mark.parametrize(("value", "twice"), [(float("inf"), 0), (None, 0), (1e9, 0), (50.0, 1)])
def test_what_is_wrong_before_the_window_costs_its_own_rows_and_is_counted(tmp_path, value, twice):
    """One absurd price, or one told twice otherwise, cost all that there was to learn from."""
    frame = write_folder(tmp_path, random_prices(96 * 6)) and pl.read_parquet(tmp_path / "prices.parquet")
    wrong = frame[100:101].with_columns(rt_price_usd_per_mwh=pl.lit(value, pl.Float64))
    pl.concat([frame[:100], frame[100 : 100 + twice], wrong, frame[101:]]).write_parquet(tmp_path / "prices.parquet")
    start = DAY + timedelta(days=3)
    prices = folder.load(Sources(tmp_path, point="HB_TEST"), start, DAY + timedelta(days=5)).prices
    assert instant(int(prices.starts_us[0])) == DAY
    assert prices.usd_per_mwh[100] == prices.usd_per_mwh[99], "the last price is carried over it, as over any short gap"
    assert (prices.left_out, prices.held) == (1 + twice, 0)


def test_a_day_ahead_price_that_is_absurd_or_told_twice_otherwise_is_not_known(tmp_path):
    write_folder(tmp_path, random_prices(96 * 4))
    frame = pl.read_parquet(tmp_path / "day_ahead.parquet")
    other = frame[10:12].with_columns(da_price_usd_per_mwh=pl.Series([7.0, 1e6]))
    pl.concat([frame[:11], frame[12:], frame[5:6], other]).write_parquet(tmp_path / "day_ahead.parquet")
    recorded = folder.load(Sources(tmp_path, point="HB_TEST"), DAY + timedelta(days=2), DAY + timedelta(days=3))
    assert np.unique(np.flatnonzero(np.isnan(recorded.day_ahead)) // 4).tolist() == [10, 11]


def test_a_long_gap_before_the_window_only_shortens_its_history(tmp_path):
    write_folder(tmp_path, random_prices(96 * 4))
    frame = pl.read_parquet(tmp_path / "prices.parquet")
    pl.concat([frame[:50], frame[96:]]).write_parquet(tmp_path / "prices.parquet")
    recorded = folder.load(Sources(tmp_path, point="HB_TEST"), DAY + timedelta(days=2), DAY + timedelta(days=3))
    assert instant(int(recorded.prices.starts_us[0])) == DAY + timedelta(days=1)


def test_a_row_is_counted_as_it_stands_in_the_file(tmp_path):
    write_folder(tmp_path, random_prices(96 * 4))
    frame = pl.read_parquet(tmp_path / "prices.parquet")
    frame[250, "rt_price_usd_per_mwh"] = 1e6
    frame.write_parquet(tmp_path / "prices.parquet")
    with pytest.raises(SeriesError, match=r"prices\.parquet: row 250 \(2024-03-03 14:30:00\+00:00\)"):
        folder.load(Sources(tmp_path, point="HB_TEST"), DAY + timedelta(days=2), DAY + timedelta(days=3))


def test_a_window_that_no_file_covers_says_what_is_there(tmp_path):
    write_folder(tmp_path, random_prices(96 * 2))
    with pytest.raises(
        SeriesError,
        match=r"no rt_price.* of HB_TEST over 2024-03-01T00:00Z to 2024-03-11T00:00Z: prices\.parquet has 2024-03-01",
    ):
        folder.load(Sources(tmp_path, point="HB_TEST"), DAY, DAY + timedelta(days=10))
    with pytest.raises(SeriesError, match="no file has that point"):
        folder.load(Sources(tmp_path, point="HB_ELSEWHERE"), DAY, DAY + timedelta(days=1))
    with pytest.raises(SeriesError, match="no such folder"):
        folder.load(Sources(tmp_path / "away"), DAY, DAY + timedelta(days=1))


def test_series_that_are_named_go_before_those_of_the_folder(tmp_path):
    write_folder(tmp_path, random_prices(96 * 5))
    there = sorted(tmp_path.iterdir())
    (tmp_path / "own").mkdir()
    prices = pl.read_parquet(tmp_path / "prices.parquet").select("interval_start_utc")
    prices.with_columns(ercot_load_mw=1.0).write_parquet(tmp_path / "own" / "a.parquet")
    prices.with_columns(ercot_load_mw=2.0).write_parquet(tmp_path / "own" / "z.parquet")
    columns = ("interval_start_utc", "ercot_load_mw")
    assert folder.needed(Sources(tmp_path, named=(tmp_path / "own" / "z.parquet",)), "", columns)[0].name == "z.parquet"
    assert (
        folder.needed(Sources(None, named=(there[0], tmp_path / "own" / "z.parquet")), "", columns)[0].name
        == "z.parquet"
    )
    with pytest.raises(
        SeriesError, match=r"no file with interval_start_utc and ercot_load_mw is named\. Give --load FILE"
    ):
        folder.needed(Sources(None), "--load FILE", columns)
