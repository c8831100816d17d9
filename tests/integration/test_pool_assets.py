"""Credits of the simulated pool reach the lake, and who claims more than that is found and alerted; its own database and lake."""

import asyncio
import contextlib
import json
import threading
import uuid
import warnings
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from pydantic import ValidationError
from pyroaring import BitMap

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.domain.errors import ConfigError, NotRunningError
from hcp_pipelines.orchestration.history import tables
from hcp_pipelines.orchestration.history.plan import JOINED, assets_by_source, gaps
from hcp_pipelines.orchestration.history.pool import claimed_as_credited, configured, liars_by_facility, pool_base_url
from hcp_pipelines.orchestration.history.pool_pay import NETWORK, paid_as_credited
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.configuration import _world_pool
from simulators.faults import LYING
from simulators.pool.server import _generated
from simulators.settings import ProtocolsConfig
from tests.support.pool import START_S, PoolWorld

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dagster as dg

    from assets import checks
    from assets.pool import claims_match_credits, pay_matches_credits, raw_pool__credits, raw_pool__statements
    from hcp_pipelines.orchestration.io_managers import HistoryIOManager

DAY = datetime.fromtimestamp(START_S, UTC)
NOW = DAY + timedelta(days=1, minutes=10)
MINERS, ASLEEP, LIARS, FULL = 12, 11, (3, 7), 3
HOURS_TABLE = "core.telemetry_1h"


@contextlib.contextmanager
def loop_thread():
    """An event loop of its own for servers, while the test's thread asks them."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def a_day(world):
    """A day of the site: eleven mine, two of them lie; what each told, hour by hour."""
    site = world.fleet.sites["one"]
    world.transitions.set_state(site, bytes(16), 0, FULL, BitMap(range(ASLEEP)))
    site.impose(LYING, BitMap(LIARS), START_S)
    told = []
    for hour in range(24):
        site.advance(START_S + 3600 * hour + 1800)
        said = site.told_hashrate_th_per_s(site.at_s)
        told += [("one", slot, DAY + timedelta(hours=hour), float(said[slot]), 60) for slot in range(MINERS)]
        site.advance(START_S + 3600 * (hour + 1))
    world.clock.at_s = NOW.timestamp()
    site.advance(world.clock.at_s)
    return told


def network_of(world):
    """The day's blocks as `core.bitcoin__network` has them."""
    told = _generated(world.config.seed)(NOW.timestamp(), 400)
    blocks = [one for one in told if START_S <= one.timestamp_s < START_S + 86_400]
    return pl.DataFrame(
        {
            "start_at": [DAY], "blocks": [len(blocks)], "difficulty": [sum(one.difficulty for one in blocks) / len(blocks)],
            "fees_btc_per_block": [sum(one.fees_sat for one in blocks) / len(blocks) / 1e8],
            "issuance_btc": [sum(one.subsidy_sat for one in blocks) / 1e8], "is_over": [True],
        },
        schema_overrides={"start_at": pl.Datetime("us", "UTC")},
    )  # fmt: skip


@pytest.fixture(scope="module")
def platform(postgres, tmp_path_factory):
    """A platform that reads the pool of a world in which a day has passed."""
    folder = tmp_path_factory.mktemp("pool")
    (folder / "token").write_text("of the account")
    run = postgres.at("run")
    run.mkdir(parents=True, exist_ok=True)
    with loop_thread() as call, pytest.MonkeyPatch.context() as patch:

        async def begin():
            world = PoolWorld(folder, devices=MINERS, token_file=folder / "token")
            return await world.__aenter__()

        world = call(begin())
        told = pl.DataFrame(
            call(a_day(world)),
            schema=["facility_id", "slot", "hour_at", "hashrate_th_per_s_avg", "hashrate_th_per_s_count"],
            orient="row",
            schema_overrides={"hour_at": pl.Datetime("us", "UTC"), "slot": pl.Int32},
        )
        lake.write(postgres, HOURS_TABLE, told, str(uuid.uuid4()))
        lake.write(postgres, NETWORK, network_of(world), str(uuid.uuid4()))
        (run / "world.json").write_text(json.dumps({"urls": world.pool.urls}))
        (run / "clock.json").write_text(Anchor(SystemClock().real_now(), NOW, 1e-6).dump())
        patch.setenv("HCP_POOL_URL", "world")
        patch.setenv("HCP_POOL_TOKEN_FILE", str(folder / "token"))
        yield postgres
        call(world.__aexit__())


