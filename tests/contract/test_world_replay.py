"""Replayed reality: files found by their columns, every recorded price served as it is, gaps filled and flagged."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from simulators.settings import WorldConfigError
from simulators.system import RESERVES, ZONES
from tests.contract.test_world_http import LMP, SPP, Client, rows, world

BEGIN = datetime(2024, 5, 1, tzinfo=UTC)
ODD = [-251.0, 5168.62, 0.0, -0.01, 9000.0]


@pytest.fixture
def recording(tmp_path):
    folder = tmp_path / "any" / "depth"
    folder.mkdir(parents=True)
    quarters = [BEGIN + timedelta(minutes=15 * n) for n in range(96 * 2)]
    values = [20.0 + n % 7 for n in range(len(quarters))]
    values[: len(ODD)] = ODD
    rt = pl.DataFrame({"interval_start_utc": quarters, "rt_price_usd_per_mwh": values})
    rt = rt.with_columns(settlement_point=pl.lit("HB_HOUSTON")).with_row_index().filter(pl.col("index") != 50)
    rt.drop("index").write_parquet(folder / "x1.parquet")
    hours = [BEGIN + timedelta(hours=n) for n in range(-24, 48)]
    candles = {name: [60_000.5 + n for n in range(72)] for name in ("open_usdt", "low_usdt")}
    candles |= {name: [60_100.25 + n for n in range(72)] for name in ("close_usdt", "high_usdt")}
    spot = pl.DataFrame({"interval_start_utc": hours, **candles, "volume_btc": [5.0] * 72})
    spot.write_parquet(folder / "z.parquet")
    perpetual = spot.with_columns(pl.col("^.*_usdt$").round(0))
    perpetual.write_parquet(folder / "a.parquet")
    days = [BEGIN + timedelta(days=n) for n in range(-2, 2)]
    network = {"block_count": [144.0, 150.0, 140.0, 141.0], "total_fees_btc": [20.0] * 4, "difficulty": [88e12] * 4}
    pl.DataFrame({"date_utc": days, **network}).write_parquet(folder / "n.parquet")
    pl.DataFrame({"something": [1]}).write_parquet(folder / "else.parquet")
    return tmp_path


def replayed(recording, **changes):
    return Client(BEGIN.timestamp() + 36 * 3600, replay_dir=recording, settlement_points=["HB_HOUSTON"], **changes)


async def test_every_recorded_price_is_served_as_it_is(recording):
    client = replayed(recording)
    spp = await rows(client, SPP, deliveryDateFrom="2024-04-30", deliveryDateTo="2024-05-01", deliveryHourFrom=1)
    served = [
        row["settlementPointPrice"] for row in spp if (row["deliveryDate"], row["deliveryHour"]) >= ("2024-04-30", 20)
    ]
    assert served[: len(ODD)] == ODD
    lmps = await rows(client, LMP, SCEDTimestampFrom="2024-04-30T19:00:00", SCEDTimestampTo="2024-04-30T19:14:59")
    assert [row["LMP"] for row in lmps] == [ODD[0]] * 3


async def test_a_gap_is_filled_and_flagged(recording):
    client = replayed(recording)
    gap = (BEGIN + timedelta(minutes=15 * 50)).timestamp()
    filled = client.world.lmp("HB_HOUSTON", np.array([gap - 900, gap, gap + 300, gap + 900], dtype=np.int64))
    assert filled.is_recorded.tolist() == [True, False, False, True]
    assert np.isfinite(filled.values).all()
    reply = await client.http.get(
        LMP, params={"SCEDTimestampFrom": "2024-05-01T07:30:00", "SCEDTimestampTo": "2024-05-01T07:44:59"}
    )
    assert (reply.headers["X-World-Source"], reply.headers["X-World-Generated-Rows"]) == ("generated", "3")
    reply = await client.http.get(
        LMP, params={"SCEDTimestampFrom": "2024-05-01T07:45:00", "SCEDTimestampTo": "2024-05-01T07:59:59"}
    )
    assert reply.headers["X-World-Source"] == "recorded"


async def test_spot_is_taken_before_the_perpetual_and_bridged_within_its_range(recording):
    client = replayed(recording)
    candle = (await client.get("/products/BTC-USD/candles", start="2024-05-01T00:00:00Z", end="2024-05-01T00:00:00Z"))[
        0
    ]
    assert candle[3:5] == [60_024.5, 60_124.25]
    for offset in range(0, 3600, 60):
        assert 60_024.5 <= client.world.btc_usd(BEGIN.timestamp() + offset).value <= 60_124.25


async def test_blocks_follow_the_recorded_counts_and_go_on_after_them(recording):
    client = replayed(recording)
    after = BEGIN.timestamp() + 4 * 86_400
    blocks, source = client.world.blocks(after, 700)
    heights = [block.height for block in blocks]
    assert source == "generated"
    assert heights == list(range(heights[0], heights[0] - 700, -1))
    assert math.isclose(blocks[0].difficulty, 88e12, rel_tol=0.2)
    fees = sum(block.fees_sat for block in blocks if 0 <= block.timestamp_s - BEGIN.timestamp() < 86_400)
    assert fees == pytest.approx(20e8, rel=1e-5)


def test_the_start_is_the_latest_first_row(recording):
    assert replayed(recording).world.start_s() == BEGIN.timestamp()


def test_a_recording_in_5_minute_steps_settles_on_the_mean_of_three(tmp_path):
    starts = [BEGIN + timedelta(minutes=5 * n) for n in range(12)]
    frame = pl.DataFrame({"interval_start_utc": starts, "rt_price_usd_per_mwh": [5000.0, 20.0, 20.0] * 4})
    frame.with_columns(settlement_point=pl.lit("HB_HOUSTON")).write_parquet(tmp_path / "five.parquet")
    served = replayed(tmp_path).world.spp("HB_HOUSTON", np.array([int(BEGIN.timestamp())]))
    assert (served.values.tolist(), served.is_recorded.tolist()) == ([1680.0], [True])


def test_an_unrecorded_point_of_a_site_is_refused_unless_mapped(recording):
    group = {"group": "a", "kind": "ASIC", "model": "S21", "first_slot": 0, "devices": 1}
    group["states"] = [{"state": 3, "power_w": 3500}]
    sites = [{"site": "s", "settlement_point": "LZ_WEST", "groups": [group]}]
    with pytest.raises(WorldConfigError, match="settlement point LZ_WEST is not recorded"):
        world(replay_dir=recording, sites=sites)
    mapped = world(replay_dir=recording, sites=sites, point_map={"LZ_WEST": "HB_HOUSTON"})
    assert mapped.lmp("LZ_WEST", np.array([int(BEGIN.timestamp())])).values.tolist() == [ODD[0]]


def test_a_directory_without_series_is_refused(tmp_path):
    with pytest.raises(WorldConfigError, match="no parquet file below it"):
        world(replay_dir=tmp_path)


async def test_recorded_capacity_prices_and_load_are_served_as_they_were(recording):
    hours = [BEGIN + timedelta(hours=n) for n in range(48)]
    prices = {f"{name}_mcpc_usd_per_mw_h": [n + 0.01] * 48 for n, name in enumerate(RESERVES)}
    load = {f"{name}_load_mw": [1000.0 + n] * 48 for n, name in enumerate(ZONES)}
    pl.DataFrame({"interval_start_utc": hours, **prices, **load}).write_parquet(recording / "system.parquet")
    client = replayed(recording)
    query = {"deliveryDateFrom": "2024-05-01", "deliveryDateTo": "2024-05-01"}
    capacity = await rows(client, "/api/public-reports/np4-188-cd/dam_clear_price_for_cap", **query)
    assert {row["ancillaryType"]: row["MCPC"] for row in capacity} == {
        "REGUP": 0.01, "REGDN": 1.01, "RRS": 2.01, "ECRS": 3.01, "NSPIN": 4.01,
    }  # fmt: skip
    query = {"operatingDayFrom": "2024-05-01", "operatingDayTo": "2024-05-01"}
    zones = await rows(client, "/api/public-reports/np6-345-cd/act_sys_load_by_wzn", **query)
    assert (zones[0]["coast"], zones[0]["west"]) == (1000.0, 1007.0)
    assert {row["total"] for row in zones} == {8028.0}
    assert [row["hourEnding"] for row in zones] == [f"{n:02d}:00" for n in range(1, 25)]
