"""What the allocator believes of the market after good, late, repeated, revised and absurd rows."""

from datetime import timedelta

import pytest

from hcp_pipelines.allocator.market import MarketBook
from hcp_pipelines.economics.mining import hashprice_usd_per_ph_day
from tests.support.fleet import FIVE, NOON, POINT, book, row


def test_the_decision_price_is_the_mean_of_the_interval_so_far_and_the_last_value_held():
    market = MarketBook()
    assert market.decision_price(POINT) is None
    assert market.take([row(1, 5000.0)])
    assert market.decision_price(POINT) == 5000.0
    assert market.take([row(2, 20.0, NOON + FIVE)])
    assert market.decision_price(POINT) == pytest.approx((5000 + 20 + 20) / 3)
    assert market.decision_price(POINT, slope=0.0, offset=80.0) == pytest.approx(1700.0)


def test_rows_that_repeat_come_late_or_are_absurd_change_nothing():
    market = book(30.0)
    assert not market.take([row(6, 30.0)]), "the same row again"
    assert not market.take([row(7, float("nan"), NOON + FIVE)])
    assert not market.take([row(8, 99_999.0, NOON + FIVE, quality="absurd")])
    assert not market.take([row(9, 10.0, NOON, quality="out_of_order", revision=1)])
    assert market.decision_price(POINT) == 30.0
    assert market.values_seen[POINT] == 1


def test_a_revision_replaces_the_value_it_corrects_and_an_older_one_does_not():
    market = book(30.0)
    assert market.take([row(7, 60.0, revision=1)])
    assert market.decision_price(POINT) == 60.0
    assert not market.take([row(6, 30.0, revision=0)])
    assert market.decision_price(POINT) == 60.0


def test_an_unusual_price_is_acted_on():
    market = book(30.0)
    assert market.take([row(7, 5168.62, NOON + FIVE, quality="unusual")])
    assert market.decision_price(POINT) > 1000


def test_hashprice_needs_price_difficulty_fees_and_height_and_follows_each():
    market = MarketBook()
    market.take([row(1, 95_000.0, stream="btc.usd", series="consensus")])
    assert "hashprice" not in market.indices
    market = book()
    assert market.indices["hashprice"] == pytest.approx(hashprice_usd_per_ph_day(95_000, 1.1e14, 0.05, 877_000))
    assert market.take([row(7, 47_500.0, NOON + FIVE, "btc.usd", "consensus")])
    assert not market.take([row(8, 90_000.0, NOON + 2 * FIVE, "btc.usd", "kraken")]), "one exchange alone moves nothing"
    assert market.indices["hashprice"] == pytest.approx(hashprice_usd_per_ph_day(47_500, 1.1e14, 0.05, 877_000))


@pytest.mark.parametrize(("series", "value"), [("difficulty", 0.0), ("height", -1.0), ("fees_btc_per_block", 1e9)])
def test_a_network_value_that_cant_be_leaves_the_index_as_it_was(series, value):
    """The feed marks such a value absurd; one that was marked good all the same ends no allocator."""
    market = book()
    before = market.indices["hashprice"]
    assert not market.take([row(7, value, NOON + FIVE, "btc.network", series)])
    assert market.indices["hashprice"] == before


@pytest.mark.parametrize("value", [1e9, float("nan"), float("-inf")])
def test_a_power_price_that_cant_be_changes_nothing(value):
    market = book(30.0)
    assert not market.take([row(7, value, NOON + FIVE)])
    assert market.decision_price(POINT) == 30.0
    assert market.power(POINT).value == 30.0


def test_only_a_tick_that_the_facility_depends_on_is_its_newest():
    market = book()
    market.take([row(7, 10.0, NOON + FIVE, series="HB_NORTH"), row(8, 3.0, NOON + FIVE, "gpu.spot", "H100")])
    assert market.tick_for(POINT, ("hashprice",)).tick_id == 6
    assert market.tick_for(POINT, ("hashprice", "gpu.H100")).tick_id == 8


def test_only_the_last_intervals_are_kept():
    market = MarketBook()
    market.take(row(n, float(n), NOON + n * timedelta(minutes=5)) for n in range(1, 500))
    assert market.decision_price(POINT) == pytest.approx((498 + 499 + 499) / 3, abs=1.0)
    assert len(market._lmps[POINT]) <= 9
