"""The generated world: pure in seed and instant, seamless, and roughly like the recorded one."""

from itertools import pairwise

import numpy as np
import pytest

from simulators.bitcoin import BitcoinNetwork, BitcoinPrice, subsidy_sat
from simulators.gpu import GpuMarket
from simulators.power import PowerGenerator
from simulators.scenarios import scenario_named
from simulators.settings import WorldConfigError

START_S = 1_735_689_600
YEAR = np.arange(365 * 288, dtype=np.int64) * 300 + START_S


def prices(point: str, seed: int = 7, scenario: str = "calm", at=YEAR):
    return PowerGenerator(seed, scenario_named(scenario)).lmp(point, at)


def test_any_range_asked_for_in_any_order_is_the_same():
    generator = PowerGenerator(7, scenario_named("calm"))
    late_first = generator.lmp("HB_HOUSTON", YEAR[5000:5300])
    whole = PowerGenerator(7, scenario_named("calm")).lmp("HB_HOUSTON", YEAR[:6000])
    assert np.array_equal(whole[5000:5300], late_first)
    assert not np.array_equal(whole, prices("HB_HOUSTON", seed=8, at=YEAR[:6000]))


def test_days_join_without_a_seam():
    price = np.clip(prices("HB_NORTH"), -50, 150)
    steps = np.abs(np.diff(price))
    at_midnight = (YEAR[1:] % 86_400) == 0
    night = np.isin(YEAR[1:] % 86_400 // 3600, (23, 0))
    assert steps[at_midnight].mean() < 1.5 * steps[night & ~at_midnight].mean()


@pytest.mark.parametrize("point", ["HB_HOUSTON", "HB_NORTH", "HB_HUBAVG"])
def test_hubs_are_roughly_like_the_recorded_ones(point):
    price = prices(point)
    assert 24 < price.mean() < 36
    assert 0.003 < (price > 200).mean() < 0.012
    assert (price < 0).mean() < 0.04
    assert price.max() > 1000


def test_the_west_has_negative_hours():
    assert 0.02 < (prices("HB_WEST") < 0).mean() < 0.08


def test_windy_nights_are_negative():
    assert (prices("HB_WEST", scenario="negative-night") < 0).mean() > 0.2


def test_points_and_markets_are_correlated_but_differ():
    houston, north = prices("HB_HOUSTON"), prices("HB_NORTH")
    assert 0.9 < np.corrcoef(houston, north)[0, 1] < 0.9999
    generator = PowerGenerator(7, scenario_named("calm"))
    hourly = np.clip(houston.reshape(-1, 12).mean(axis=1), -50, 300)
    ahead = np.clip(generator.da("HB_HOUSTON", YEAR[::12]), -50, 300)
    assert 0.6 < np.corrcoef(hourly, ahead)[0, 1] < 0.98


@pytest.mark.parametrize("point", ["HB_HOUSTON", "HB_NORTH", "HB_HUBAVG"])
@pytest.mark.parametrize("strike", [77.0, 94.0])
def test_the_demo_crosses_asic_strikes_in_its_first_simulated_hour(point, strike):
    first_hour = prices(point, at=YEAR[:12])
    assert (first_hour > strike).any()
    assert (first_hour < strike).any()


def test_strikes_are_crossed_several_times_a_day():
    price = prices("HB_HOUSTON")
    crossings = sum(int(np.count_nonzero(np.diff(price > strike))) for strike in (60, 77, 94, 120))
    assert crossings / 365 > 8


def test_bitcoin_price_is_continuous_and_pure():
    price = BitcoinPrice(7)
    hour = START_S // 3600 + 5000
    assert price.path(hour)[-1] == pytest.approx(price.at_hour(hour + 1))
    assert price.path(hour + 1)[0] == pytest.approx(price.at_hour(hour + 1))
    assert BitcoinPrice(7).at_hour(hour) == price.at_hour(hour)
    back = BitcoinPrice(7).at_hour(START_S // 3600 - 1)
    assert back == pytest.approx(price.at_hour(START_S // 3600), rel=0.05)
    steps = np.diff([np.log(price.at_hour(START_S // 3600 + n)) for n in range(2000)])
    assert 0.004 < steps.std() < 0.007


def test_blocks_are_consecutive_and_retarget_every_2016():
    network = BitcoinNetwork(7)
    blocks = network.blocks_before(START_S + 40 * 86_400, 6000)
    assert np.array_equal(np.diff([block.height for block in blocks]), np.ones(5999))
    assert all(later.timestamp_s >= earlier.timestamp_s for earlier, later in pairwise(blocks))
    changes = [b.height for a, b in pairwise(blocks) if a.difficulty != b.difficulty]
    assert len(changes) >= 2
    assert all(height % 2016 == 0 for height in changes)
    assert network.blocks_before(START_S, 3)[-1].timestamp_s <= START_S


def test_subsidy_halves_with_height():
    assert [subsidy_sat(height) for height in (0, 839_999, 840_000, 1_050_000)] == [
        5_000_000_000,
        625_000_000,
        312_500_000,
        156_250_000,
    ]


def test_gpu_rates_revert_to_their_mean():
    market = GpuMarket(7)
    rates = [
        np.median([o.usd_per_gpu_hour for o in market.offers(START_S + day * 86_400) if o.gpu_type.name == "H100_80GB"])
        for day in range(0, 200, 5)
    ]
    assert 1.9 < np.mean(rates) < 2.9
    assert np.std(rates) > 0.03


def test_an_unknown_scenario_is_refused_with_the_known_ones():
    with pytest.raises(WorldConfigError, match=r"'doom' is unknown; there are bad-data, btc-crash, calm, exch"):
        scenario_named("doom")
