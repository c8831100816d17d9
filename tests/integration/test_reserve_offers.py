"""Reserve offers of a platform: from forecasts in the lake, devices and obligations in Postgres, to rows and the command."""

import json
import uuid
import warnings
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from click.testing import CliRunner

from hcp_pipelines.cli.main import cli
from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.errors import HcpError
from hcp_pipelines.domain.ticks import Stream, Tick
from hcp_pipelines.forecasting.power_forecast import LEVEL_COLUMNS, empty_table
from hcp_pipelines.orchestration.history.tables import DA_CAPACITY
from hcp_pipelines.orchestration.offering import (
    CAPACITY,
    PRODUCTS,
    QUANTILES,
    hours_ahead,
    propose,
    read_capacity,
)
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from tests.integration.test_dagster_tick_job import AT, dg, fleet, power, store
from tests.support.served import served_world

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from assets.offers import core_power__reserve_offers
    from sensors.analytics import reserve_offers_sensor

__all__ = ["fleet"]
HOUR = timedelta(hours=1)
NOW, FIRST = AT + HOUR / 2, AT + HOUR  # of the fleet's clock; the first hour that can be sold
POINTS = ("HB_HOUSTON", "HB_NORTH", "HB_WEST")
SELL_SQL = """
    insert into grid_obligations (facility_id, programme, status, mw, during, baseline_rule, notice_s, duration_s, recovery_s)
    values (%s, 'ECRS', 'awarded', %s, tstzrange(%s, %s), 'meter', 600, 3600, 1800)"""


def quantiles(issued_at, hours=3, points=POINTS, spread=5.0):
    """Of the hours from it on: $20, or spread around it."""
    return pl.concat([quantiles_of(point, issued_at, hours, spread) for point in points])


def quantiles_of(point, issued_at, hours, spread):
    steps = range(-3, 4)
    levels = {name: [20.0 + n * spread] * hours for name, n in zip(LEVEL_COLUMNS, steps, strict=True)}
    rows = pl.DataFrame(
        {"settlement_point": [point] * hours, "issued_at": [issued_at] * hours, "method": ["baseline"] * hours,
         "start_at": [issued_at + n * HOUR for n in range(hours)], "trained_until": [issued_at] * hours} | levels
    )  # fmt: skip
    whole = pl.concat(
        [empty_table(), rows.cast(dict.fromkeys(("issued_at", "start_at", "trained_until"), INSTANT))], how="diagonal"
    )
    return whole.select(empty_table().columns)


def capacity(*rows):
    return pl.DataFrame(list(rows), schema=CAPACITY, orient="row")


def last_week(price=8.0):
    """ECRS of the seven days before, the others half of it."""
    return capacity(
        *((FIRST + h * HOUR - d * 24 * HOUR, product, price / (1 + (product != "ECRS")))
          for d in range(1, 8) for h in range(3) for product in PRODUCTS)
    )  # fmt: skip


def keep(settings, table, rows):
    """All that the lake has of a table: it is the same one for all tests here."""
    lake.write(settings, table, rows, batch_id=str(uuid.uuid4()), mode="replace")


@pytest.fixture
def known(fleet):
    """Quantiles of the last hour, a week of capacity prices, a tick."""
    store(fleet, *power(0, 20.0))
    keep(fleet, QUANTILES, quantiles(AT, 4))
    keep(fleet, DA_CAPACITY.name, last_week())
    return fleet


def proposed(settings, run_id="a"):
    with connect(settings, Role.CONTROL) as connection:
        return propose(connection, settings, NOW, run_id)


def test_each_facility_s_miners_are_offered_hour_by_hour_and_the_command_shows_it(known):
    with dg.DagsterInstance.ephemeral() as instance:
        resources = {"platform": Platform(state_dir=str(known.state_dir))}
        done = dg.materialize([core_power__reserve_offers], instance=instance, resources=resources)
    (told,) = (event.materialization.metadata for event in done.get_asset_materialization_events())
    assert "the market told no capacity prices" in told["told"].value  # there is no world beside this platform
    rows = told["dagster/row_count"].value
    assert rows > 0
    arguments = ["policy", "offers", "hou-1", "--json", "--state-dir", str(known.state_dir)]
    shown = json.loads(CliRunner().invoke(cli, arguments, catch_exceptions=False).stdout)
    assert {offer["product"] for offer in shown["offers"]} == {"ECRS"}
    assert {offer["capacity_from"] for offer in shown["offers"]} == {"like_last_week"}
    assert len(shown["offers"]) == 3
    for offer in shown["offers"]:
        assert offer["capacity_usd_per_mw_h"] == pytest.approx(8.0)
        assert offer["least_usd_per_mw_h"] < 8.0
        assert offer["net_usd"] == pytest.approx(offer["revenue_usd"] - offer["cost_usd"])
        assert offer["reason"].startswith("ECRS pays 8.00 $/MW")
    table = CliRunner().invoke(cli, [*arguments[:3], *arguments[4:]], catch_exceptions=False).stdout
    assert "ECRS" in table
    assert "hcp grid award hou-1" in table
    with pytest.raises(HcpError, match="no facility 'nowhere'; `hcp facility list`"):
        CliRunner().invoke(cli, [*arguments[:2], "nowhere", *arguments[3:]], catch_exceptions=False)


