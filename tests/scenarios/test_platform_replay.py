"""The same loop on real ERCOT and bitcoin prices with a fast clock.

6 April 2025 at HB_HUBAVG: −0.57 $/MWh in the late afternoon, and two hours later 118, above the strikes of the older miners.
The world's clock starts before the daemons do: at this speed they have 17 s to see the last of the 45 minutes below zero.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.domain.modes import DeviceState
from tests.support.platform import judge, running_platform

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SPEED = 160
START, END = datetime(2025, 4, 6, 22, 30, tzinfo=UTC), datetime(2025, 4, 7, 2, 0, tzinfo=UTC)
MINING = (DeviceState.MINING_ECO, DeviceState.MINING_FULL)

pytestmark = [
    pytest.mark.platform,
    pytest.mark.shared_data,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not DATA.is_dir(), reason="the real data beside the project is absent: real prices can't be replayed"
    ),
]

COMMANDS = """
    select j.to_state, j.decision_price_usd_per_mwh, j.devices from switch_journal j
    join device_groups g using (facility_id, generation, group_id)
    where j.facility_id = 'hub-1' and g.type = 'ASIC' and j.event = 'commanded' order by j.id"""
PRICES = """select "timestamp", value from price_data where stream = 'power.rt_lmp' and series = 'HB_HUBAVG'"""


def recorded_prices(start: datetime, end: datetime) -> set[float]:
    frame = pl.scan_parquet(DATA / "ercot" / "ercot_rt_15min_hubavg.parquet")
    window = pl.col("interval_start_utc").is_between(start - timedelta(hours=3), end)
    return set(frame.filter(window).collect()["rt_price_usd_per_mwh"].to_list())


def curtailed_at(platform) -> list[float]:
    """The prices at which miners were told to sleep."""
    return [price for state, price, _ in platform.query(COMMANDS) if state == DeviceState.CURTAILED]


def test_real_negative_prices_turn_miners_on_and_a_real_spike_turns_them_off(tmp_path):
    environment = {"HCP_WORLD": f"replay:{DATA}", "HCP_CLOCK_SPEED": str(SPEED)}
    arguments = ("--devices", "300", "--from", START.isoformat())
    with running_platform(tmp_path / "state", *arguments, **environment) as platform:
        platform.wait_ready()
        clock = SystemClock(Anchor.load(platform.state_dir / "run" / "clock.json"))
        platform.wait(lambda: curtailed_at(platform) or clock.now() >= END, 180, "the spike, or the end of the window")
        rows = platform.query(COMMANDS)
        assert sum(n for state, price, n in rows if state in MINING and price < 0) > 0, rows
        curtailed = curtailed_at(platform)
        assert curtailed, rows
        assert min(curtailed) > 100, rows
        ticks = platform.query(PRICES)
        assert ticks
        assert {value for _, value in ticks} <= recorded_prices(START, END), (
            "each price in the database is a recorded one"
        )
        assert platform.query("select count(*) from price_data where quality = 'absurd'") == [(0,)]
        assert judge(platform)["doubled"] == 0
