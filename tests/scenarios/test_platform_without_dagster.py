"""Dagster away for a simulated hour (DESIGN §6): constant prices move no device, and the policy in force meets a moving one.

The prices are the test's own, replayed: level for three hours, then a spike.
"""

import os
import signal
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.supervisor.guardian import session_members
from tests.support.platform import running_platform

pytestmark = [pytest.mark.platform, pytest.mark.timeout(400)]

START = datetime(2024, 3, 1, tzinfo=UTC)
SPIKE_AT, DAY = START + timedelta(hours=3), timedelta(days=1)
LEVEL, SPIKE = 15.0, 900.0
SPEED = 180
COMMANDS = "select count(*) from switch_journal where event = 'commanded'"
POLICIES = "select coalesce(max(id), 0) from policies"
SETTLED = "select coalesce(sum(devices), 0) from switch_journal where event = 'settled'"
AFTER = """select to_state, decision_price_usd_per_mwh, policy_id, reason from switch_journal
           where event = 'commanded' and simulated_at >= %s order by id"""


def write_prices(folder):
    starts = pl.datetime_range(START, START + DAY, "15m", time_zone="UTC", eager=True)
    frame = pl.DataFrame({"interval_start_utc": starts}).with_columns(
        settlement_point=pl.lit("HB_HOUSTON"),
        rt_price_usd_per_mwh=pl.when(pl.col("interval_start_utc") >= SPIKE_AT).then(SPIKE).otherwise(LEVEL),
    )
    folder.mkdir()
    frame.write_parquet(folder / "prices.parquet")


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


def test_dagster_away_for_a_simulated_hour_causes_no_switch_of_its_own(tmp_path):
    write_prices(tmp_path / "prices")
    arguments = ("--devices", "60", "--facilities", "1", "--from", START.isoformat())
    environment = {"HCP_WORLD": f"replay:{tmp_path / 'prices'}", "HCP_CLOCK_SPEED": str(SPEED)}
    with running_platform(tmp_path / "state", *arguments, **environment) as platform:
        platform.wait_ready()
        platform.wait(lambda: platform.query(SETTLED)[0][0] >= 60, 60, "everything is on, and settled")
        clock = SystemClock(Anchor.load(platform.state_dir / "run" / "clock.json"))
        with paused(platform, is_dagster):
            before, policy, since = platform.query(COMMANDS), platform.query(POLICIES)[0][0], clock.now()
            assert since < SPIKE_AT - timedelta(hours=1), "the machine is too slow for this schedule"
            platform.wait(lambda: clock.now() >= since + timedelta(hours=1), 60, "a simulated hour passes")
            assert platform.query(COMMANDS) == before, "constant prices move nothing"
            assert platform.query(POLICIES) == [(policy,)], "nobody published meanwhile"
            platform.wait(lambda: platform.query(COMMANDS) > before, 90, "the policy in force meets the spike")
            rows = platform.query(AFTER, SPIKE_AT)
            assert {r[0] for r in rows} >= {int(DeviceState.CURTAILED)}
            assert all(price > 200 and used <= policy and why == "economics" for _, price, used, why in rows)
        platform.wait(lambda: platform.query(POLICIES)[0][0] > policy, 60, "Dagster publishes again")
