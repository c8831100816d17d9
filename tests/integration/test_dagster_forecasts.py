"""The forecast assets on a real lake: a fresh world, one with history, several exchanges; what they say where they can't."""

import uuid
import warnings
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.forecasting import quantiles
from hcp_pipelines.forecasting.hours import published_at
from hcp_pipelines.forecasting.known_prices import as_of
from hcp_pipelines.orchestration.forecasting import forecast_scores, price_quantiles, read_prices
from hcp_pipelines.orchestration.history.publish import PUBLISHED, REJECTED, Run, publish
from hcp_pipelines.orchestration.history.tables import RT_SPP
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.orchestration.watching import judge_forecasts
from hcp_pipelines.storage import lake
from tests.support.recorded import random_prices

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dagster as dg

    from assets import forecasts
    from hcp_pipelines.orchestration.io_managers import LakeIOManager
    from jobs.forecasts import days_to_forecast, forecasts_job, forecasts_schedule

DAY = datetime(2025, 2, 20, tzinfo=UTC)
NOW = DAY + timedelta(hours=6, minutes=20)
TABLES = ("raw.price_ticks", "raw.ercot__rt_spp", "raw.ercot__da_spp", "core.power__price_quantiles",
          "core.power__forecast_scores", "core.power__coincident_peak_probability", "core.bitcoin__consensus")  # fmt: skip


