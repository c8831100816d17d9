"""Recorded series in files: found by what is in them, joined where several follow one another, refused with what is there."""

import gzip
import re
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hcp_pipelines.forecasting.hours import FORECAST, LOAD, MCPC, instant
from hcp_pipelines.optimizer.backtest import folder, reading
from hcp_pipelines.optimizer.backtest.folder import Sources
from hcp_pipelines.optimizer.backtest.mixed.hours import WEATHER, load_hours
from hcp_pipelines.optimizer.backtest.series import DAY_AHEAD, REAL_TIME, START, SeriesError
from tests.support.recorded import DAY, price_frame, random_prices, write_folder

WINDOW = (DAY + timedelta(days=2), DAY + timedelta(days=4))
PRICES = random_prices(96 * 5).round(2)


@pytest.fixture
def made_up(tmp_path):
    return write_folder(tmp_path, PRICES)


def loaded(place, **named):
    return folder.load(Sources(place, **({"point": "HB_TEST"} | named)), *WINDOW)


def instants(form):
    return lambda frame: frame.with_columns(pl.col(START).dt.strftime(form))


@pytest.mark.parametrize(
    "told",
    [
        instants("%Y-%m-%dT%H:%MZ"),
        instants("%Y-%m-%d %H:%M:%S+00:00"),
        lambda frame: instants("%Y-%m-%dT%H:%M:%S%:z")(
            frame.with_columns(pl.col(START).dt.convert_time_zone("America/Chicago"))
        ),
        lambda frame: frame.with_columns(pl.col(START).dt.replace_time_zone(None).dt.cast_time_unit("ns")),
        lambda frame: frame.with_columns(pl.col(START).dt.convert_time_zone("America/Chicago").dt.cast_time_unit("ms")),
        lambda frame: frame.with_columns(pl.col(REAL_TIME).cast(pl.String), x=pl.lit(1)).select(pl.all().reverse()),
    ],
)
@pytest.mark.parametrize("name", ["prices.parquet", "PRICES 2024.CSV", "p.csv.gz", "p.pq"])
def test_the_same_prices_however_they_are_written(made_up, told, name):
    frame = told(pl.read_parquet(made_up / "prices.parquet"))
    (made_up / "prices.parquet").unlink()
    file = made_up / name
    if file.suffix in (".parquet", ".pq"):
        frame.write_parquet(file)
    else:
        text = frame.write_csv().encode()
        file.write_bytes(gzip.compress(text) if file.suffix == ".gz" else text)
    prices = loaded(made_up).prices
    assert (instant(int(prices.starts_us[0])), prices.step_minutes) == (DAY, 15)
    assert prices.usd_per_mwh.tolist() == PRICES[: 96 * 4].tolist()


def test_a_file_that_is_named_needs_no_name_that_says_what_it_is(made_up):
    (made_up / "prices.parquet").rename(made_up / "final (2)")
    assert loaded(made_up, rt=made_up / "final (2)").files["rt"] == "final (2)"


def test_prices_that_begin_as_whole_numbers_and_points_that_are_numbers_are_read(made_up):
    rows = price_frame([20] * 400 + [20.5] * 80).with_columns(settlement_point=pl.lit(51288))
    (made_up / "prices.parquet").unlink()
    rows.with_columns(pl.col(REAL_TIME).cast(pl.String).str.replace(".0", "", literal=True)).write_csv(
        made_up / "p.csv"
    )
    assert loaded(made_up, point="51288").prices.usd_per_mwh.tolist() == [20.0] * 384
    (made_up / "p.csv").unlink()
    rows.write_parquet(made_up / "p.parquet")
    assert len(loaded(made_up, point="51288").prices.usd_per_mwh) == 384