def test_what_is_sold_already_is_left_out_of_its_hours_and_so_is_what_was_dear_day_ahead(known):
    before = proposed(known).table.filter(pl.col("facility_id") == "hou-1").sort("start_at")
    assert before["start_at"].to_list() == [FIRST, FIRST + HOUR, FIRST + 2 * HOUR]
    with connect(known, Role.ADMIN) as connection:
        connection.execute(SELL_SQL, ("hou-1", before["mw"][1], FIRST + HOUR + HOUR / 4, FIRST + HOUR + HOUR / 2))
    after = proposed(known).table.filter(pl.col("facility_id") == "hou-1").sort("start_at")
    assert after["start_at"].to_list() == [FIRST, FIRST + 2 * HOUR], "less than a lot is left of the hour between"
    assert after["mw"].to_list() == [before["mw"][0], before["mw"][2]]
    store(known, *(Tick(Stream.POWER_DA_SPP, p, FIRST + 2 * HOUR, 2000.0, "USD/MWh", "ERCOT") for p in POINTS))
    assert set(proposed(known).table["start_at"]) == {FIRST, FIRST + HOUR}, "eight dollars don't pay for such an hour"


def test_without_forecasts_or_worth_the_reason_is_told_and_costs_the_others_nothing(fleet):
    store(fleet, *power(0, 20.0))
    keep(fleet, QUANTILES, empty_table())
    keep(fleet, DA_CAPACITY.name, capacity())
    found = proposed(fleet)
    assert found.table.is_empty()
    assert "forecasts_job" in found.without["hou-1"]
    keep(fleet, QUANTILES, quantiles(AT - 7 * HOUR, 12))
    assert "no quantiles" in proposed(fleet).without["hou-1"]
    keep(fleet, QUANTILES, quantiles(AT, 4))
    assert "no capacity price is known" in proposed(fleet).without["hou-1"]
    keep(fleet, DA_CAPACITY.name, last_week(0.0))
    assert "no reserve pays more" in proposed(fleet).without["hou-1"]
    keep(fleet, DA_CAPACITY.name, last_week(8.0))
    with connect(fleet, Role.ADMIN) as connection:
        connection.execute(SELL_SQL, ("hou-1", 1e4, FIRST, FIRST + HOUR))
    others = proposed(fleet)
    assert "sold as reserve" in others.without["hou-1"]
    assert "hou-1" not in set(others.table["facility_id"])
    assert len(others.table)


def test_published_capacity_prices_go_before_last_week_s_and_a_gap_ends_the_hours():
    prices = quantiles(FIRST, 4, POINTS[:1]).with_row_index("n").filter(pl.col("n") != 2)
    published = capacity((FIRST, "ECRS", 30.0))
    known = pl.concat([last_week(8.0), published])
    ahead = hours_ahead(prices, known, {FIRST: 60.0}, {FIRST + HOUR: 12.0}, [])
    assert ahead.starts == (FIRST, FIRST + HOUR)
    assert ahead.capacity_usd_per_mw_h["ECRS"].tolist() == [30.0, 8.0]
    assert ahead.capacity_from["ECRS"] == ("published", "like_last_week")
    assert ahead.capacity_from["RRS"] == ("like_last_week", "like_last_week")
    assert ahead.charge_usd_per_mwh.tolist() == [0.0, 12.0]
    assert ahead.prices_usd_per_mwh.shape == (len(LEVEL_COLUMNS), 2)
    tails = ahead.prices_usd_per_mwh[-1]
    assert tails[0] > tails[1] + 10, "both hours are foreseen alike, but the first was dear the day before"


def test_capacity_prices_are_the_market_s_as_far_as_it_has_published_them(postgres):
    """Two in the afternoon in Texas: tomorrow's are out, the day after's are not."""
    now = datetime(2025, 1, 13, 20, tzinfo=UTC)
    with served_world(postgres, now):
        found, why = read_capacity(postgres, now + HOUR)
    assert why == ""
    ahead = found.filter(pl.col("start_at") > now)
    assert set(PRODUCTS) <= set(ahead["product"])
    assert ahead["start_at"].max() == datetime(2025, 1, 15, 5, tzinfo=UTC)
    assert ahead.filter(pl.col("product") == "ECRS")["start_at"].n_unique() == 33


def asked(settings, instance, cursor=None):
    context = dg.build_sensor_context(instance=instance, cursor=cursor)
    return reserve_offers_sensor(context, platform=Platform(state_dir=str(settings.state_dir)))


def test_offers_are_asked_for_once_an_hour_of_the_world_where_the_setting_is_on(fleet, monkeypatch):
    with dg.DagsterInstance.ephemeral() as instance:
        assert "HCP_RESERVE_OFFERS is off" in asked(fleet, instance).skip_reason.skip_message
        monkeypatch.setenv("HCP_RESERVE_OFFERS", "on")
        first = asked(fleet, instance)
        assert [request.run_key for request in first.run_requests] == [f"offers-{NOW:%Y-%m-%dT%H}"]
        assert not asked(fleet, instance, first.cursor).run_requests
        assert asked(fleet, instance, f"{NOW - HOUR:%Y-%m-%dT%H}").run_requests
        status = dg.DagsterRunStatus.STARTED
        instance.add_run(dg.DagsterRun(job_name="reserve_offers_job", status=status))
        assert "under way" in asked(fleet, instance).skip_reason.skip_message