@pytest.fixture
def world(settings, postgres):
    """The settings of a world in which it is NOW; its tables are dropped afterwards."""
    path = settings.at("run", "clock.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(Anchor(SystemClock().real_now(), NOW, 1.0).dump())
    yield settings
    path.unlink()
    with lake.attach(settings) as connection:
        connection.execute("begin")
        connection.execute(f"drop view if exists lake.{RT_SPP.known}")
        for table in (*TABLES, RT_SPP.revisions, REJECTED, PUBLISHED):
            connection.execute(f"drop table if exists lake.{table}")
        connection.execute("commit")


def materialize(settings, *assets):
    resources = {
        "platform": Platform(state_dir=str(settings.state_dir)), "lake": LakeIOManager(state_dir=str(settings.state_dir)),
    }  # fmt: skip
    chosen = assets or tuple(dg.load_assets_from_modules([forecasts]))
    checked = [] if assets else [forecasts.forecasts_are_fresh_and_cover]
    with dg.DagsterInstance.ephemeral() as instance:
        found = dg.materialize([*chosen, *checked], partition_key="2025-02-20", resources=resources, instance=instance)
    told = {
        event.materialization.asset_key.path[-1]: {k: v.value for k, v in event.materialization.metadata.items()}
        for event in found.get_asset_materialization_events()
        for event in [event.event_specific_data]
    }
    return found, told


def put(settings, table, frame):
    lake.write(settings, table, frame, batch_id=str(uuid.uuid4()))


def rows(settings, table, order="all"):
    with lake.attach(settings, read_only=True) as connection:
        return connection.execute(f"select * from lake.{table} order by {order}").pl()


def ticks(frame):
    return frame.with_row_index("id", offset=1).with_columns(
        pl.col("id").cast(pl.Int64), price_type=pl.lit(""), unit=pl.lit(""), source=pl.lit("test"), region=pl.lit(""),
        quality=pl.lit("good"), revision=pl.lit(0, pl.Int32),
    )  # fmt: skip


def bitcoin(venue, prices, start=DAY, step_s=60):
    at = [start + timedelta(seconds=n * step_s) for n in range(len(prices))]
    return pl.DataFrame(
        {"stream": "btc.usd", "series": venue, "timestamp": at, "value": prices, "received_at": at},
        schema_overrides={
            "timestamp": pl.Datetime("us", "UTC"),
            "received_at": pl.Datetime("us", "UTC"),
            "value": pl.Float64,
        },
    )


def history(days):
    """Real-time and day-ahead prices of a point, the real-time ones until NOW, the day-ahead ones until they are published."""
    start = DAY - timedelta(days=days)
    prices = random_prices(96 * (days + 2))
    at = [start + timedelta(minutes=15 * n) for n in range(len(prices))]
    frame = pl.DataFrame({"start_at": at, "settlement_point": "HB_TEST", "price_usd_per_mwh": prices, "source": "test"})
    frame = frame.with_columns(pl.col("start_at").cast(pl.Datetime("us", "UTC")))
    hours = frame.group_by(pl.col("start_at").dt.truncate("1h"), "settlement_point", "source").agg(
        pl.col("price_usd_per_mwh").mean()
    )
    published = hours.filter(
        pl.col("start_at").map_elements(published_at, return_dtype=pl.Datetime("us", "UTC")) <= NOW
    )
    return frame.filter(pl.col("start_at") + timedelta(minutes=15) <= NOW), published


def test_a_fresh_world_has_forecasts_that_say_what_they_lack(world):
    found, told = materialize(world)
    assert found.success
    assert told["core_power__price_quantiles"]["why"] == "no real-time settlement price is in the lake yet"
    assert (
        "no demand is recorded: replay a folder that has ercot_load_mw"
        in told["core_power__coincident_peak_probability"]["why"]
    )
    assert "no exchange has quoted yet" in told["core_bitcoin__consensus"]["why"]
    check = found.get_asset_check_evaluations()[0]
    assert not check.passed
    assert "no forecast is in the lake yet" in check.description or "newest" in check.description


def test_a_little_history_gives_the_baseline_and_its_scores(world):
    real_time, day_ahead = history(3)
    put(world, "raw.ercot__rt_spp", real_time)
    put(world, "raw.ercot__da_spp", day_ahead)
    day = (DAY, DAY + timedelta(days=1))
    found = price_quantiles(world, day, NOW)
    assert found.told["method"] == "anchor_errors"
    assert "72 hours of real-time prices before 2025-02-20T00:00Z: at least 672 are needed" in found.told["why"]
    assert len(found.table) == 7 * 48  # asked at midnight and the six hours since
    assert found.table["issued_at"].max() == DAY + timedelta(hours=6)
    known = found.table.filter(pl.col("day_ahead_usd_per_mwh").is_not_null())
    assert known["start_at"].max() == DAY + timedelta(hours=29)  # the rest is published at 19:30Z
    put(world, "core.power__price_quantiles", found.table)
    scored = forecast_scores(world, day, NOW)
    assert scored.filter(pl.col("horizon") == "all")["forecasts"].to_list() == [6 + 5 + 4 + 3 + 2 + 1]
    put(world, "core.power__forecast_scores", scored)
    check = judge_forecasts(world, NOW, 1.0)
    assert check.passed
    assert "21 forecasts in a week are too few to judge" in check.why


def test_hours_before_the_first_price_are_not_asked(world):
    real_time, _ = history(1)
    put(world, "raw.ercot__rt_spp", real_time.filter(pl.col("start_at") >= DAY + timedelta(hours=3)))
    found = price_quantiles(world, (DAY, DAY + timedelta(days=1)), NOW)
    assert found.table["issued_at"].unique().sort().to_list() == [DAY + timedelta(hours=n) for n in (4, 5, 6)]


def test_with_four_weeks_of_history_trees_are_learnt_and_what_came_later_changes_nothing(world, monkeypatch):
    monkeypatch.setattr(quantiles, "TREES", quantiles.TREES | {"max_iter": 5, "min_samples_leaf": 40})
    real_time, day_ahead = history(30)
    put(world, "raw.ercot__rt_spp", real_time)
    put(world, "raw.ercot__da_spp", day_ahead)
    _, told = materialize(world, forecasts.core_power__price_quantiles)
    about = told["core_power__price_quantiles"]
    assert (about["method"], about["history_h"], about["points"]) == ("boosted_trees", 720, "HB_TEST")
    assert about["recorded"] == "prices alone"
    first = rows(world, "core.power__price_quantiles", "issued_at, start_at")
    late = real_time.filter(pl.col("start_at") >= DAY + timedelta(hours=2)).with_columns(
        price_usd_per_mwh=pl.lit(4000.0)
    )
    lake.write(
        world, "raw.ercot__rt_spp", late, "late", "replace", lake.Window("start_at", DAY + timedelta(hours=2), NOW)
    )
    materialize(world, forecasts.core_power__price_quantiles)
    second = rows(world, "core.power__price_quantiles", "issued_at, start_at")
    assert len(second) == len(first) == 7 * 48, "a day that is made again replaces"
    before = pl.col("issued_at") <= DAY + timedelta(hours=2)
    assert first.filter(before).equals(second.filter(before))
    assert not first.filter(~before).equals(second.filter(~before))


def test_a_correction_of_a_price_is_known_since_it_was_fetched(world):
    window = (DAY - timedelta(days=1), DAY)
    at = [window[0] + n * timedelta(minutes=15) for n in range(96)]
    told = pl.DataFrame(
        {"start_at": at, "settlement_point": "HB_TEST", "price_usd_per_mwh": [40.0] * 96, "source": "ERCOT"},
        schema_overrides={"start_at": pl.Datetime("us", "UTC")},
    )
    corrected = told.with_columns(price_usd_per_mwh=pl.when(pl.col("start_at") == at[9]).then(400.0).otherwise(40.0))
    for hours, words in ((3, told), (5, corrected)):
        publish(world, RT_SPP, words, window, Run(f"at-{hours}", DAY + timedelta(hours=hours)))
    found = read_prices(world, window)
    for hours, prices in ((0, {40.0}), (4, {40.0}), (5, {40.0, 400.0})):
        assert set(as_of(found, DAY + timedelta(hours=hours))["price_usd_per_mwh"]) == prices


def test_bitcoin_over_three_exchanges_one_off_one_stuck(world):
    n = 6 * 60
    walk = 93_500 + np.cumsum(np.random.default_rng(0).normal(0, 20, n))
    venues = [bitcoin("coinbase", walk), bitcoin("bitstamp", walk * 1.08), bitcoin("kraken", walk[:60])]
    put(world, "raw.price_ticks", ticks(pl.concat(venues)))
    _, told = materialize(world, forecasts.core_bitcoin__consensus)
    table = rows(world, "core.bitcoin__consensus", "start_at")
    assert told["core_bitcoin__consensus"]["without_price"] == 17
    assert len(table) == 77
    early = table.filter(pl.col("start_at") == DAY + timedelta(minutes=30)).row(0, named=True)
    assert early["venues"] == "coinbase, kraken"
    assert "+8.0% off the median" in early["rejected"]
    alone = table.row(58, named=True)  # kraken is stale since minute 179, and what the two agreed on tells who is right
    assert alone["price_usd"] == pytest.approx(walk[290])
    assert "last trade" in alone["rejected"]
    last = table.row(70, named=True)  # for two hours
    assert last["price_usd"] is None
    assert "two exchanges contradict each other" in last["reason"]


def test_the_schedule_asks_for_the_world_s_day_and_in_a_fast_world_for_several(world, monkeypatch):
    def asked():
        state_dir = str(world.state_dir)
        resources = {"platform": Platform(state_dir=state_dir), "lake": LakeIOManager(state_dir=state_dir)}
        assets = dg.load_assets_from_modules([forecasts])
        whole = dg.Definitions(assets, jobs=[forecasts_job], schedules=[forecasts_schedule], resources=resources)
        context = dg.build_schedule_context(
            resources=resources, scheduled_execution_time=NOW, repository_def=whole.get_repository_def()
        )
        return forecasts_schedule.evaluate_tick(context).run_requests  # as the daemon does, with Dagster's own checks

    assert [each.partition_key for each in asked()] == ["2025-02-20"]
    days = [DAY - timedelta(days=1), DAY]
    monkeypatch.setattr("jobs.forecasts.days_to_forecast", lambda *_: days)
    assert [each.partition_key for each in asked()] == [f"{day:%Y-%m-%d}" for day in days]
    assert len({each.run_key for each in asked()}) == 2


def test_days_are_made_as_fast_as_the_world_goes():
    assert days_to_forecast(NOW, 1.0) == [DAY]
    assert days_to_forecast(DAY + timedelta(minutes=10), 1.0) == [DAY - timedelta(days=1), DAY]
    assert days_to_forecast(NOW, 60.0) == [DAY - timedelta(days=1), DAY]
    assert len(days_to_forecast(NOW, 3600.0)) == 3
