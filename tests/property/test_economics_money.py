"""Identities of the economic formulas within 1e-9, columns equal scalars, and every absurd input is refused by name."""

import math
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.modes import DeviceState, ResourceType
from hcp_pipelines.economics import contract, gpu, mining, power, profitability, programmes, settlement, switching
from hcp_pipelines.economics.bounds import LIMITS, ImplausibleValueError, check, checked_columns
from hcp_pipelines.feed.quality import BANDS, DEFAULT_CAP_USD_PER_MWH

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
few = settings(max_examples=60, deadline=None)
hashprices, efficiencies = st.floats(1, 1000), st.floats(5, 100)
prices, mws, hours = st.floats(-1000, 10_000), st.floats(0, 1000), st.floats(0.05, 24)
pues, fees = st.floats(1, 2), st.floats(0, 0.5)


def close(left, right):
    return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9)


@few
@given(st.floats(1, 1e9), st.floats(1e10, 1e17), st.integers(0, 2_000_000), st.floats(0, 10), fees, st.floats(100, 1e6))
def test_revenue_is_coins_times_price_whichever_way(hash_rate, difficulty, height, fees_btc, pool_fee, btc_usd):
    coins = mining.btc_per_day(hash_rate, difficulty, height, fees_btc, pool_fee)
    hashprice = mining.hashprice_usd_per_ph_day(btc_usd, difficulty, fees_btc, height)
    assert close(coins * btc_usd, 24 * mining.revenue_usd_per_hour(hash_rate, hashprice, pool_fee))
    twice = mining.btc_per_day(2 * hash_rate, 2 * difficulty, height, fees_btc, pool_fee)
    assert close(coins, twice)


@few
@given(hashprices, efficiencies, pues, fees, st.floats(1, 1000))
def test_at_the_break_even_price_revenue_is_cost(hashprice, joules, pue, pool_fee, hash_rate):
    price = mining.break_even_usd_per_mwh(hashprice, joules, pue, pool_fee)
    cost = contract.cost_usd_per_hour(mining.power_kw(hash_rate, joules), pue, price)
    assert close(cost, mining.revenue_usd_per_hour(hash_rate, hashprice, pool_fee))
    table = pl.DataFrame({"model": ["m"], "hash_rate_th_per_s": [hash_rate], "power_kw": [hash_rate * joules / 1000]})
    assert close(mining.with_break_evens(table, hashprice, pue, pool_fee)["break_even_usd_per_mwh"][0], price)


@few
@given(st.lists(st.tuples(st.floats(0, 400), hashprices, fees), min_size=1, max_size=5))
def test_revenue_columns_equal_scalars(rows):
    frame = pl.DataFrame(rows, schema=["rate", "hashprice", "fee"], orient="row")
    got = frame.select(mining.revenue_columns(pl.col("rate"), pl.col("hashprice"), pl.col("fee"))).to_series()
    assert all(close(v, mining.revenue_usd_per_hour(*row)) for v, row in zip(got, rows, strict=True))


@few
@given(st.lists(st.floats(-60, 65), min_size=1, max_size=6), pues, st.floats(0, 0.02), st.floats(0, 30))
def test_pue_never_falls_with_the_temperature_and_columns_equal_scalars(temperatures, value, slope, above):
    warm = sorted(temperatures)
    scalar = [power.pue_at(t, value, slope, above) for t in warm]
    assert scalar == sorted(scalar)
    assert scalar[0] >= value
    frame = pl.DataFrame({"t": warm})
    assert frame.select(power.pue_columns(pl.col("t"), value, slope, above)).to_series().to_list() == scalar


@few
@given(st.floats(0, 500), st.floats(0.01, 1), st.floats(0, 10), st.floats(0.1, 10))
def test_gpu_revenue_is_proportional_and_columns_equal_scalars(rate, sold, fraction, power_kw):
    usd = gpu.revenue_usd_per_hour(rate, sold, fraction)
    assert close(gpu.revenue_usd_per_mwh(rate, power_kw, sold, fraction) * power_kw / 1000, usd)
    assert close(usd, fraction * gpu.revenue_usd_per_hour(rate, sold))
    frame = pl.DataFrame({"rate": [rate], "sold": [sold], "fraction": [fraction]})
    assert close(frame.select(gpu.revenue_columns(*(pl.col(c) for c in frame.columns))).item(), usd)


