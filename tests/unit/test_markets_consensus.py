"""Bitcoin's price over several exchanges: who is wrong, stuck or silent moves it not, and nobody being right is an error."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcp_pipelines.markets.consensus import LEAST_SHARE, Consensus, NoConsensusError, Quote, bitcoin_consensus, quoted

NOW = datetime(2025, 1, 2, 12, tzinfo=UTC)


def quotes(*prices, ages_s=()):
    ages = [*ages_s, *[5.0] * (len(prices) - len(ages_s))]
    return [Quote("abcdefgh"[n], NOW - timedelta(seconds=ages[n]), usd) for n, usd in enumerate(prices)]


def before(usd, age_s=10.0):
    return Consensus(usd, NOW - timedelta(seconds=age_s), ("a", "b", "c"), {})


def test_the_median_of_those_that_agree():
    found = bitcoin_consensus(quotes(93_500.0, 93_510.0, 93_490.0, ages_s=(5, 3, 9)), NOW)
    assert (found.usd, found.at, found.venues, found.rejected) == (
        93_500.0, NOW - timedelta(seconds=3), ("a", "b", "c"), {},
    )  # fmt: skip


@pytest.mark.parametrize("factor", [1.08, 0.92, 100.0, 1e-3])
def test_one_that_is_off_is_named_and_left_out(factor):
    found = bitcoin_consensus(quotes(93_500.0, 93_510.0, 93_500.0 * factor), NOW)
    assert found.usd == 93_505.0
    assert found.venues == ("a", "b")
    assert "off the median of 93,5" in found.rejected["c"]


def test_one_whose_trades_are_stuck_is_stale_and_one_whose_price_is_stuck_is_off_once_the_others_move():
    stuck = bitcoin_consensus(quotes(93_500.0, 95_000.0, 95_010.0, ages_s=(600,)), NOW)
    assert (stuck.usd, stuck.rejected) == (95_005.0, {"a": "last trade 600 s ago"})
    repeated = bitcoin_consensus(quotes(93_500.0, 95_000.0, 95_010.0), NOW)
    assert repeated.venues == ("b", "c")


def moved(*prices, still_s):
    """Fresh quotes that have had their price for so long."""
    return [
        Quote("abcdefgh"[n], NOW - timedelta(seconds=5), usd, NOW - timedelta(seconds=still))
        for n, (usd, still) in enumerate(zip(prices, still_s, strict=True))
    ]


def test_one_that_repeats_its_price_under_new_stamps_is_left_out_before_it_is_off():
    found = bitcoin_consensus(moved(93_500.0, 93_700.0, 93_710.0, still_s=(130, 10, 20)), NOW)
    assert (found.usd, found.rejected) == (93_705.0, {"a": "the same price for 130 s"})
    off_and_stuck = moved(93_500.0, 93_510.0, 101_000.0, 96_300.0, still_s=(5, 5, 5, 125))
    assert bitcoin_consensus(off_and_stuck, NOW).usd == 93_505.0
    assert bitcoin_consensus([Quote(q.venue, q.at, q.usd) for q in off_and_stuck], NOW).usd > 93_600, (
        "else it would count"
    )


def test_where_fewer_than_two_move_nobody_is_stuck():
    quiet = bitcoin_consensus(moved(93_500.0, 93_501.0, 93_502.0, still_s=(500, 600, 700)), NOW)
    assert quiet.rejected == {}
    assert bitcoin_consensus(moved(93_500.0, 93_501.0, 93_502.0, still_s=(500, 600, 7)), NOW).rejected == {}


def test_a_price_is_as_old_as_its_last_change():
    first = quoted("a", NOW, 93_500.0, None)
    again = quoted("a", NOW + timedelta(seconds=10), 93_500.0, first)
    other = quoted("a", NOW + timedelta(seconds=20), 93_500.5, again)
    assert [quote.moved_at for quote in (first, again, other)] == [NOW, NOW, NOW + timedelta(seconds=20)]


def test_all_stale_is_an_error_that_names_each():
    with pytest.raises(NoConsensusError, match=r"within 120 s \(a: last trade 121 s ago; b: last trade 900 s ago\)"):
        bitcoin_consensus(quotes(93_500.0, 93_510.0, ages_s=(121, 900)), NOW)
    with pytest.raises(NoConsensusError, match="no exchange has quoted yet"):
        bitcoin_consensus([Quote("a", NOW + timedelta(seconds=1), 93_500.0)], NOW)
    with pytest.raises(NoConsensusError, match="a: nan is no price"):
        bitcoin_consensus(quotes(float("nan")), NOW)


def test_two_that_contradict_each_other_are_told_apart_by_the_last_price_or_not_at_all():
    two = quotes(93_500.0, 101_000.0)
    found = bitcoin_consensus(two, NOW, last=before(93_400.0))
    assert (found.usd, found.by_last) == (93_500.0, True)
    assert bitcoin_consensus(two, NOW, last=before(100_500.0)).usd == 101_000.0
    with pytest.raises(NoConsensusError, match=r"a 93,500\.00 and b 101,000\.00 USD, more than 0\.5% apart"):
        bitcoin_consensus(two, NOW)
    assert bitcoin_consensus(quotes(93_500.0, 93_600.0), NOW).usd == 93_550.0


def test_an_old_consensus_says_nothing_about_two_that_contradict_each_other():
    two = quotes(93_500.0, 101_000.0)
    assert bitcoin_consensus(two, NOW, last=before(93_400.0, age_s=600)).usd == 93_500.0
    with pytest.raises(NoConsensusError, match="no third one or recent price of several says who is right"):
        bitcoin_consensus(two, NOW, last=before(93_400.0, age_s=601))


def test_a_leap_that_not_all_join_is_named():
    ten_off, last = quotes(93_500.0, 84_150.0, 84_200.0), before(93_500.0)
    assert bitcoin_consensus(ten_off, NOW, last=last).leap == "-10.0% from the last 93,500.00 USD"
    assert bitcoin_consensus(ten_off, NOW).leap == ""
    assert bitcoin_consensus(quotes(84_170.0, 84_150.0, 84_200.0), NOW, last=last).leap == ""
    assert bitcoin_consensus(quotes(84_150.0, 84_200.0), NOW, last=last).leap == ""
    assert bitcoin_consensus(quotes(84_150.0), NOW, last=last).leap != ""
    assert bitcoin_consensus(quotes(93_500.0, 92_000.0, 92_010.0), NOW, last=last).leap == ""


def test_a_single_exchange_is_what_it_says():
    assert bitcoin_consensus(quotes(93_500.0), NOW).usd == 93_500.0


@given(
    right=st.lists(st.floats(0.9985, 1.0015), min_size=3, max_size=5),
    wrong=st.lists(st.one_of(st.floats(0.001, 0.97), st.floats(1.03, 1000.0)), max_size=2),
)
def test_a_minority_never_moves_it_beyond_what_the_others_say(right, wrong):
    wrong = wrong[: len(right) - 2]
    found = bitcoin_consensus(quotes(*(93_500.0 * factor for factor in (*right, *wrong))), NOW)
    assert 93_500 * min(right) <= found.usd <= 93_500 * max(right)
    assert set(found.rejected) == set("abcdefgh"[len(right) : len(right) + len(wrong)])
    assert LEAST_SHARE > 0.003