@pytest.fixture(scope="module")
def found(platform):
    state_dir = str(platform.state_dir)
    resources = {"platform": Platform(state_dir=state_dir), "history": HistoryIOManager(state_dir=state_dir)}
    own = [claims_match_credits, pay_matches_credits, *map(checks.published_rows_are_good, tables.OPTIONAL)]
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(
            [raw_pool__credits, raw_pool__statements, *own],
            resources=resources,
            instance=instance,
            partition_key=f"{DAY:%Y-%m-%d}",
        )


def test_a_day_of_credits_reaches_the_lake(platform, found):
    with lake.attach(platform, read_only=True) as connection:
        rows = connection.execute(f"from lake.{tables.POOL_CREDITS.name} order by slot").pl()
    assert rows["worker"].to_list() == [f"hcp.one.{slot}" for slot in range(MINERS)]
    assert rows["start_at"].unique().to_list() == [DAY]
    assert rows["hashrate_th_per_s"][:ASLEEP].is_between(190, 210).all()
    assert rows.row(ASLEEP, named=True)["valid_shares"] == 0
    told = found.asset_materializations_for_node("raw_pool__credits")[0].metadata
    assert told["pool_fee_fraction"].value == "0.02"
    assert told["luck_of_250_blocks"].value == pytest.approx(1.0, abs=0.4)


def test_what_the_pool_says_of_the_day_is_a_row_and_the_pay_what_the_credits_are_worth(platform, found):
    with lake.attach(platform, read_only=True) as connection:
        [row] = connection.execute(f"from lake.{tables.POOL_STATEMENTS.name}").pl().to_dicts()
    assert (row["start_at"], row["fee_fraction"], row["source"]) == (DAY, 0.02, "pool")
    assert abs(row["told_at"] - NOW) < timedelta(minutes=10)
    assert 0 < row["earned_btc"] < 0.01
    assert row["luck_of_250_blocks"] == pytest.approx(1.0, abs=0.4)
    paid = next(each for each in found.get_asset_check_evaluations() if each.check_name == "pay_matches_credits")
    assert paid.passed
    assert paid.metadata["paid_fraction"].value == pytest.approx(1.0, abs=0.02)
    assert paid.metadata["earned_btc"].value == row["earned_btc"]


def test_a_pool_that_pays_less_than_it_credited_is_told_and_luck_or_more_is_not():
    day = {"day_at": [DAY], "fee_fraction": [0.02], "expected_btc": [1e-3]}
    assert paid_as_credited(pl.DataFrame(day | {"earned_btc": [0.96e-3]})).passed
    assert paid_as_credited(pl.DataFrame(day | {"earned_btc": [2e-3]})).passed
    short = paid_as_credited(pl.DataFrame(day | {"earned_btc": [0.9e-3]}))
    assert not short.passed
    assert short.why == "2025-01-01: 0.00090000 BTC paid, 0.00100000 expected of what was credited"
    assert paid_as_credited(pl.DataFrame(day | {"earned_btc": [0.0], "expected_btc": [0.0]})).passed
    assert paid_as_credited(pl.DataFrame(day | {"earned_btc": [0.0]}).clear()).passed


def test_liars_are_named_by_the_check_and_the_alert(platform, found):
    judged = {each.check_name: each for each in found.get_asset_check_evaluations()}
    assert all(each.passed for each in found.get_asset_check_evaluations() if each.check_name == "rows_are_good")
    claims = judged["claims_match_credits"]
    assert not claims.passed
    assert claims.description == f"2 of {MINERS} miners report more than the pool credits them"
    with connect(platform, Role.CONTROL) as connection:
        alerts = connection.execute(
            "select subject, detail from audit_log where action = 'alert.miners_overclaim'"
        ).fetchall()
    assert [(subject, detail["day"], detail["miners"], detail["slots"]) for subject, detail in alerts] == [
        ("one", "2025-01-01", 2, "3, 7")
    ]
    assert alerts[0][1]["reported_th_per_s"] > 1.08 * alerts[0][1]["credited_th_per_s"]


