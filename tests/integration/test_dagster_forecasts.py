"""The forecast assets on a real lake: a fresh world, one with history, several exchanges; what they say where they can't."""

import threading
import uuid
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.forecasting.hours import published_at
from hcp_pipelines.forecasting.known_prices import as_of
from hcp_pipelines.forecasting.learnable.framing import Framing
from hcp_pipelines.forecasting.learnable.models import Naive, SeasonalNaive
from hcp_pipelines.forecasting.learnable.targets.demand import DEMAND
from hcp_pipelines.forecasting.learnable.targets.price import FRAMING, PRICE
from hcp_pipelines.forecasting.model_file import digest_of
from hcp_pipelines.orchestration.day_answers import QUANTILES
from hcp_pipelines.orchestration.demand_quantiles import demand_quantiles
from hcp_pipelines.orchestration.demand_quantiles import judge_champion as demand_champion
from hcp_pipelines.orchestration.forecasting import forecast_scores, read_prices
from hcp_pipelines.orchestration.history.publish import PUBLISHED, REJECTED, Run, publish
from hcp_pipelines.orchestration.history.tables import RT_SPP
from hcp_pipelines.orchestration.known_tables import as_known_now
from hcp_pipelines.orchestration.price_quantiles import judge_champion, price_quantiles
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.orchestration.watching import Judged, judge_forecasts
from hcp_pipelines.storage import expected_demand, lake, models
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from tests.support.recorded import random_prices

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dagster as dg

    from assets import forecasts
    from hcp_pipelines.orchestration.io_managers import LakeIOManager
    from jobs.forecasts import days_to_forecast, forecasts_job, forecasts_schedule

DAY = datetime(2025, 2, 20, tzinfo=UTC)
NOW = DAY + timedelta(hours=6, minutes=20)
TABLES = (
    "raw.price_ticks", "raw.ercot__rt_spp", "raw.ercot__da_spp", "raw.workload_events", "core.power__price_quantiles",
    "core.power__forecast_scores", "core.hcp__demand_quantiles", "core.power__coincident_peak_probability",
    "core.bitcoin__consensus",
)  # fmt: skip


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


@pytest.fixture
def control(settings, database):
    """A connection as the jobs have it."""
    with connect(settings, Role.CONTROL) as connection:
        yield connection


def materialize(settings, *assets):
    resources = {
        "platform": Platform(state_dir=str(settings.state_dir)), "lake": LakeIOManager(state_dir=str(settings.state_dir)),
    }  # fmt: skip
    chosen = assets or tuple(dg.load_assets_from_modules([forecasts]))
    checked = [] if assets else [forecasts.forecasts_are_fresh_and_cover, forecasts.price_champion_answers]
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
    checks = {each.check_name: each for each in found.get_asset_check_evaluations()}
    assert checks["price_champion_answers"].passed
    assert "the plain anchor stands: no version of price serves yet" in checks["price_champion_answers"].description
    check = checks["forecasts_are_fresh_and_cover"]
    assert not check.passed
    assert "no forecast is in the lake yet" in check.description or "newest" in check.description


def test_without_a_champion_the_anchor_stands_and_is_scored(world, control):
    real_time, day_ahead = history(3)
    put(world, "raw.ercot__rt_spp", real_time)
    put(world, "raw.ercot__da_spp", day_ahead)
    day = (DAY, DAY + timedelta(days=1))
    found = price_quantiles(control, world, day, NOW)
    assert found.told["method"] == "anchor_errors"
    assert "no version of price serves yet" in found.told["why"]
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


def test_hours_before_the_first_price_are_not_asked(world, control):
    real_time, _ = history(1)
    put(world, "raw.ercot__rt_spp", real_time.filter(pl.col("start_at") >= DAY + timedelta(hours=3)))
    found = price_quantiles(control, world, (DAY, DAY + timedelta(days=1)), NOW)
    assert found.table["issued_at"].unique().sort().to_list() == [DAY + timedelta(hours=n) for n in (4, 5, 6)]


def learnt(settings, model, until):
    """What a model learns from the lake until an instant."""
    since = until - timedelta(days=60)
    tables = {name: as_known_now(settings, name, since, until) for name in PRICE.tables}
    return model.fit(PRICE.examples(tables, (since, until)), until)


def serve(connection, fitted, name="price"):
    """Keep a version that serves; its number."""
    content = fitted.to_bytes()
    kept = models.Kept(name, digest_of(content), content, fitted.trained_until, fitted.trained_until, {})
    return models.keep(connection, kept, "champion", "ann", "a test")