def test_a_day_of_a_month_is_not_guessed(made_up):
    frame = pl.read_parquet(made_up / "prices.parquet")
    instants("%m/%d/%Y %H:%M")(frame).write_csv(made_up / "p.csv")
    (made_up / "prices.parquet").unlink()
    told = r"p\.csv has 480 rows of it, 0 of them with an instant like 2024-01-01T00:00:00Z"
    with pytest.raises(SeriesError, match=told):
        loaded(made_up)
    days = pl.read_parquet(made_up / "network.parquet").with_columns(pl.col("date_utc").dt.strftime("%Y-%m-%d"))
    days.write_csv(made_up / "n.csv")
    assert (
        folder.load(
            Sources(
                None, rt=write_folder(made_up, PRICES) / "prices.parquet", network=made_up / "n.csv", point="HB_TEST"
            ),
            *WINDOW,
        ).hashprice[date(2024, 3, 1)]
        == 50.0
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"PAR1" + bytes(200), r"p\.parquet: can't be read: .*It must be a Parquet file, or CSV"),
        (b"", r"p\.parquet: can't be read: empty CSV"),
        (b"# words\nof a person\n", r"p\.parquet: no column interval_start_utc, rt_price_usd_per_mwh; it has # words"),
        (b"interval_start_utc;rt_price_usd_per_mwh\n", r"no column .*; it has interval_start_utc;rt_price"),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_one_line(made_up, content, told):
    (made_up / "p.parquet").write_bytes(content)
    with pytest.raises(SeriesError, match=told) as refused:
        loaded(made_up, rt=made_up / "p.parquet")
    assert "\n" not in str(refused.value)
    (made_up / "prices.parquet").unlink()
    unread = r" \(can't be read: p\.parquet\)" if content[:1] not in (b"#", b"i") else ""
    there = r"which has day_ahead\.parquet, network\.parquet, p\.parquet" + unread
    seen = "; the columns of p.parquet are 'interval_start_utc;rt_price_usd_per_mwh'" if content[:1] == b"i" else ""
    with pytest.raises(SeriesError, match=there + seen + r"\. Give --rt FILE"):
        loaded(made_up)


def test_a_damaged_file_beside_whole_ones_is_named(made_up):
    (made_up / "more.parquet").write_bytes(b"PAR1" + bytes(200))
    assert loaded(made_up).notes == ("can't be read, and left out: more.parquet",)


def test_an_empty_folder_and_an_unknown_point_say_what_there_is(made_up, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SeriesError, match=r"empty, which has no \.parquet, .* file\. Give --rt FILE"):
        loaded(tmp_path / "empty")
    with pytest.raises(SeriesError, match="no file has that point; what they have: HB_TEST"):
        loaded(made_up, point="HB_WEST")
    with pytest.raises(
        SeriesError, match="the window ends at 2024-03-02T00:07Z, its last interval of 15 minutes ends at"
    ):
        folder.load(Sources(made_up, point="HB_TEST"), DAY, DAY + timedelta(days=1, minutes=7))


def test_files_that_follow_one_another_are_one_series(made_up):
    """A folder with a file a year, or the months that came later beside the ones that were there."""
    whole = loaded(made_up)
    for name, columns in (("prices", REAL_TIME), ("day_ahead", DAY_AHEAD), ("network", None)):
        frame = pl.read_parquet(made_up / f"{name}.parquet")
        early = pl.col(START if columns else "date_utc") < DAY + timedelta(days=3)
        (made_up / f"{name}.parquet").unlink()
        frame.filter(early).write_parquet(made_up / f"{name}_a.parquet")
        frame.filter(~early).write_parquet(made_up / f"{name}_b.parquet")
    found = loaded(made_up)
    assert found.prices.starts_us.tolist() == whole.prices.starts_us.tolist()
    assert found.prices.usd_per_mwh.tolist() == whole.prices.usd_per_mwh.tolist()
    assert found.day_ahead.tolist() == whole.day_ahead.tolist()
    assert found.hashprice == whole.hashprice
    assert found.files == {kind: f"{name}_a.parquet, {name}_b.parquet" for kind, name in (
        ("rt", "prices"), ("da", "day_ahead"), ("network", "network"))}  # fmt: skip
    late = pl.read_parquet(made_up / "prices_b.parquet")
    late[5, REAL_TIME] = 1e6
    late.write_parquet(made_up / "prices_b.parquet")
    with pytest.raises(
        SeriesError, match=re.escape("prices_a.parquet, prices_b.parquet: row 5 of prices_b.parquet (2024-03-04")
    ):
        loaded(made_up)


