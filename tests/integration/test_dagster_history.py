"""The history assets on a real lake and a served world: a range in one run, again to the row, checks on good and bad files."""

import uuid
import warnings
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from hcp_pipelines.orchestration.forecasting import read_prices
from hcp_pipelines.orchestration.history import daemon_models, joined, tables, watch
from hcp_pipelines.orchestration.history.publish import Run, publish
from hcp_pipelines.orchestration.history.reading import reading
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.storage import lake
from tests.support.collected import whole
from tests.support.served import served_world

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dagster as dg

    from assets import bitcoin, checks, ercot, grid, weather
    from assets import joined as joined_assets
    from hcp_pipelines.orchestration.io_managers import HistoryIOManager, LakeIOManager

FIRST, LAST = "2025-01-10", "2025-01-12"
DAY = datetime(2025, 1, 10, tzinfo=UTC)
WINDOW = (DAY, DAY + timedelta(days=3))
NOW = DAY + timedelta(days=3, hours=2)
HOUR = timedelta(hours=1)
MODULES = (ercot, weather, bitcoin, grid, joined_assets)
TICKS = "raw.price_ticks"


@pytest.fixture(scope="module")
def world(postgres):
    """A lake with three days of everything, fetched by one run."""
    with served_world(postgres, NOW):
        found = materialize(postgres, dg.load_assets_from_modules(MODULES), *checks.all_checks)
        assert found.success
        yield postgres, found


def materialize(settings, assets, *asset_checks):
    state_dir = str(settings.state_dir)
    resources = {
        "platform": Platform(state_dir=state_dir),
        "lake": LakeIOManager(state_dir=state_dir),
        "history": HistoryIOManager(state_dir=state_dir),
    }
    tags = {"dagster/asset_partition_range_start": FIRST, "dagster/asset_partition_range_end": LAST}
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize([*assets, *asset_checks], resources=resources, instance=instance, tags=tags)


def rows(settings, table, order="all"):
    with lake.attach(settings, read_only=True) as connection:
        return connection.execute(f"from lake.{table} order by {order}").pl()


def judged(judge, settings, *of):
    with reading(settings) as reader:
        return judge(reader, *of)


def evaluations(found):
    return {(each.asset_key.to_user_string(), each.check_name): each for each in found.get_asset_check_evaluations()}


def test_three_days_of_every_source_in_one_run_pass_every_check(world):
    settings, found = world
    per_day = {
        "raw.ercot__rt_spp": 96 * 2, "raw.ercot__da_spp": 24 * 2, "raw.ercot__da_capacity": 24 * 5,
        "raw.ercot__zone_load": 24 * 9,
        "raw.open_meteo__temperature": 24 * 4, "raw.coinbase__candles": 24, "raw.bitstamp__candles": 24, "raw.kraken__candles": 6,
        "raw.binance__candles": 24, "raw.gemini__candles": 24,
        "core.power__settled_prices": 96 * 2, "core.bitcoin__network": 1,
    }  # fmt: skip
    for table, count in per_day.items():
        assert len(rows(settings, table)) == 3 * count, table
    assert 300 < len(rows(settings, "raw.mempool__blocks")) < 560
    told = evaluations(found)
    assert {key for key, each in told.items() if not each.passed} == set()
    assert {key for key, _ in told} >= {tables.key_of(table.name) for table in tables.ALL}
    check = told["raw_ercot__rt_spp", "rows_are_good"].metadata
    assert {name: check[name].value for name in ("rows", "bad", "days", "rejected")} == {
        "rows": 3 * 192, "bad": 0, "days": 3, "rejected": 0,
    }  # fmt: skip
    network = rows(settings, "core.bitcoin__network")
    assert network["is_over"].all()
    assert network["hashprice_usd_per_ph_day"].is_between(20, 120).all()


def test_the_same_days_again_are_the_same_to_the_row(world):
    settings, _ = world
    again = [
        ercot.raw_ercot__rt_spp,
        bitcoin.raw_kraken__candles,
        bitcoin.raw_mempool__blocks,
        joined_assets.core_bitcoin__network,
    ]
    history = (tables.RT_SPP, tables.KRAKEN, tables.BLOCKS)
    names = [name for table in history for name in (table.name, table.revisions)]
    before = {name: rows(settings, name) for name in (*names, "core.bitcoin__network")}
    assert materialize(settings, again).success
    for name, frame in before.items():
        assert frame.equals(rows(settings, name)), name


