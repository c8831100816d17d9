"""A replay of what a platform recorded, as its Dagster asset: prices and journal from the lake, policies from Postgres."""

import uuid
import warnings
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.fleet.inventory import load_inventories
from hcp_pipelines.fleet.solve_sites import load_sites
from hcp_pipelines.optimizer.backtest.record import Run
from hcp_pipelines.optimizer.backtest.series import SeriesError
from hcp_pipelines.optimizer.inputs import FacilityInputs
from hcp_pipelines.optimizer.publish import publish
from hcp_pipelines.optimizer.solve import solve_facility
from hcp_pipelines.orchestration.backtesting import Asked, run_backtest
from hcp_pipelines.orchestration.resources import Platform, fixed
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from tests.support.collected import EMPTY, whole
from tests.support.fleet import MARKET
from tests.support.recorded import random_prices, write_folder
from tests.support.replayed import START, journal, switch, ticks

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dagster as dg

    from assets.backtests import raw_hcp__replays

LMPS = [20.0] * 60 + [900.0] * 12 + [20.0] * 72
INDICES = {"hashprice": 55.0, "gpu.H100": 2.4}


def write(settings, table, frame):
    lake.write(settings, table, whole(table, frame), batch_id=uuid.uuid4().hex, mode="replace")


@pytest.fixture
def recorded(settings):
    """Twelve hours of prices with a dear one; the first miners' group slept from ten minutes into it until ten after it."""
    with connect(settings, Role.ADMIN) as connection:
        apply(connection, demo_facilities(1, 60)[0], "test")
        [inventory] = load_inventories(connection)
        group = inventory.groups[0]
        told = [
            switch(f"{name}", minutes, range(group.first_slot, group.first_slot + group.devices), states)
            for name, minutes, states in (("off", 310, (3, 0)), ("on", 370, (0, 3)))
        ]
        [basis] = connection.execute(
            """insert into price_data (stream, series, "timestamp", price_type, value, unit, source, quality, received_at)
               values ('power.rt_lmp', 'HB_HOUSTON', %s, 'electricity', 20, 'x', 'test', 'good', %s) returning id""",
            (START, START),
        ).fetchone()
    with connect(settings, Role.CONTROL) as connection:
        [site] = load_sites(connection)
        publish(connection, solve_facility(FacilityInputs(site, basis, START, 20.0, INDICES, expires_after_s=1e6)))
    of = {"facility_id": pl.lit("hou-1"), "generation": pl.lit(inventory.generation)}
    rows = journal(*told).with_row_index("id").with_columns(**of)
    write(settings, "raw.switch_journal", rows)
    write(settings, "raw.price_ticks", ticks(LMPS, market=MARKET).with_columns(quality=pl.lit("good")))
    yield settings
    for table in ("raw.switch_journal", "raw.price_ticks"):
        write(settings, table, EMPTY[table])


def replay(settings, **config):
    config = {
        "facility": "hou-1",
        "start": START.isoformat(),
        "end": (START + timedelta(hours=12)).isoformat(),
    } | config
    return dg.materialize(
        [raw_hcp__replays],
        resources={"platform": fixed(Platform(state_dir=str(settings.state_dir)))},
        run_config={"ops": {"raw_hcp__replays": {"config": config}}},
        raise_on_error=False,
    )


def why(result):
    [failed] = [event for event in result.all_events if event.is_step_failure]
    return failed.step_failure_data.error.to_string()


def test_what_strategies_would_have_earned_stands_beside_what_was_earned(recorded):
    result = replay(recorded)
    assert result.success
    [made] = result.asset_materializations_for_node("raw_hcp__replays")
    with lake.attach(recorded, read_only=True) as connection:
        rows = connection.execute("from lake.raw.replays where run_id = ?", [result.run_id]).pl().to_dicts()
    net = {row["strategy"]: row["net_usd"] for row in rows}
    assert list(net) == ["realised", "always_on", "break_even", "hysteresis", "published", "oracle"]
    assert net["always_on"] < net["realised"] < net["published"] <= net["oracle"]
    assert {(row["kind"], row["subject"], row["known"], row["settlement_point"]) for row in rows} == {
        ("replay", "hou-1", "as-recorded", "HB_HOUSTON")
    }
    by_name = {row["strategy"]: row for row in rows}
    assert by_name["realised"]["curtailed_mwh"] > 0 == by_name["always_on"]["curtailed_mwh"]
    assert "ramps" in by_name["realised"]["notes"]
    assert "left out" not in by_name["realised"]["notes"], "all of the window was recorded, whatever lies before it"
    assert "devices told to switch for economics" in made.metadata["results"].value
    assert "plotly" in Path(made.metadata["page"].value).read_text()[:100_000]


def test_what_can_not_be_replayed_says_why(recorded):
    assert "facility: 'nowhere' is none; there are hou-1" in why(replay(recorded, facility="nowhere"))
    assert "start must be before end" in why(replay(recorded, end=START.isoformat()))
    assert "a window in which the platform ran" in why(replay(recorded, start="2025-03-01", end="2025-03-02"))


def test_a_back_test_of_a_facility_reads_its_document_from_the_platform(recorded, tmp_path):
    own = recorded.model_copy(update={"recorded_dir": write_folder(tmp_path, random_prices(96 * 20))})
    asked = Asked("asic-1mw", "hou-1", "2024-03-11", "2024-03-15", "HB_TEST", "at-start", "previous-day", (), ())
    with connect(own, Role.CONTROL) as connection:
        with pytest.raises(
            SeriesError, match="ercot_load_mw"
        ):  # miners and limits are read; hourly series are not in the folder
            run_backtest(connection, own, asked, Run("1", "hou-1", START))
        with pytest.raises(ConfigError, match="facility: 'nowhere' is none; there are hou-1"):
            run_backtest(connection, own, replace(asked, facility="nowhere"), Run("1", "nowhere", START))