ANCHOR = SeasonalNaive(FRAMING, name="anchor")


def test_the_champion_is_asked_and_what_came_later_changes_nothing(world, control):
    real_time, day_ahead = history(30)
    put(world, "raw.ercot__rt_spp", real_time)
    put(world, "raw.ercot__da_spp", day_ahead)
    version = serve(control, learnt(world, ANCHOR, DAY - timedelta(days=3)))
    found, told = materialize(world)
    about = told["core_power__price_quantiles"]
    assert (about["method"], about["history_h"], about["points"]) == (f"price/{version}", 720, "HB_TEST")
    assert about["recorded"] == "prices alone"
    assert {each.check_name: each.passed for each in found.get_asset_check_evaluations()}["price_champion_answers"]
    first = rows(world, "core.power__price_quantiles", "issued_at, start_at")
    assert first["method"].unique().to_list() == [f"price/{version}"]
    assert (first["trained_until"] == DAY - timedelta(days=3)).all()
    day = (DAY, DAY + timedelta(days=1))
    for minutes, hours in ((2, 6), (5, 7)):  # what is asked of 6 h waits for the prices that belong to it
        newly = price_quantiles(control, world, day, DAY + timedelta(hours=6, minutes=minutes))
        assert newly.table["issued_at"].n_unique() == hours
        assert newly.table["method"].unique().to_list() == [f"price/{version}"]
    early = price_quantiles(control, world, day, DAY + timedelta(minutes=2))
    assert early.told["why"] == "no hour can be asked of yet"
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


def test_no_hour_goes_without_whoever_serves(world, control, database):
    """A version that learnt in the day, one that is taken back, one that reads what is not there, one whose bytes are damaged."""
    real_time, day_ahead = history(9)
    put(world, "raw.ercot__rt_spp", real_time)
    put(world, "raw.ercot__da_spp", day_ahead)
    day = (DAY, DAY + timedelta(days=1))

    def methods(since=0, until=7):
        found = price_quantiles(control, world, day, NOW)
        put_day(world, found.table)
        assert len(found.table) == 7 * 48
        by_hour = dict(found.table.select(pl.col("issued_at").dt.hour(), "method").unique().sort("issued_at").rows())
        assert len(by_hour) == 7
        return list(by_hour.values())[since:until], found.told

    one = f"price/{serve(control, learnt(world, ANCHOR, DAY - timedelta(days=3)))}"
    assert methods()[0] == [one] * 7
    two = f"price/{serve(control, learnt(world, Naive(), DAY + timedelta(hours=3)))}"
    assert methods()[0] == [one] * 3 + [two] * 4, "what a champion of then said stays"
    late = f"price/{serve(control, learnt(world, ANCHOR, NOW))}"
    found, told = methods()
    assert found == [one] * 3 + [two] * 4
    assert told["why"] == f"{late} learnt until 2025-02-20T06:20Z: it is asked about no hour before"
    models.roll_back(control, "price", "ann", "worse")
    assert methods()[0] == [one] * 3 + [two] * 4
    odd = replace(learnt(world, ANCHOR, DAY - timedelta(days=3)), framing=Framing("moon"))
    with lake.attach(world) as connection:
        connection.execute("drop table lake.core.power__price_quantiles")
    number = serve(control, odd)
    found, told = methods()
    assert found == ["anchor_errors"] * 7
    assert told["why"] == f"price/{number} can't be asked: features that the model reads are missing: moon"
    judged = judge_champion(control, world)
    assert not judged.passed
    assert judged.why.startswith(f"price/{number} serves, and anchor_errors made the newest forecast")
    database.execute("update models set artefact = %s where name = 'price' and version = %s", (b"tampered", number))
    found, told = methods()
    assert found == ["anchor_errors"] * 7
    assert "the champion can't be read" in told["why"]
    assert not judge_champion(control, world).passed


def put_day(settings, table):
    window = lake.Window("issued_at", DAY, DAY + timedelta(days=1))
    lake.write(settings, "core.power__price_quantiles", table, str(uuid.uuid4()), "replace", window)