def test_a_bad_file_fails_its_check_with_rows_to_look_at(world):
    settings, _ = world
    good = rows(settings, "raw.ercot__rt_spp")
    bad = good.with_columns(
        price_usd_per_mwh=pl.when(pl.col("start_at") == DAY).then(pl.lit(1e9)).otherwise("price_usd_per_mwh")
    )
    publish(settings, tables.RT_SPP, bad, WINDOW, Run("bad", NOW + HOUR))
    found = judged(watch.judge_published, settings, tables.RT_SPP, WINDOW)
    assert not found.passed
    assert "2 rows of the last fetch are not good and were kept out" in found.why
    assert found.told["sample"]["reason"].to_list() == ["price_usd_per_mwh: in_range(-1000.0, 10000.0)"] * 2
    assert rows(settings, "raw.ercot__rt_spp").equals(good), "readers see the last good prices"
    publish(settings, tables.RT_SPP, good, WINDOW, Run("good", NOW + 2 * HOUR))
    assert judged(watch.judge_published, settings, tables.RT_SPP, WINDOW).passed


@pytest.fixture
def spoilt(world):
    """A bad partition of real-time prices, written past the audit as another location might."""
    settings, _ = world
    good = rows(settings, "raw.ercot__rt_spp")
    day = good.filter(pl.col("start_at") < DAY + timedelta(days=1))
    wrong = pl.concat([day.head(90).with_columns(price_usd_per_mwh=pl.lit(v)) for v in (float("nan"), None, 4e7)])
    span = lake.Window("start_at", DAY, DAY + timedelta(days=1))
    lake.write(settings, "raw.ercot__rt_spp", wrong, str(uuid.uuid4()), "replace", span)
    yield settings, good
    lake.write(settings, "raw.ercot__rt_spp", day, str(uuid.uuid4()), "replace", span)


def test_what_was_written_past_the_audit_is_found_and_reaches_no_series(spoilt):
    settings, good = spoilt
    found = judged(watch.judge_published, settings, tables.RT_SPP, WINDOW)
    assert not found.passed
    assert "written past the audit" in found.why
    assert found.told["bad"] > 0
    settled = joined.settled_prices(settings, WINDOW)
    rest = good.filter(pl.col("start_at") >= DAY + timedelta(days=1))
    assert settled["price_usd_per_mwh"].is_finite().all()
    assert settled.filter(pl.col("origin") == "history").height == len(rest)
    learnt_from = read_prices(settings, WINDOW)
    assert learnt_from["price_usd_per_mwh"].drop_nulls().is_between(-1000, 10_000).all(), "nor a forecast"


def test_history_goes_before_ticks_and_settled_ticks_before_lmps(world):
    settings, _ = world
    at, later, last = (DAY - timedelta(days=1) + n * timedelta(minutes=15) for n in range(3))
    lmps = [("power.rt_lmp", start + n * timedelta(minutes=5), 10.0 * n) for start in (later, last) for n in range(3)]
    told = [*lmps, ("power.rt_spp", later, 77.0), ("power.rt_lmp", DAY, -5.0)]
    ticks = pl.DataFrame(
        [(n, stream, "HB_HOUSTON", when, value, "good", 0, when) for n, (stream, when, value) in enumerate(told, start=1)],
        schema=["id", "stream", "series", "timestamp", "value", "quality", "revision", "received_at"], orient="row",
        schema_overrides={"timestamp": pl.Datetime("us", "UTC"), "received_at": pl.Datetime("us", "UTC"), "revision": pl.Int32},
    )  # fmt: skip
    lake.write(settings, TICKS, whole(TICKS, ticks), str(uuid.uuid4()))
    try:
        found = joined.settled_prices(settings, (at, DAY + timedelta(minutes=15))).filter(
            pl.col("settlement_point") == "HB_HOUSTON"
        )
        assert found.select("start_at", "price_usd_per_mwh", "origin").rows()[:2] == [
            (later, 77.0, "tick"), (last, 10.0, "lmp_mean"),
        ]  # fmt: skip
        assert found.row(-1, named=True)["origin"] == "history"
        assert f"{found['operating_day'][0]}" == "2025-01-08", "midnight UTC is the evening before in Texas"
    finally:
        with lake.attach(settings) as connection:
            connection.execute(f"drop table lake.{TICKS}")


