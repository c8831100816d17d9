"""Settlement by hand: what each line is, what is not known, and what a window's devices did."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.economics.settlement import response_lines
from hcp_pipelines.optimizer.settlement.day import Terms, settle, settle_stayed
from hcp_pipelines.optimizer.settlement.inputs import is_peak, peak_hours
from hcp_pipelines.optimizer.settlement.obligations import OBLIGATION, events, missed, promises
from hcp_pipelines.optimizer.settlement.switch_value import switch_values
from tests.support.replayed import START, switch
from tests.support.settled import FIRST_SLOTS, FLEET, day_of, spells_of, usd

MINUTE = timedelta(minutes=1)
GROUP = FLEET.groups[0]
LOW, TOP = int(GROUP.ladder[0].state), int(GROUP.ladder[-1].state)
FIRST = FIRST_SLOTS[GROUP.group_id]
FULL_MW = FLEET.full_mw


def quarters(n):
    return pl.DataFrame({"start_at": [START + i * 15 * MINUTE for i in range(n)]}, schema={"start_at": INSTANT})


def obligation(programme="ECRS", status="settled", **changes):
    row = {
        "obligation_id": 1, "programme": programme, "status": status, "mw": 2.0, "start_at": START + 20 * MINUTE,
        "end_at": START + 60 * MINUTE, "notice_s": 600.0, "duration_s": 3600.0, "penalty_usd_per_mwh": 100.0,
    }  # fmt: skip
    return pl.DataFrame([row | changes], schema=OBLIGATION)


def test_nothing_happens_for_an_hour():
    lines = settle(day_of([40.0, -20.0, 0.0, 60.0]), spells_of([], 4))
    assert usd(lines, "energy") == round(-FULL_MW * 0.25 * 80.0, 6)
    assert set(lines["basis"]) == {"journal", ""}
    assert usd(lines, "pool_fee") == round(-usd(lines, "mining") * FLEET.site.pool_fee_fraction, 6)


def test_a_meter_goes_before_the_devices_and_a_hedge_is_a_line_of_its_own():
    terms = Terms(hedges=((START, START + 30 * MINUTE, 4.0, 30.0),))
    meter = [(START + 15 * MINUTE, 1.0, "metered")]
    lines = settle(day_of([50.0] * 4, terms=terms, meter=meter), spells_of([], 4))
    energy = lines.filter(pl.col("kind") == "energy").select("basis", pl.col("usd").cast(pl.Float64)).rows()
    assert energy[1] == ("metered", -50.0)
    assert energy[0] == ("journal", round(-FULL_MW * 0.25 * 50.0, 6))
    assert usd(lines, "hedge") == 2 * 4.0 * 0.25 * 20.0


def test_what_has_no_price_has_no_dollars_and_is_there():
    lines = settle(day_of([50.0, None], hashprice=None), spells_of([], 2))
    assert lines.filter(pl.col("kind") == "energy")["usd"].is_null().to_list() == [False, True]
    assert lines.filter(pl.col("kind") == "mining")["usd"].is_null().all()


def test_a_price_that_is_no_number_is_not_known_and_spoils_nothing_else():
    switched = spells_of([switch("off", 5, range(FIRST, FIRST + 4), (TOP, LOW))], 3)
    for price in (float("nan"), float("inf")):
        day, unknown = (day_of([50.0, each, 40.0]) for each in (price, None))
        assert settle(day, switched)["usd"].to_list() == settle(unknown, switched)["usd"].to_list()
        assert switch_values(day, switched).equals(switch_values(unknown, switched))


def test_a_switch_within_an_interval_counts_for_its_part_and_a_wake_is_paid():
    told = [
        switch("off", 5, range(FIRST, FIRST + 4), (TOP, LOW)),
        switch("on", 20, range(FIRST, FIRST + 4), (LOW, TOP)),
    ]
    day, done = day_of([50.0, 50.0]), spells_of(told, 2)
    hours = done.device_hours()
    assert np.allclose(hours[:, 0, LOW], [4 * 10 / 60, 4 * 5 / 60])
    assert np.allclose(hours.sum(axis=2), FLEET.devices * 0.25)
    wakes = settle(day, done).filter(pl.col("kind") == "wakes")
    assert wakes.select("start_at", "quantity").rows() == [(START + 15 * MINUTE, 4.0)]
    assert usd(wakes) == round(-4 * (FLEET.wake_usd_per_index[0] * 55.0 + FLEET.wake_usd[0]), 6)
    assert settle_stayed(day, done).filter(pl.col("kind") == "wakes").is_empty()


def test_a_peak_hour_costs_its_mean_load_and_only_where_the_contract_says_so():
    done = spells_of([], 8)
    lines = settle(day_of([0.0] * 8, peaks=(4, 5, 6, 7), terms=Terms(peak_usd_per_kw_year=65.0)), done)
    assert abs(usd(lines, "peak_charge") + FULL_MW * 16_250) < 1e-5
    assert usd(settle(day_of([0.0] * 8, peaks=(4, 5, 6, 7)), done), "peak_charge") == 0


def test_the_peak_of_a_month_is_local_and_the_first_of_equals():
    loads = pl.DataFrame(
        [(START.replace(month=7, day=1), 90.0), (START.replace(month=7, day=9), 80.0), (START.replace(month=7, day=10), 80.0),
         (START.replace(month=5, day=3), 99.0)],
        schema={"start_at": INSTANT, "load_mw": pl.Float64}, orient="row",
    )  # fmt: skip
    assert peak_hours(loads, (6, 7)) == [
        START.replace(month=7, day=1),
        START.replace(month=7, day=9),
    ]  # 1 July 00:00Z is June


def test_in_a_month_of_peaks_an_hour_without_demand_may_be_one_and_is_told():
    july = START.replace(month=7, day=5)
    loads = pl.DataFrame([(july, 90.0)], schema={"start_at": INSTANT, "load_mw": pl.Float64}, orient="row")
    starts = pl.DataFrame({"start_at": [START, july, july + 60 * MINUTE]}, schema={"start_at": INSTANT})
    assert starts.select(is_peak(loads)).to_series().to_list() == [False, True, None]
    lines = settle(
        day_of([0.0] * 2, peaks=(), unknown_peaks=(1,), terms=Terms(peak_usd_per_kw_year=65.0)), spells_of([], 2)
    )
    assert lines.filter(pl.col("kind") == "peak_charge")["usd"].to_list() == [None]


def test_what_miners_told_is_what_they_are_paid_for_but_for_a_wakes_wear():
    told = [
        switch("off", 15, range(FIRST, FIRST + 4), (TOP, LOW)),
        switch("on", 30, range(FIRST, FIRST + 4), (LOW, TOP)),
    ]
    rests_on = ("told", "told", "credited", "told")
    done, hashed = (
        spells_of(told, 4),
        [(START + n * 15 * MINUTE, GROUP.group_id, 0.01 * n, basis) for n, basis in enumerate(rests_on)],
    )
    day, plain = day_of([50.0] * 4, hashed=hashed), day_of([50.0] * 4)
    lines, without = settle(day, done), settle(plain, done)
    fee, wear = FLEET.site.pool_fee_fraction, FLEET.wake_usd[0] * 4
    of_group = lines.filter(
        pl.col("group_id") == GROUP.group_id, pl.col("kind").is_in(["mining", "hash_deviation", "pool_fee", "wakes"])
    )
    assert float(of_group["usd"].sum()) == pytest.approx(0.06 * 55.0 * (1 - fee) - wear, abs=1e-4)
    assert usd(lines, "mining") == usd(without, "mining")
    deviation = lines.filter(kind="hash_deviation")
    assert deviation["unit"].unique().to_list() == ["PH-day"]
    assert tuple(deviation["detail"]) == rests_on
    counterfactual = usd(settle_stayed(day, done), "hash_deviation")
    assert counterfactual == usd(lines, "hash_deviation")
    values = [float(switch_values(each, done)["realised_usd"].sum()) for each in (day, plain)]
    assert values[0] == values[1], "no switch is to blame for it"


def test_reserves_are_paid_for_what_was_promised_whatever_became_of_it():
    capacity = pl.DataFrame(
        [(START, "ECRS", 8.0)],
        schema={"start_at": INSTANT, "product": pl.String, "price_usd_per_mw_h": pl.Float64},
        orient="row",
    )
    found = promises(obligation(), quarters(4), capacity)
    assert found["mw_h"].round(6).to_list() == [round(2.0 * m / 60, 6) for m in (10, 15, 15)]
    assert found["capacity_usd_per_mw_h"].to_list() == [8.0] * 3
    assert len(promises(obligation(status="failed"), quarters(4), capacity)) == 3
    assert promises(obligation(status="withdrawn"), quarters(4), capacity).is_empty()
    assert promises(obligation("DR-1"), quarters(4), capacity).is_empty()


def test_what_failed_is_charged_for_what_was_not_delivered_in_the_event():
    called = {"deployed_at": START + 20 * MINUTE, "recalled_at": START + 45 * MINUTE, "delivered_fraction": 0.75}
    found = missed(obligation(status="failed", **called), quarters(4))
    assert found["missed_mwh"].round(6).to_list() == [round(2.0 * 0.25 * 15 / 60, 6)]  # from 30 to 45 minutes
    assert missed(obligation(**called), quarters(4)).is_empty()
    never_called = missed(obligation(status="failed"), quarters(4))
    assert round(never_called["missed_mwh"].sum(), 6) == round(2.0 * 40 / 60, 6)


def test_demand_response_pays_what_went_below_the_baseline_and_its_switch_has_it():
    called = {"deployed_at": START, "notice_s": 0.0, "baseline_mw": FULL_MW, "mw": 10.0, "end_at": START + 30 * MINUTE}
    asked = obligation("DR-1", start_at=START, **called)
    found = events(asked, quarters(4), {"DR-1": 1000.0})
    told = [switch("off", 15, range(FIRST, FIRST + 4), (TOP, LOW), reason="demand_response")]
    day, done = day_of([0.0] * 4, hashprice=0.0, events=found.rows()), spells_of(told, 4)
    gone = (FLEET.power_mw[0, TOP] - FLEET.power_mw[0, LOW]) * 4
    assert abs(usd(settle(day, done), "demand_response") - gone * 0.25 * 1000.0) < 1e-5
    assert abs(float(switch_values(day, done)["realised_usd"][0]) - gone * 0.25 * 1000.0) < 1e-5
    assert events(asked, quarters(4), {}).is_empty()


def test_load_that_went_is_paid_once_by_two_events_at_a_time():
    first = obligation(
        "DR-1", obligation_id=1, start_at=START, notice_s=0.0, deployed_at=START, baseline_mw=10.0, mw=6.0
    )
    later = {"deployed_at": START + 5 * MINUTE, "end_at": START + 30 * MINUTE, "notice_s": 0.0, "baseline_mw": 4.0}
    second = obligation("DR-2", obligation_id=2, start_at=START, mw=6.0, **later)
    after = obligation(
        "DR-2", obligation_id=3, **(later | {"deployed_at": START + 35 * MINUTE, "end_at": START + 60 * MINUTE})
    )
    rates = {"DR-1": 1000.0, "DR-2": 1000.0}
    found = events(pl.concat([second, after, first]), quarters(4), rates)
    assert found["baseline_mw"].unique().to_list() == [10.0], "the second's own was read when the first's load had gone"
    of_second = found.filter(programme="DR-2").select("start_at", "before_mw").rows()
    assert of_second == [
        (START + n * 15 * MINUTE, 6.0) for n in range(4)
    ]  # the one that is over is not before the third
    paid = response_lines(found.filter(pl.col("start_at") == START).with_columns(metered_mw=pl.lit(1.0)))
    assert paid["quantity"].to_list() == [6.0 * 0.25, pytest.approx(3.0 * 10 / 60)]  # 9 MW went, whoever asked