@few
@given(st.sampled_from(ResourceType), st.sampled_from(DeviceState), st.sampled_from(DeviceState), st.floats(0, 100))
def test_a_switch_costs_nothing_less_than_nothing_and_nothing_where_nothing_changes(kind, before, after, revenue):
    cost = switching.switch_cost(kind, before, after, 200.0)
    assert cost.at(revenue) >= 0
    assert cost.source
    if before is after:
        assert cost.at(revenue) == 0
    if (
        revenue > 0
        and kind is ResourceType.ASIC
        and before is DeviceState.CURTAILED
        and after is DeviceState.MINING_FULL
    ):
        assert close(cost.at(revenue), revenue / 6 + 0.05)


@few
@given(mws, mws, prices, prices, mws)
def test_a_hedge_changes_what_is_settled_and_never_what_another_mwh_costs(mw, more_mw, price, fixed, hedged_mw):
    hour = settlement.INTERVAL_H

    def settled(load_mw, hedge_mw):
        metered = rows(start_at=NOON, energy_mwh=load_mw * hour, basis="", price_usd_per_mwh=price)
        hedges = [(NOON, NOON + timedelta(hours=1), hedge_mw, fixed)]
        lines = settlement.energy_lines(metered, 2.5), settlement.hedge_lines(metered, hedges)
        return -sum(frame["usd"].sum() for frame in lines)

    marginal = contract.all_in_usd_per_mwh(price, 2.5) * more_mw * hour
    for hedge_mw in (0.0, hedged_mw):
        assert math.isclose(
            settled(mw + more_mw, hedge_mw) - settled(mw, hedge_mw), marginal, rel_tol=1e-6, abs_tol=1e-3
        )
    assert close(settled(mw, mw), mw * hour * (fixed + 2.5))  # bought in full at the fixed price


def rows(**columns):
    """One row, with the instant as the lake has it."""
    return pl.DataFrame([columns]).with_columns(pl.col("start_at").cast(INSTANT))


def test_hedges_hold_over_half_open_windows_and_add_up_at_their_weighted_price():
    start = datetime(2025, 3, 9, 7, tzinfo=UTC)  # the night of the spring change
    hours = [start + timedelta(hours=n) for n in range(5)]
    frame = pl.DataFrame({"start_at": hours}, schema={"start_at": pl.Datetime("us", "UTC")})
    hedged = contract.with_hedges(frame, [(hours[1], hours[3], 10.0, 40.0), (hours[2], hours[4], 30.0, 60.0)])
    assert hedged["hedge_mw"].to_list() == [0.0, 10.0, 40.0, 30.0, 0.0]
    assert hedged["hedge_usd_per_mwh"].to_list() == [0.0, 40.0, 55.0, 60.0, 0.0]
    assert contract.with_hedges(frame, [])["hedge_mw"].to_list() == [0.0] * 5


@few
@given(st.floats(0, 1), st.floats(0, 200), st.integers(1, 12), st.floats(0.05, 1))
def test_a_certain_peak_costs_what_the_year_charges_for_it(probability, usd, peaks, h):
    adder = contract.expected_peak_usd_per_mwh(probability, usd, peaks, h)
    one_peak = contract.peak_charge_usd([1.0], usd, peaks)
    assert close(adder * h, probability * one_peak)
    assert close(contract.peak_charge_usd([1.0] * peaks, usd, peaks), 1000 * usd)
    of_an_hour = rows(start_at=NOON, energy_mwh=1.0, basis="", is_peak=True)
    assert close(-settlement.peak_lines(of_an_hour, usd, peaks)["usd"].sum(), one_peak)