def test_a_day_that_is_overdue_and_a_table_never_asked_for(world):
    settings, _ = world
    assert judged(watch.judge_freshness, settings, tables.RT_SPP, NOW).passed
    late = judged(watch.judge_freshness, settings, tables.RT_SPP, NOW + timedelta(days=2))
    assert (late.passed, late.told["newest_day"]) == (False, "2025-01-12")
    assert "backfill since then" in late.why


def test_a_wrong_unit_of_one_market_is_found():
    points = pl.DataFrame({"settlement_point": ["A", "B"], "day_ahead": [25.0, 24.0], "real_time": [20.0, 22.0]})
    assert watch.of_one_scale(points).passed
    cents = points.with_columns(real_time=pl.Series([20.0, 2200.0]))
    assert watch.of_one_scale(cents).why.endswith("times at B: a wrong unit?")
    low = points.with_columns(day_ahead=pl.Series([0.1, 24.0]), real_time=pl.Series([3.0, 22.0]))
    assert watch.of_one_scale(low).passed, "of a few dollars a ratio says nothing"


def closes(**venues):
    every = [(venue, DAY + n * HOUR, usd) for venue, values in venues.items() for n, usd in enumerate(values)]
    return pl.DataFrame(every, schema=["venue", "end_at", "close_usd"], orient="row")


def test_an_exchange_that_is_off_is_named():
    near = [100_000.0 + n for n in range(20)]
    assert watch.agreeing(closes(coinbase=near, kraken=near, bitstamp=[v * 1.002 for v in near])).passed
    found = watch.agreeing(closes(coinbase=near, kraken=near, bitstamp=[v * 1.03 for v in near]))
    assert not found.passed
    assert found.why.startswith("bitstamp: more than 5% of closes")
    assert len(found.told["sample"]) == 5


def test_miners_that_report_more_than_their_power_can_make_are_counted():
    good = pl.DataFrame(
        {"facility_id": "one", "group_id": "a", "slot": [1, 2, 3], "power_kw": 3.5, "reported_th_per_s": [200.0, 196.0, 190.0],
         "expected_th_per_s": 200.0}
    )  # fmt: skip
    assert watch.reported_as_expected(good).passed
    lying = good.with_columns(reported_th_per_s=pl.Series([200.0, 300.0, None]))
    found = watch.reported_as_expected(lying)
    assert (found.passed, found.told["sample"]["slot"].to_list()) == (False, [2, 3])


def test_a_lying_miner_is_found_in_telemetry(world):
    settings, _ = world
    at = [DAY + timedelta(minutes=n) for n in range(12)]
    # 2 claims 8 % more, as the most modest of liars; 3 says nothing, 4 sleeps, 5 is in its saving profile, 6 lies there
    said = {1: (3.5, 200.0), 2: (3.5, 216.0), 3: (3.5, None), 4: (0.05, 0.0), 5: (2.8, 172.0), 6: (2.8, 186.0)}
    minutes = pl.DataFrame(
        [("one", "a", 1, slot, minute, kw, kw, kw, th) for slot, (kw, th) in said.items() for minute in at],
        schema=["facility_id", "group_id", "generation", "slot", "minute_at", "power_kw_avg", "power_kw_min", "power_kw_max",
                "hashrate_th_per_s_avg"], orient="row", schema_overrides={"minute_at": pl.Datetime("us", "UTC")},
    )  # fmt: skip
    groups = pl.DataFrame(
        {"facility_id": "one", "group_id": "a", "generation": 1,
         "specifications": '{"hash_rate_th_per_s": 200, "efficiency_j_per_th": 17.5, '
                           '"eco": {"power_kw": 2.8, "hash_rate_th_per_s": 172}}'}
    )  # fmt: skip
    made = {"core.telemetry_1min": minutes, "raw.device_groups": groups}
    for name, frame in made.items():
        lake.write(settings, name, frame, str(uuid.uuid4()))
    try:
        found = judged(watch.judge_hashrate, settings, NOW)
        assert (found.passed, found.told["devices"], sorted(found.told["sample"]["slot"])) == (False, 4, [2, 6])
    finally:
        with lake.attach(settings) as connection:
            for name in made:
                connection.execute(f"drop table lake.{name}")


