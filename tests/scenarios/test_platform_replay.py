"""The same loop on real ERCOT and bitcoin prices with a fast clock.

12 April 2024 at HB_HUBAVG: 499 $/MWh in the night (UTC), −1.73 at noon.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.domain.modes import DeviceState
from tests.support.platform import judge, running_platform

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SPEED = 240
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


@pytest.mark.parametrize(
    ("start", "end"),
    [
        pytest.param(datetime(2024, 4, 11, 23, 0, tzinfo=UTC), datetime(2024, 4, 12, 1, 20, tzinfo=UTC), id="spike"),
        pytest.param(
            datetime(2024, 4, 12, 15, 15, tzinfo=UTC), datetime(2024, 4, 12, 16, 45, tzinfo=UTC), id="negative"
        ),
    ],
)
def test_real_negative_prices_turn_miners_on_and_real_spikes_turn_them_off(tmp_path, start, end, request):
    environment = {"HCP_WORLD": f"replay:{DATA}", "HCP_CLOCK_SPEED": str(SPEED)}
    arguments = ("--devices", "300", "--from", start.isoformat())
    with running_platform(tmp_path / "state", *arguments, **environment) as platform:
        platform.wait_ready()
        clock = SystemClock(Anchor.load(platform.state_dir / "run" / "clock.json"))
        platform.wait(lambda: clock.now() >= end, 180, "the replay has come to the end of the window")
        rows = platform.query(COMMANDS)
        if request.node.callspec.id == "spike":
            assert any(state == DeviceState.CURTAILED and price > 250 for state, price, _ in rows), rows
        else:
            assert sum(n for state, price, n in rows if state in MINING and price < 0) > 0, rows
            assert not any(state == DeviceState.CURTAILED for state, _, _ in rows), rows
        ticks = platform.query(PRICES)
        assert ticks
        assert {value for _, value in ticks} <= recorded_prices(start, end), (
            "each price in the database is a recorded one"
        )
        assert platform.query("select count(*) from price_data where quality = 'absurd'") == [(0,)]
        assert judge(platform)["doubled"] == 0
