"""The same loop on recorded prices with a fast clock: real ERCOT and bitcoin prices at hub-1, the test's own at hou-1.

6 April 2025 at HB_HUBAVG: −0.57 $/MWh in the late afternoon, and two hours later 118, above the strikes of the older miners. At
hou-1 prices are level until 0:30, when Dagster has been away for a simulated hour and more (DESIGN §6). The world's clock starts
before the daemons do: they have 30 s to see the last of the 45 minutes below zero, and 40 s until Dagster has to go.
"""

import os
import signal
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.supervisor.guardian import session_members
from tests.support.platform import judge, running_platform

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
RECORDED = DATA / "ercot" / "ercot_rt_15min_hubavg.parquet"
SPEED = 90
START, END = datetime(2025, 4, 6, 22, 30, tzinfo=UTC), datetime(2025, 4, 7, 2, tzinfo=UTC)
SPIKE_AT, HOUR = START + timedelta(hours=2), timedelta(hours=1)
LEVEL, SPIKE = 15.0, 900.0
MINING = (DeviceState.MINING_ECO, DeviceState.MINING_FULL)

pytestmark = [pytest.mark.platform, pytest.mark.timeout(600)]

AT_HOU = "select count(*) from switch_journal where facility_id = 'hou-1' and event = 'commanded'"
SETTLED = "select coalesce(sum(devices), 0) from switch_journal where facility_id = 'hou-1' and event = 'settled'"
POLICIES = "select coalesce(max(id), 0) from policies"
AFTER = """
    select to_state, decision_price_usd_per_mwh, policy_id, reason from switch_journal
    where facility_id = 'hou-1' and event = 'commanded' and simulated_at >= %s order by id"""
AT_HUB = """
    select j.to_state, j.decision_price_usd_per_mwh, j.devices from switch_journal j
    join device_groups g using (facility_id, generation, group_id)
    where j.facility_id = 'hub-1' and g.type = 'ASIC' and j.event = 'commanded' order by j.id"""
PRICES = """select "timestamp", value from price_data where stream = 'power.rt_lmp' and series = 'HB_HUBAVG'"""


def write_prices(folder):
    """The series of each point; hub-1's are level too where the recorded ones are absent."""
    starts = pl.datetime_range(START, END + timedelta(days=1), "15m", time_zone="UTC", eager=True)
    spike = pl.when(pl.col("interval_start_utc") >= SPIKE_AT).then(SPIKE).otherwise(LEVEL)
    level = pl.lit(LEVEL)
    own = {"HB_HOUSTON": spike, "HB_NORTH": level} | ({} if DATA.is_dir() else {"HB_HUBAVG": level})
    folder.mkdir()
    for point, prices in own.items():
        series = pl.DataFrame({"interval_start_utc": starts}).with_columns(
            settlement_point=pl.lit(point), rt_price_usd_per_mwh=prices
        )
        series.write_parquet(folder / f"{point}.parquet")
    for path in [RECORDED, *(DATA / "btc").glob("*.parquet")] if DATA.is_dir() else []:
        (folder / path.name).symlink_to(path)


def recorded_prices(start: datetime, end: datetime) -> set[float]:
    frame = pl.scan_parquet(RECORDED)
    window = pl.col("interval_start_utc").is_between(start - timedelta(hours=3), end)
    return set(frame.filter(window).collect()["rt_price_usd_per_mwh"].to_list())


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    folder = tmp_path_factory.mktemp("replay")
    write_prices(folder / "prices")
    environment = {"HCP_WORLD": f"replay:{folder / 'prices'}", "HCP_CLOCK_SPEED": str(SPEED)}
    with running_platform(
        folder / "state", "--devices", "300", "--facilities", "3", "--from", START.isoformat(), **environment
    ) as running:
        running.wait_ready()
        yield running


@pytest.fixture
def clock(platform):
    return SystemClock(Anchor.load(platform.state_dir / "run" / "clock.json"))


@contextmanager
def paused(platform, is_chosen):
    """SIGSTOP: the processes are there and do nothing, so that nobody starts others in their place; their children too."""
    chosen = {p["pid"] for p in platform.status()["processes"] if is_chosen(p["name"])}
    assert chosen
    pids = session_members(chosen)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def is_dagster(name):
    return name.startswith("dagster-") or name in ("run-server", "tick-launcher")


def test_dagster_away_for_a_simulated_hour_causes_no_switch_of_its_own(platform, clock):
    platform.wait(lambda: platform.query(SETTLED)[0][0] >= 100, 180, "everything is on, and settled")
    with paused(platform, is_dagster):
        before, policy, since = platform.query(AT_HOU), platform.query(POLICIES)[0][0], clock.now()
        assert since < SPIKE_AT - HOUR, "the machine is too slow for this schedule"
        platform.wait(lambda: clock.now() >= since + HOUR, 180, "a simulated hour passes")
        assert platform.query(AT_HOU) == before, "constant prices move nothing"
        assert platform.query(POLICIES) == [(policy,)], "nobody published meanwhile"
        platform.wait(lambda: platform.query(AT_HOU) > before, 150, "the policy in force meets the spike")
        rows = platform.query(AFTER, SPIKE_AT)
        assert {r[0] for r in rows} >= {int(DeviceState.CURTAILED)}
        assert all(price > 200 and used <= policy and why == "economics" for _, price, used, why in rows)
    platform.wait(lambda: platform.query(POLICIES)[0][0] > policy, 180, "Dagster publishes again")


def curtailed_at(platform) -> list[float]:
    """The prices at which miners were told to sleep."""
    return [price for state, price, _ in platform.query(AT_HUB) if state == DeviceState.CURTAILED]


@pytest.mark.shared_data
@pytest.mark.skipif(
    not DATA.is_dir(), reason="the real data beside the project is absent: real prices can't be replayed"
)
def test_real_negative_prices_turn_miners_on_and_a_real_spike_turns_them_off(platform, clock):
    platform.wait(lambda: curtailed_at(platform) or clock.now() >= END, 240, "the spike, or the end of the window")
    rows = platform.query(AT_HUB)
    assert sum(n for state, price, n in rows if state in MINING and price < 0) > 0, rows
    curtailed = curtailed_at(platform)
    assert curtailed, rows
    assert min(curtailed) > 100, rows
    ticks = platform.query(PRICES)
    assert ticks
    assert {value for _, value in ticks} <= recorded_prices(START, END), "each price in the database is a recorded one"
    assert platform.query("select count(*) from price_data where quality = 'absurd'") == [(0,)]
    assert judge(platform)["doubled"] == 0