def test_files_of_one_name_in_several_folders_are_several(made_up):
    frame = pl.read_parquet(made_up / "prices.parquet")
    for name, rows in (("a", frame[:100]), ("b", frame[100:300])):
        (made_up / name).mkdir()
        rows.write_parquet(made_up / name / "prices.parquet")
    frame[300:].write_parquet(made_up / "prices.parquet")
    found = loaded(made_up)
    assert found.files["rt"] == "prices.parquet, prices.parquet, prices.parquet"
    assert found.prices.usd_per_mwh.tolist() == PRICES[: 96 * 4].tolist()


def test_the_history_of_a_window_may_be_in_another_file_and_a_hole_between_two_is_said(made_up):
    frame = pl.read_parquet(made_up / "prices.parquet")
    (made_up / "own").mkdir()
    frame[96 * 2 :].write_parquet(made_up / "own" / "later.parquet")
    frame[: 96 * 2].write_parquet(made_up / "prices.parquet")
    found = loaded(made_up, rt=made_up / "own" / "later.parquet")
    assert instant(int(found.prices.starts_us[0])) == DAY
    assert found.files["rt"] == "later.parquet, prices.parquet"
    frame[: 96 * 2 - 9].write_parquet(made_up / "prices.parquet")
    told = (
        r"later\.parquet has 2024-03-03T00:00Z to 2024-03-06T00:00Z, prices\.parquet has .* to 2024-03-02T21:45Z\. Give"
    )
    with pytest.raises(SeriesError, match=told):
        folder.load(Sources(made_up, rt=None, point="HB_TEST"), DAY, WINDOW[1])


def test_a_gap_between_two_files_is_held_as_one_inside_a_file_is(made_up):
    frame = pl.read_parquet(made_up / "prices.parquet")
    frame[: 96 * 3 - 8].write_parquet(made_up / "prices.parquet")
    frame[96 * 3 :].write_parquet(made_up / "later.parquet")
    found = loaded(made_up, hold_gaps=True)
    assert found.files["rt"] == "later.parquet, prices.parquet"
    assert found.prices.held == 8
    assert found.prices.usd_per_mwh[96 * 3 - 9 : 96 * 3 + 1].tolist() == [*[PRICES[96 * 3 - 9]] * 9, PRICES[96 * 3]]
    with pytest.raises(SeriesError, match=r"row 279 of prices\.parquet .* 2:00:00 are missing.*--hold-gaps carries"):
        loaded(made_up)
    hours = frame.group_by_dynamic(START, every="1h").agg(pl.col("settlement_point").first(), pl.col(REAL_TIME).mean())
    hours.write_parquet(made_up / "hours.parquet")
    assert loaded(made_up).files["rt"] == "hours.parquet", "what is whole goes before what would be refused"
    assert loaded(made_up, hold_gaps=True).prices.step_minutes == 15
    with pytest.raises(SeriesError, match=r"no rt_price.* over 2024-03-03T23:00Z"):
        folder.load(
            Sources(made_up, rt=made_up / "later.parquet", point="HB_TEST", hold_gaps=True),
            DAY + timedelta(days=2, hours=23), WINDOW[1],
        )  # fmt: skip


def test_the_hashprice_of_days_before_the_named_file_is_the_folders(made_up, tmp_path):
    own = pl.DataFrame({"date_utc": ["2024-03-03", "2024-03-05"], "hashprice_usd_per_ph_per_day_derived": [70.0, 72.0]})
    (tmp_path / "own").mkdir()
    own.write_csv(tmp_path / "own" / "n.csv")
    found = loaded(made_up, network=tmp_path / "own" / "n.csv")
    assert found.files["network"] == "n.csv, network.parquet"
    assert [found.hashprice.get(date(2024, 3, day)) for day in (2, 3, 4, 5, 6)] == [50.0, 70.0, None, 72.0, None]