def test_a_meter_that_shows_less_than_the_devices_draw_or_far_more_is_named(world):
    """Five miners of 3 kW, of which one is silent for an hour: two sites draw as PUE 1.1 has it, one half, one twice of it."""
    settings, _ = world
    sites = {"fair": 1.1, "hot": 1.2, "half": 0.55, "twice": 2.2}
    minutes = [DAY + timedelta(minutes=n) for n in range(180)]
    told = [
        (minute, name, 1, 5, n := 5 if minute < DAY + HOUR else 4 if minute < DAY + 2 * HOUR else 5, 3.0 * n)
        for name in sites for minute in minutes
    ]  # fmt: skip
    columns = ["minute_at", "facility_id", "generation", "devices", "devices_with_power", "power_kw"]
    instant = {"minute_at": pl.Datetime("us", "UTC")}
    fives = [DAY + timedelta(minutes=5 * n) for n in range(36)]
    made = {
        "core.telemetry_group_1min": pl.DataFrame(told, schema=columns, orient="row", schema_overrides=instant),
        "raw.device_groups": pl.DataFrame({"facility_id": list(sites), "generation": 1, "group_id": "a", "devices": 5}),
        "raw.facilities": pl.DataFrame({"id": list(sites), "pue": 1.1}),
        "core.meter_5min": pl.DataFrame(
            [(at, name, ratio * 15.0 / 12 / 1000, at == DAY) for name, ratio in sites.items() for at in fives],
            schema=["start_at", "facility_id", "energy_mwh", "is_estimated"], orient="row",
            schema_overrides={"start_at": pl.Datetime("us", "UTC")},
        ),
    }  # fmt: skip
    for name, frame in made.items():
        lake.write(settings, name, frame, str(uuid.uuid4()))
    try:
        found = judged(watch.judge_meter, settings, NOW)
        assert found.told["sample"]["intervals"].to_list() == [23, 23], (
            "an hour is not known, one interval is estimated"
        )
        assert "half (0.55), twice (2.20)" in found.why
        assert (found.passed, found.told["facilities"], found.told["off"]) == (False, 4, 2)
        assert watch.metered_as_told(found.told["sample"].with_columns(metered_mwh=1.1 * pl.col("devices_mwh"))).passed
    finally:
        with lake.attach(settings) as connection:
            for name in made:
                connection.execute(f"drop table lake.{name}")
    assert judged(watch.judge_meter, settings, NOW).why == "no meter or no telemetry yet"


@pytest.mark.parametrize("table", daemon_models.JUDGED, ids=lambda table: table.name)
def test_each_daemon_table_s_rows_are_judged(table):
    good = {
        pl.String: "x", pl.Int64: 1, pl.Int32: 1, pl.Int16: 1, pl.Float64: 1.5, pl.Boolean: True,
        table.model.columns.get("timestamp"): DAY,
    }  # fmt: skip
    row = {name: good.get(kind, DAY) for name, kind in table.model.columns.items()}
    row |= {"stream": "power.rt_lmp"} if "stream" in row else {}
    row |= {"quality": "good"} if "quality" in row else {}
    row |= {"kind": "energy"} if "kind" in row else {}
    row |= {"expires_at": DAY + HOUR} if "expires_at" in row else {}
    row |= {"type": "model_training", "new_status": "running"} if "new_status" in row else {}
    row |= {"treatment": "billed"} if "treatment" in row else {}
    row |= {"state": "settled"} if "desired_state_id" in row else {}
    row |= {"available_h": 1.0, "in_use_h": 0.5, "known_at": DAY + HOUR} if "available_h" in row else {}
    frame = pl.DataFrame([row], schema=dict(table.model.columns))
    assert watch.judge_rows(table.model, frame).passed
    first = next(name for name in table.model.columns if name not in table.model.nullable)
    broken = watch.judge_rows(table.model, frame.with_columns(pl.lit(None, table.model.columns[first]).alias(first)))
    assert not broken.passed
    assert broken.told["sample"]["rejected_for"][0].startswith(first)
    others = [n for n, k in table.model.columns.items() if k == pl.Int32 and n not in table.model.unique]
    twice = pl.concat([frame, frame.with_columns(pl.col(pl.Float64) + 0.1, pl.col(others) + 1)])
    if table.model.unique and len(twice.unique()) == 2:
        assert not watch.judge_rows(table.model, twice).passed, "a key is there once"
