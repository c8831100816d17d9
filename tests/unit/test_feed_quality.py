"""Which verdict a tick gets: every row of DESIGN §5 and §7.4, and the real series, none of which may be absurd."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hcp_pipelines.domain.ticks import Quality, Stream, Tick
from hcp_pipelines.feed.quality import MarketRule, Memory, Rules, judge

NOW = datetime(2025, 1, 1, 12, 2, tzinfo=UTC)
NOON = NOW.replace(minute=0)
FIVE = timedelta(minutes=5)
RTC_B = datetime(2025, 12, 5, 6, tzinfo=UTC)
RULES = Rules(
    (
        MarketRule("ERCOT", "rt_offer_cap_usd_per_mwh", datetime(2022, 1, 1, 6, tzinfo=UTC), RTC_B, 5000.0),
        MarketRule("ERCOT", "rt_offer_cap_usd_per_mwh", RTC_B, None, 2000.0),
        MarketRule("ERCOT", "rt_plausible_floor_usd_per_mwh", datetime(2000, 1, 1, tzinfo=UTC), None, -1000.0),
    )
)


def lmp(value, at=NOON, point="HB_NORTH"):
    return Tick(Stream.POWER_RT_LMP, point, at, value, "USD/MWh", "ERCOT")


def btc(value, at=NOON):
    return Tick(Stream.BTC_USD, "coinbase", at, value, "USD", "coinbase")


def quality_of(tick, memory=None, now=NOW):
    return judge(tick, memory if memory is not None else Memory(), RULES, now).tick.quality


@pytest.mark.parametrize(
    ("value", "quality"),
    [
        (45.0, Quality.GOOD),
        (0.0, Quality.GOOD),
        (-251.0, Quality.GOOD),
        (-1000.0, Quality.GOOD),
        (5000.0, Quality.GOOD),
        (5000.01, Quality.UNUSUAL),
        (10_000.0, Quality.UNUSUAL),
        (10_000.01, Quality.ABSURD),
        (-1000.01, Quality.ABSURD),
        (math.nan, Quality.ABSURD),
        (math.inf, Quality.ABSURD),
        (-math.inf, Quality.ABSURD),
    ],
)
def test_power_is_judged_by_the_band_of_its_date(value, quality):
    assert quality_of(lmp(value)) is quality


def test_the_band_follows_the_cap_of_the_ticks_own_date():
    later = RTC_B + timedelta(days=1)
    assert quality_of(lmp(2500.0, later), now=later) is Quality.UNUSUAL
    assert quality_of(lmp(4000.5, later), now=later) is Quality.ABSURD
    assert quality_of(lmp(4000.5)) is Quality.GOOD


def test_a_repeated_value_is_a_duplicate_and_nan_repeats_itself():
    memory = Memory()
    for value in (45.0, math.nan):
        tick = lmp(value, NOON if value == 45.0 else NOON + FIVE)
        assert not judge(tick, memory, RULES, NOW + FIVE).is_duplicate
        assert judge(tick, memory, RULES, NOW + FIVE).is_duplicate


def test_another_value_for_the_newest_instant_is_acted_on():
    memory = Memory()
    judge(lmp(45.0), memory, RULES, NOW)
    assert quality_of(lmp(52.0), memory) is Quality.GOOD


def test_a_return_to_the_first_value_is_no_duplicate():
    memory = Memory()
    for value in (45.0, 52.0):
        judge(lmp(value), memory, RULES, NOW)
    assert not judge(lmp(45.0), memory, RULES, NOW).is_duplicate


def test_older_than_the_newest_is_recorded_out_of_order():
    memory = Memory()
    judge(lmp(45.0), memory, RULES, NOW)
    verdict = judge(lmp(40.0, NOON - FIVE), memory, RULES, NOW)
    assert verdict.tick.quality is Quality.OUT_OF_ORDER
    assert memory.newest_at(Stream.POWER_RT_LMP, "HB_NORTH") == NOON


def test_an_absurd_value_leaves_the_last_good_one_in_force_and_can_be_corrected():
    memory = Memory()
    judge(lmp(45.0), memory, RULES, NOW)
    assert quality_of(lmp(99_999.0, NOON + FIVE), memory) is Quality.ABSURD
    assert memory.newest_at(Stream.POWER_RT_LMP, "HB_NORTH") == NOON
    assert quality_of(lmp(46.0, NOON + FIVE), memory) is Quality.GOOD
    assert memory.newest_at(Stream.POWER_RT_LMP, "HB_NORTH") == NOON + FIVE


def test_a_value_from_the_future_does_not_block_those_that_follow():
    memory = Memory()
    assert quality_of(lmp(45.0, NOON + timedelta(days=1)), memory) is Quality.ABSURD
    assert quality_of(lmp(45.0), memory) is Quality.GOOD


def test_day_ahead_prices_may_lie_ahead():
    tick = replace(lmp(45.0, NOON + timedelta(hours=35)), stream=Stream.POWER_DA_SPP)
    assert quality_of(tick) is Quality.GOOD


@pytest.mark.parametrize("factor", [1000.0, 0.001, 100.0, 0.01])
def test_a_revision_of_power_by_a_unit_factor_is_absurd(factor):
    memory = Memory()
    judge(lmp(45.0), memory, RULES, NOW)
    assert quality_of(lmp(45.0 * factor), memory) is Quality.ABSURD


@pytest.mark.parametrize("factor", [1000.0, 0.001, 100.0, 0.01])
def test_bitcoin_wrong_by_a_unit_factor_is_absurd_against_the_recent_median(factor):
    memory = Memory()
    for step in range(6):
        assert quality_of(btc(95_000.0 + step, NOON + timedelta(seconds=step)), memory) is Quality.GOOD
    verdict = judge(btc(95_000.0 * factor, NOW), memory, RULES, NOW)
    assert verdict.tick.quality is Quality.ABSURD
    assert verdict.tick.metadata["quality_reason"]
    assert quality_of(btc(60_000.0, NOW), memory) is Quality.GOOD


def test_absurd_values_do_not_become_the_usual():
    memory = Memory()
    for step in range(6):
        judge(btc(95_000.0 + step, NOON + timedelta(seconds=step)), memory, RULES, NOW)
    for step in range(60):
        assert quality_of(btc(95.0 + step / 100, NOON + timedelta(seconds=10 + step)), memory) is Quality.ABSURD


def test_a_restored_memory_judges_as_the_one_that_recorded():
    memory, recorded = Memory(), []
    for value, at in [(45.0, NOON - FIVE), (50.0, NOON), (9e9, NOON + FIVE), (51.0, NOON)]:
        verdict = judge(lmp(value, at), memory, RULES, NOW + FIVE)
        recorded.append(replace(verdict.tick, revision=sum(tick.source_at == at for tick in recorded)))
    restored = Memory()
    restored.restore(reversed(recorded))
    for value, at in [(51.0, NOON), (50.0, NOON), (44.0, NOON - FIVE), (47.0, NOON + FIVE)]:
        assert judge(lmp(value, at), restored, RULES, NOW + FIVE) == judge(lmp(value, at), memory, RULES, NOW + FIVE)


def real_power_series():
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "ercot"
    if not folder.is_dir():
        pytest.skip("the real series are not beside the project: nothing to check against")
    import polars as pl

    for path in sorted(folder.glob("ercot_rt_15min_*.parquet")) + sorted(folder.glob("ercot_da_*hub*.parquet")):
        frame = pl.read_parquet(path).sort("settlement_point", "interval_start_utc")
        for column, stream in (
            ("rt_price_usd_per_mwh", Stream.POWER_RT_SPP),
            ("da_price_usd_per_mwh", Stream.POWER_DA_SPP),
        ):
            if column in frame.columns:
                yield path.name, stream, frame.select("settlement_point", "interval_start_utc", column).rows()


@pytest.mark.shared_data
def test_every_real_power_price_is_accepted_and_24_are_unusual():
    judged, unusual = 0, {}
    for name, stream, rows in real_power_series():
        memory = Memory()
        for point, at, value in rows:
            tick = Tick(stream, point, at, value, "USD/MWh", "ERCOT")
            verdict = judge(tick, memory, RULES, at + timedelta(minutes=16))
            assert verdict.tick.quality in (Quality.GOOD, Quality.UNUSUAL), (name, point, at, value)
            unusual[name] = unusual.get(name, 0) + (verdict.tick.quality is Quality.UNUSUAL)
            judged += 1
    assert judged > 250_000
    assert unusual["ercot_rt_15min_hb_houston.parquet"] == 24


@pytest.mark.shared_data
def test_every_real_bitcoin_and_network_value_is_accepted():
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "btc"
    if not folder.is_dir():
        pytest.skip("the real series are not beside the project: nothing to check against")
    import polars as pl

    memory = Memory()
    for path, at_column, value_column, stream, series in [
        ("btcusdt_spot_binance_1h.parquet", "interval_start_utc", "close_usdt", Stream.BTC_USD, "coinbase"),
        ("bitcoin_network_daily.parquet", "date_utc", "difficulty", Stream.BTC_NETWORK, "difficulty"),
        ("bitcoin_network_daily.parquet", "date_utc", "total_fees_btc", Stream.BTC_NETWORK, "fees_btc_per_block"),
    ]:
        for at, value in pl.read_parquet(folder / path).select(at_column, value_column).iter_rows():
            scaled = value / 144 if series == "fees_btc_per_block" else value
            tick = Tick(stream, series, at, scaled, "1", "recorded")
            assert judge(tick, memory, RULES, at).tick.quality is Quality.GOOD, (series, at, value)


def test_what_its_source_calls_unusual_stays_so_with_its_reason():
    tick = Tick(
        Stream.BTC_USD,
        "consensus",
        NOW,
        84_150.0,
        "USD",
        "aggregate",
        Quality.UNUSUAL,
        metadata={"quality_reason": "-10.0%"},
    )
    judged = judge(tick, Memory(), Rules(), NOW).tick
    assert (judged.quality, judged.metadata) == (Quality.UNUSUAL, {"quality_reason": "-10.0%"})