def test_of_two_files_that_say_otherwise_one_is_read_and_the_other_named(made_up):
    frame = pl.read_parquet(made_up / "prices.parquet")
    frame.with_columns(pl.col(REAL_TIME) + 1.0).write_parquet(made_up / "z.parquet")
    found = loaded(made_up)
    assert found.files["rt"] == "prices.parquet"
    assert found.notes == ("z.parquet has other prices of 192 intervals, which are not read: --rt FILE chooses",)
    assert loaded(made_up, rt=made_up / "z.parquet").prices.usd_per_mwh[0] == PRICES[0] + 1.0


def test_hashprices_and_day_ahead_prices_that_files_tell_otherwise_are_said(made_up):
    days = pl.read_parquet(made_up / "network.parquet")
    other = pl.when(pl.col("date_utc").dt.day() == 3).then(60.0).otherwise(50.0)
    days.with_columns(hashprice_usd_per_ph_per_day_derived=other).write_parquet(made_up / "z_network.parquet")
    hours = pl.read_parquet(made_up / "day_ahead.parquet")
    hours[24:27].with_columns(pl.col(DAY_AHEAD) + pl.Series([0.0, 1.0, 2.0])).write_parquet(made_up / "z_da.parquet")
    found = loaded(made_up)
    assert found.notes == (
        "z_da.parquet has other day-ahead prices of 2 hours, which are not read: --da FILE chooses",
        "z_network.parquet has other hashprices of 1 day, which are not read: --network FILE chooses",
    )
    assert set(found.hashprice.values()) == {50.0}


def test_a_file_that_names_no_point_is_said_to_be_taken_as_the_one_that_is_asked_for(made_up):
    for name in ("prices", "day_ahead"):
        pl.read_parquet(made_up / f"{name}.parquet").drop("settlement_point").write_parquet(made_up / f"{name}.parquet")
    assert loaded(made_up, point="NONSENSE").notes == (
        "prices.parquet names no point: taken as NONSENSE", "day_ahead.parquet names no point: taken as NONSENSE",
    )  # fmt: skip
    price_frame(PRICES, point="HB_WEST").write_parquet(made_up / "west.parquet")
    sources = Sources(made_up, rt=made_up / "prices.parquet", point="NONSENSE")
    [(west, day_ahead)] = folder.elsewhere(sources, loaded(made_up, point="NONSENSE").prices, WINDOW[1])
    assert west.point == "HB_WEST"
    assert np.isnan(day_ahead).all(), "the day-ahead prices are of another point, or of nobody knows which"


def test_what_is_learnt_from_other_points_counts_an_instant_once(made_up, monkeypatch):
    other = price_frame(PRICES, point="HB_WEST")
    other[:300].write_parquet(made_up / "west.parquet")
    other[100:].with_columns(pl.col(REAL_TIME) + 1.0).write_parquet(made_up / "west_again.parquet")
    own = loaded(made_up).prices
    [(found, _)] = folder.elsewhere(Sources(made_up, point="HB_TEST"), own, WINDOW[1])
    assert found.usd_per_mwh.tolist() == [*PRICES[:300], *(PRICES[300:384] + 1.0)]
    monkeypatch.chdir(made_up)
    spelt_otherwise = Sources(made_up, rt=Path("west.parquet"), point="HB_TEST")
    assert len(folder.elsewhere(spelt_otherwise, own, WINDOW[1])) == 1