def test_a_promotion_while_a_run_asks_leaves_the_run_on_one_version(world, control):
    real_time, day_ahead = history(9)
    put(world, "raw.ercot__rt_spp", real_time)
    put(world, "raw.ercot__da_spp", day_ahead)
    fitted = [learnt(world, model, DAY - timedelta(days=3)) for model in (ANCHOR, Naive())]
    versions = [serve(control, each) for each in fitted]
    stop, promoted = threading.Event(), []

    def promote():
        with connect(world, Role.OPERATOR) as own:
            while not stop.is_set():
                chosen = versions[len(promoted) % 2]
                models.promote(own, "price", chosen, "ann", "to and fro", {})
                promoted.append(chosen)

    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(promote)
        try:
            tables = [price_quantiles(control, world, (DAY, DAY + timedelta(days=1)), NOW).table for _ in range(2)]
        finally:
            stop.set()
            going.result()
    assert len(promoted) > 20
    by = [set(table["method"]) for table in tables]
    assert all(len(each) == 1 for each in by)
    assert set().union(*by) <= {f"price/{version}" for version in versions}


def test_demand_is_what_its_champion_says_since_its_training_and_stays(world, control):
    day, n = (DAY, DAY + timedelta(days=1)), 400
    at = [DAY - timedelta(days=20) + timedelta(hours=1.2 * k) for k in range(n)]
    step = {
        "workload_id": [f"w{k}" for k in range(n)],
        "type": "model_training",
        "gpu_count": [k % 5 + 1 for k in range(n)],
    }
    ended = [each + timedelta(hours=9) for each in at]
    begins, ends = (
        {**step, "occurred_at": when, "new_status": s} for when, s in ((at, "queued"), (ended, "completed"))
    )
    put(world, "raw.workload_events", pl.concat(pl.DataFrame(each) for each in (begins, ends)))
    nobody = demand_quantiles(control, world, day, NOW)
    assert demand_champion(control, NOW).passed
    assert (len(nobody.table), nobody.told["method"]) == (0, "none")
    assert nobody.told["why"] == "no version of demand serves yet (`hcp train demand` makes one)"

    def promoted(until):
        since = until - timedelta(days=60)
        tables = {name: as_known_now(world, name, since, until) for name in DEMAND.tables}
        return serve(control, DEMAND.models[0].fit(DEMAND.examples(tables, (since, until)), until), name="demand")

    promoted(DAY + timedelta(hours=2))
    _, told = materialize(world, forecasts.core_hcp__demand_quantiles)
    assert told["core_hcp__demand_quantiles"]["method"] == "demand/1"
    first = rows(world, "core.hcp__demand_quantiles")
    assert first["demand_class"].unique().sort().to_list() == ["model_training", "total"]
    assert first["asked_at"].unique().sort().to_list() == [DAY + timedelta(hours=h) for h in range(2, 7)]
    assert first.group_by("asked_at", "demand_class").len()["len"].unique().to_list() == [72]
    said = expected_demand.said(control, "demand")
    newest = first.filter((pl.col("asked_at") == DAY + timedelta(hours=6)) & (pl.col("demand_class") != "total"))
    assert demand_champion(control, NOW).why == "demand/1 serves, asked at 2025-02-20T06:00Z"
    assert (said.model, said.asked_at, said.serves) == ("demand/1", DAY + timedelta(hours=6), "demand/1")
    assert [(one.demand_class, one.hour_at, *one.gpus) for one in said.hours] == newest.select(
        "demand_class", "start_at", *QUANTILES
    ).rows()
    demand_quantiles(control, world, (DAY - timedelta(days=1), DAY), NOW)  # a day that is made again changes nothing
    assert expected_demand.said(control, "demand").hours == said.hours
    promoted(DAY + timedelta(hours=5))
    judged = demand_champion(control, NOW)
    assert (judged.passed, "demand/2 serves, the newest word is of demand/1" in judged.why) == (False, True)
    later = demand_quantiles(control, world, day, NOW).table
    by = dict(later.select(pl.col("asked_at").dt.hour(), "model").unique().rows())
    assert by == {2: "demand/1", 3: "demand/1", 4: "demand/1", 5: "demand/2", 6: "demand/2"}
    promoted(NOW - timedelta(minutes=1))  # asked about no hour that has begun: the word before stands until it is
    assert demand_quantiles(control, world, day, NOW).told["method"] == "none"
    assert demand_champion(control, NOW) == Judged(
        True,
        "demand/3 serves and is asked from 2025-02-20T07:00Z on; until then the word of demand/2 stands, asked at "
        "2025-02-20T06:00Z",
    )
    assert expected_demand.said(control, "demand").model == "demand/2"


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