def devices(**columns):
    rows = max(len(values) for values in columns.values() if isinstance(values, list))
    made = {
        "facility_id": ["a"] * rows,
        "slot": list(range(rows)),
        "day_at": [DAY] * rows,
        "hours": [24] * rows,
    } | columns
    return pl.DataFrame(made)


def test_luck_is_no_lie_and_silence_neither():
    honest = devices(
        credited_th_per_s=[200.0, 200.0, 200.0, 0.0],
        valid_shares=[30_000] * 4,
        reported_th_per_s=[201.0, 209.0, 120.0, 0.5],
    )
    assert claimed_as_credited(honest).passed
    few = devices(credited_th_per_s=[10.0], valid_shares=[100], reported_th_per_s=[14.0])
    assert claimed_as_credited(few).passed, "of a hundred shares four in ten is luck"
    untold = devices(
        credited_th_per_s=[200.0], valid_shares=pl.Series([None], dtype=pl.Int64), reported_th_per_s=[215.0]
    )
    assert claimed_as_credited(untold).passed, "a pool that tells no counts is given four percent more"
    nothing = devices(credited_th_per_s=[0.0, 200.0], valid_shares=[0, 30_000], reported_th_per_s=[200.0, 216.0])
    assert claimed_as_credited(nothing).told["liars"]["slot"].to_list() == [0, 1]
    assert claimed_as_credited(nothing.clear()).passed


def test_an_alert_names_ten_miners_of_each_facility():
    many = devices(
        credited_th_per_s=[100.0] * 13, valid_shares=[30_000] * 13, reported_th_per_s=[120.0] * 13
    ).with_columns(facility_id=pl.Series(["a"] * 12 + ["b"]))
    alerts = dict(liars_by_facility(many))
    assert alerts["a"]["slots"] == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …"
    assert (alerts["a"]["miners"], alerts["b"]["miners"], alerts["a"]["reported_th_per_s"]) == (12, 1, 1440.0)


def test_without_a_pool_nobody_is_asked(tmp_path, monkeypatch):
    for name in ("HCP_POOL_URL", "HCP_POOL_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    none = Settings(state_dir=tmp_path)
    assert configured(none) == ()
    with pytest.raises(ConfigError, match="HCP_POOL_URL"):
        pool_base_url(none)
    with pytest.raises(NotRunningError, match="HCP_POOL_URL=world"):
        pool_base_url(Settings(state_dir=tmp_path, pool_url="world"))
    real = Settings(state_dir=tmp_path, pool_url="https://pool.example.com")
    assert (pool_base_url(real), configured(real)) == ("https://pool.example.com", tables.OPTIONAL)
    for wrong in (
        "http://pool.example.com",
        "https://name:secret@pool.example.com",
        "https://pool.example.com/path",
        "pool",
    ):
        with pytest.raises(ValidationError, match="pool_url"):
            Settings(state_dir=tmp_path, pool_url=wrong)  # a token is never sent in clear
    assert Settings(state_dir=tmp_path, pool_url="http://127.0.0.1:3380").pool_url
    assert (_world_pool(none), _world_pool(real)) == ({}, {})
    own = Settings(state_dir=tmp_path, pool_url="world", pool_token_file=tmp_path / "token")
    assert ProtocolsConfig.model_validate(_world_pool(own)).pool.token_file == tmp_path / "token"


def test_missing_days_of_the_pool_are_asked_for_and_hold_nobody_up():
    since, now = DAY, DAY + timedelta(days=2, hours=1)
    there = {name: ["2025-01-01", "2025-01-02"] for names in assets_by_source().values() for name in names}
    assert gaps(there, since, now, 14) == []
    (asked,) = gaps(there, since, now, 14, tables.OPTIONAL)
    both = ("raw_pool__credits", "raw_pool__statements")
    assert (asked.source, asked.assets, asked.days) == ("pool", both, ("2025-01-01", "2025-01-02"))
    there[assets_by_source()[JOINED][0]] = []
    assert [one.source for one in gaps(there, since, now, 14, tables.OPTIONAL)] == [JOINED, "pool"]