@few
@given(mws, mws, st.floats(0, 5000))
def test_reserves_pay_what_is_on_and_lines_equal_scalars(mw, sheddable, mcpc):
    missing, penalty = max(0.0, mw - sheddable), programmes.SHORTFALL_USD_PER_MWH
    promised = rows(start_at=NOON, programme="ECRS", mw_h=mw, capacity_usd_per_mw_h=mcpc)
    missed = rows(start_at=NOON, programme="ECRS", missed_mwh=missing, penalty_usd_per_mwh=penalty)
    usd = settlement.reserve_lines(promised)["usd"][0] + settlement.penalty_lines(missed)["usd"][0]
    assert math.isclose(usd, programmes.reserve_revenue_usd(mw, sheddable, mcpc), rel_tol=1e-9, abs_tol=1e-6)
    assert programmes.reserve_revenue_usd(min(mw, sheddable), sheddable, mcpc) >= 0


@few
@given(st.floats(-500, 500), st.floats(0, 1))
def test_a_reserve_is_offered_at_what_it_forgoes(margin, deployed):
    offer = programmes.reserve_offer_usd_per_mw_h(margin, deployed)
    free = max(margin, 0.0)  # a MW that promises nothing runs where it pays
    bound = margin * (1 - deployed)  # one that promises is on, but for what is deployed
    assert close(bound + offer, free)


@few
@given(mws, mws, hours, st.floats(0, 5000), mws)
def test_an_event_pays_for_what_went_down_and_no_more_than_agreed(baseline, metered, h, rate, most):
    usd = programmes.demand_response_revenue_usd(baseline, metered, h, rate, most)
    event = {"hours": h, "baseline_mw": baseline, "metered_mw": metered, "mw": most}
    event |= {"before_mw": 0.0, "energy_usd_per_mwh": rate}
    assert close(settlement.response_lines(rows(start_at=NOON, programme="DR", **event))["usd"][0], usd)
    assert 0 <= usd <= most * h * rate
    if metered >= baseline:
        assert usd == 0


@few
@given(st.floats(-500, 500), hours, st.floats(0, 5000), st.floats(0, 500))
def test_an_event_is_worth_what_it_pays_less_margin_and_wake(margin, h, rate, wake):
    assert close(programmes.event_net_usd_per_mw(margin, h, rate, wake), h * rate - h * margin - wake)


@few
@given(st.sampled_from(sorted(LIMITS)), st.floats())
def test_what_is_outside_its_limit_is_refused_by_name_value_and_limit(name, value):
    limit = LIMITS[name]
    frame = pl.DataFrame({name: [limit.high, value]}, schema={name: pl.Float64})
    if limit.has(value):
        check(**{name: value})
        assert checked_columns(frame, name)[name][1] == value
        return
    with pytest.raises(ImplausibleValueError, match=f"^{name}=.* must be .*{limit.high:g}".replace("+", r"\+")):
        check(**{name: value})
    with pytest.raises(ImplausibleValueError, match=f"^row 1: {name}="):
        checked_columns(frame, name)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: power.decision_price([]), "0 LMPs: an interval has 1 to 3"),
        (lambda: power.decision_price([20.0, math.nan]), "lmp_usd_per_mwh=nan"),
        (lambda: power.pue_at(200.0, 1.1), "temperature_celsius=200: must be at least -60 and at most 65 °C"),
        (lambda: power.pue_at(20.0, 110.0), "pue=110: must be at least 1 and at most 3"),
        (lambda: gpu.revenue_usd_per_mwh(2.0, 0.0), "power_kw=0: must be above 0"),
        (lambda: gpu.revenue_usd_per_hour(2.0, 60.0), r"utilization=60: .* at most 1 \(a fraction\)"),
        (lambda: contract.all_in_usd_per_mwh(math.inf), "price_usd_per_mwh=inf"),
        (lambda: contract.expected_peak_usd_per_mwh(2.0), "probability=2"),
        (lambda: contract.expected_peak_usd_per_mwh(0.5, peaks_per_year=0), "peaks_per_year=0"),
        (lambda: contract.peak_charge_usd([1.0] * 5), "5 peak loads: a year has 4"),
        (lambda: contract.peak_charge_usd([-1.0]), "mw=-1"),
        (
            lambda: contract.with_hedges(pl.DataFrame(), [(NOON, NOON, 5.0, 40.0)]),
            "hedge of 5 MW .* must end after it starts",
        ),
        (lambda: contract.with_hedges(pl.DataFrame(), [(NOON, NOON, -5.0, 40.0)]), "mw=-5"),
        (lambda: programmes.reserve_revenue_usd(1.0, 1.0, -5.0), "capacity_usd_per_mw_h=-5"),
        (lambda: programmes.demand_response_revenue_usd(math.nan, 1.0, 1.0, 1.0), "mw=nan"),
        (lambda: profitability.confidence_factor(-1.0, 900.0), "age_s=-1"),
        (lambda: profitability.confidence_factor(1.0, 0.0), "stale_after_s=0"),
        (lambda: switching.asic_wake_usd_per_mw(100.0, 0.0), "efficiency_j_per_th=0"),
    ],
)
def test_bad_input_is_refused(call, told):
    with pytest.raises(ImplausibleValueError, match=told):
        call()