def test_rows_of_an_instant_that_differ_are_refused_where_one_place_or_kind_is_wanted(tmp_path):
    frame = pl.DataFrame({START: [DAY + timedelta(minutes=30 * n) for n in (0, 1, 2, 1)], LOAD: [1.0, 2.0, 3.0, 4.0]})
    frame.write_csv(tmp_path / "zones.csv")
    told = r"zones\.csv: ercot_load_mw: rows 1 and 3 are both of 2024-03-01T00:30Z \(1 duplicate\)\. Keep one of them"
    with pytest.raises(SeriesError, match=told):
        folder.by_hour([tmp_path / "zones.csv"], (LOAD,))
    pl.concat([frame[:3], frame[1:2]]).write_csv(tmp_path / "zones.csv")
    assert folder.by_hour([tmp_path / "zones.csv"], (LOAD,))[LOAD].to_list() == [1.5, 3.0], "the same row twice is one"


def test_finer_prices_that_end_within_the_window_are_left_for_coarser_ones_and_it_says_so(made_up):
    frame = pl.read_parquet(made_up / "prices.parquet")
    frame[: 96 * 3].write_parquet(made_up / "prices.parquet")
    hours = frame.group_by_dynamic(START, every="1h").agg(pl.col("settlement_point").first(), pl.col(REAL_TIME).mean())
    hours.write_parquet(made_up / "hours.parquet")
    found = loaded(made_up)
    assert (found.prices.step_minutes, found.files["rt"]) == (60, "hours.parquet")
    told = "15-minute prices of prices.parquet are not read: it has 2024-03-01T00:00Z to 2024-03-04T00:00Z, not the whole window"
    assert told in found.notes


def test_a_finer_day_ahead_price_is_the_hours_mean_and_one_of_another_point_is_said(made_up):
    price_frame(np.arange(480.0)).rename({REAL_TIME: DAY_AHEAD}).write_parquet(made_up / "day_ahead.parquet")
    assert loaded(made_up).day_ahead[:8].tolist() == [1.5] * 4 + [5.5] * 4
    other = made_up / "other.parquet"
    price_frame(PRICES, point="HB_WEST").rename({REAL_TIME: DAY_AHEAD}).write_parquet(other)
    (made_up / "day_ahead.parquet").unlink()
    told = ("no day-ahead price of HB_TEST: what is learnt does without (other.parquet has HB_WEST)",)
    assert loaded(made_up, da=other).notes == told


def test_columns_by_hour_are_the_mean_of_finer_rows_and_go_on_in_the_next_file(tmp_path):
    """Capacity prices come by five minutes since 2025-12-05."""
    start = [DAY + timedelta(minutes=5 * n) for n in range(24)]
    five = pl.DataFrame({START: start, **{name: np.arange(24.0) for name in MCPC}})
    five[:12].write_parquet(tmp_path / "a.parquet")
    five.with_columns(pl.col(MCPC) + 100.0).write_csv(tmp_path / "b.csv")
    found = folder.by_hour([tmp_path / "a.parquet", tmp_path / "b.csv"], MCPC)
    assert found[MCPC[0]].to_list() == [5.5, 117.5]
    assert reading.column_names(tmp_path / "b.csv") == [START, *MCPC]


def test_the_hours_of_a_facility_refuse_what_is_absurd_and_know_nothing_of_what_is_none(tmp_path):
    start = [DAY + timedelta(hours=n) for n in range(30)]
    columns = dict.fromkeys((LOAD, FORECAST, *WEATHER, *MCPC), np.full(30, 20.0))
    frame = pl.DataFrame({START: start, **columns})
    frame.write_csv(tmp_path / "all.csv")
    assert load_hours(Sources(tmp_path), DAY + timedelta(hours=30)).load_mw.tolist() == [20.0] * 30
    frame.with_columns(pl.lit("n/a").alias(MCPC[1])).write_csv(tmp_path / "all.csv")
    assert np.isnan(load_hours(Sources(tmp_path), DAY + timedelta(hours=30)).mcpc[1]).all()
    frame[7, MCPC[1]] = 1e9
    frame.write_csv(tmp_path / "all.csv")
    told = r"all\.csv: ecrs_mcpc_usd_per_mw_h=1e\+09 in the hour of 2024-03-01T07:00Z: must be from -1000 to 18000\. Mend or"
    with pytest.raises(SeriesError, match=told):
        load_hours(Sources(tmp_path), DAY + timedelta(hours=30))