def test_what_the_feed_takes_for_plausible_the_formulas_do_too():
    for (stream, series), band in BANDS.items():
        name = {
            "btc.usd": "btc_usd",
            "gpu.spot": "rate_usd_per_gpu_hour",
            "weather.temperature": "temperature_celsius",
        }.get(stream.value, series)
        check(**{name: band.low})
        check(**{name: band.high})
    dearest = mining.hashprice_usd_per_ph_day(1e7, 1e10, 100.0, 100_000)
    assert mining.break_even_usd_per_mwh(dearest, 17.5) > 0
    power.decision_price([4 * DEFAULT_CAP_USD_PER_MWH])


@pytest.mark.parametrize(
    ("kind", "before", "after", "minutes"),
    [
        (ResourceType.ASIC, DeviceState.MINING_FULL, DeviceState.CURTAILED, 0),
        (ResourceType.ASIC, DeviceState.MINING_FULL, DeviceState.MINING_ECO, 0),
        (ResourceType.ASIC, DeviceState.CURTAILED, DeviceState.MINING_ECO, 10),
        (ResourceType.GPU, DeviceState.IDLE, DeviceState.CURTAILED, 0),
        (ResourceType.GPU, DeviceState.IDLE, DeviceState.INFERENCE_BATCH, 1),
        (ResourceType.GPU, DeviceState.INFERENCE_REALTIME, DeviceState.INFERENCE_BATCH, 1),
        (ResourceType.GPU, DeviceState.INFERENCE_BATCH, DeviceState.IDLE, 0),
        (ResourceType.GPU, DeviceState.INFERENCE_BATCH, DeviceState.TRAINING, 3),
        (ResourceType.GPU, DeviceState.TRAINING, DeviceState.IDLE, 1.5),
        (ResourceType.GPU, DeviceState.TRAINING, DeviceState.INFERENCE_BATCH, 2.5),
    ],
)
def test_each_kind_of_switch_costs_its_minutes_of_revenue(kind, before, after, minutes):
    cost = switching.switch_cost(kind, before, after)
    assert close(cost.at(60.0), minutes)


def test_training_that_is_taken_unannounced_computes_half_a_checkpoint_interval_again():
    assert close(switching.interruption_usd(60.0, is_announced=True), 1.5 + 3)
    assert close(switching.interruption_usd(60.0, is_announced=False), 15 + 3)


def test_below_20_degrees_a_site_needs_no_more_cooling():
    assert [power.pue_at(t, 1.1, 0.01) for t in (19.9, 20.0)] == [1.1, 1.1]
    assert close(power.pue_at(21.0, 1.1, 0.01), 1.11)
    assert close(pl.select(power.pue_columns(pl.lit(21.0), 1.1, 0.01)).item(), 1.11)


def test_without_a_forecast_the_rest_of_the_interval_is_expected_at_the_last_lmp():
    at = datetime(2025, 1, 1, tzinfo=UTC)
    assert power.decision_price_of([(at, 30.0), (at + timedelta(minutes=5), 60.0)]) == 50.0
