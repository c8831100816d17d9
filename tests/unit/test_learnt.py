"""What a model says live is what it says in the back-test, of the same prices; and what is known live, by its kind."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from hcp_pipelines.domain.errors import ModelError
from hcp_pipelines.domain.modes import DeviceState, ResourceType
from hcp_pipelines.forecasting.hours import microseconds
from hcp_pipelines.forecasting.model_file import Artefact
from hcp_pipelines.forecasting.trees import LEAF, Trees
from hcp_pipelines.optimizer import waiting
from hcp_pipelines.optimizer.backtest.case import Case, Course, Known
from hcp_pipelines.optimizer.backtest.mpc import Mpc, outlook_of, trained
from hcp_pipelines.optimizer.inputs import FacilityInputs, GroupInputs, SiteInputs, StateInputs
from hcp_pipelines.optimizer.learnt import WAITING, Champion, with_worth
from hcp_pipelines.optimizer.price_record import record_of
from hcp_pipelines.optimizer.solve import solve_facility
from hcp_pipelines.optimizer.steps import INTERVAL_H, steps_of
from tests.support.recorded import random_prices

AT = datetime(2025, 1, 1, 12, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
PACKED = np.dtype([("at", ">i8"), ("value", ">f8")])
OFF, IDLE, FULL, BATCH = DeviceState.CURTAILED, DeviceState.IDLE, DeviceState.MINING_FULL, DeviceState.INFERENCE_BATCH
INDICES = {"hashprice": 50.0, "gpu.H100": 2.4}
MINERS = [
    GroupInputs(f"m{e}", "f", ResourceType.ASIC, 10, (StateInputs(OFF, 0.0), StateInputs(FULL, 0.2 * e, 200.0)))
    for e in (17.5, 21.5, 29.5)
]
GPUS = GroupInputs("h100", "f", ResourceType.GPU, 5, (StateInputs(IDLE, 0.4), StateInputs(BATCH, 1.3)), gpu_type="H100")
SITE = SiteInputs("hou-1", "HB_HOUSTON", 1, 0, 100.0, (*MINERS, GPUS))


def packed(values, start, step=QUARTER):
    rows = np.empty(len(values), dtype=PACKED)
    rows["at"] = microseconds(start) + round(step.total_seconds() * 1e6) * np.arange(len(values))
    rows["value"] = values
    return rows


def inputs(price=40.0):
    ages = {"power.rt_lmp": 20.0}
    return FacilityInputs(SITE, 1, AT + timedelta(seconds=20), price, INDICES, input_age_s=ages)


@pytest.fixture(scope="module")
def market():
    """Prices of forty days until AT, four hours of day-ahead prices more; `row` is the interval that begins at AT."""
    days = 40
    prices = np.r_[random_prices(96 * days + 1), np.full(16, np.nan)]
    hours = np.nan_to_num(prices, nan=60.0)[::4] + 5.0  # the hour's first price tells of the hour
    return prices, np.repeat(hours, 4)[: len(prices)], 96 * days


def case_of(market, revenue, wake_usd):
    prices, day_ahead, row = market
    course = Course(prices, np.full(len(prices), revenue), np.full(len(prices), wake_usd))
    starts = microseconds(AT - row * QUARTER) + 900_000_000 * np.arange(len(prices), dtype=np.int64)
    return Case(0.0, Known.AT_START, starts, 0.25, course, course, day_ahead)


def live(market):
    prices, day_ahead, row = market
    start = AT - row * QUARTER
    return record_of(
        packed(prices[:row], start), packed([], AT), packed(day_ahead[::4], start, 4 * QUARTER), AT, float(prices[row])
    )


@pytest.fixture(scope="module")
def model(market):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "BAG", 2)
        patch.setattr(waiting, "TREES", waiting.TREES | {"max_iter": 20, "min_samples_leaf": 20})
        lessons = [case_of(market, revenue, 12.0).cut(0, market[2]) for revenue in (50.0, 80.0, 110.0)]
        return trained(lessons, AT).model


def champion_of(model, **changes):
    return Champion(
        replace(Artefact(WAITING, model.regressor, model.columns, AT, 15, 0), **changes), 3, "0123456789abcdef"
    )


def test_live_strikes_are_the_back_tests_at_the_same_prices(model, market):
    prices, _, row = market
    asked = inputs(float(prices[row]))
    [told] = with_worth(champion_of(model), [asked], {"HB_HOUSTON": live(market)})
    assert {group for group, _ in told.worth_wakes} == {group.group_id for group in MINERS}, (
        "it has not learnt from GPUs"
    )
    policy = solve_facility(told)
    assert policy.strikes_from.words == "model waiting 3 (0123456789ab)"
    for group in MINERS:
        [step] = steps_of(group, SITE, 50.0)
        case = case_of(market, step.value.at(50.0), step.wake_usd_per_mw(50.0))
        expected = Mpc(model).strikes(case)
        block = next(each for each in policy.blocks if each.group_id == group.group_id)
        assert (block.on.at(50.0), block.off.at(50.0)) == pytest.approx((expected.on[row], expected.off[row]), abs=1e-3)
        assert outlook_of(case).names == model.columns


def test_the_plain_band_stands_where_the_last_days_are_not_known(model, market):
    short = live(market)
    short.known[: short.row - 96] = np.nan
    [told] = with_worth(champion_of(model), [inputs()], {"HB_HOUSTON": short})
    assert told.worth_wakes == {}
    assert told.strikes_from.words == "the plain band, as 24 of the last 48 hours' prices at HB_HOUSTON are known"
    block = next(each for each in solve_facility(told).blocks if each.index == "hashprice")
    assert block.off.at(50.0) - block.on.at(50.0) == pytest.approx(0.5 * block.wake_cost_usd_per_mw / INTERVAL_H)


def test_a_facility_without_miners_says_so(model, market):
    asked = replace(inputs(), site=replace(SITE, groups=(GPUS,)))
    [told] = with_worth(champion_of(model), [asked], {"HB_HOUSTON": live(market)})
    assert (told.worth_wakes, told.strikes_from.reason) == ({}, "it has no miners' step that a wake is paid for")


def constant(features, value):
    one = np.zeros(1, dtype=np.int32)
    leaf = np.full(1, LEAF, dtype=np.int32)
    nothing = np.zeros(1, dtype=np.float32)
    return Trees(
        features, 0.0, one, one.astype(np.int16), nothing, np.zeros(1, dtype=bool), leaf, leaf, np.array([value])
    )


@pytest.mark.parametrize(("says", "worth"), [(-7.0, 0.0), (1e9, 1.0), (0.25, 0.25)])
def test_what_it_says_is_never_below_nothing_or_above_a_wake(model, market, says, worth):
    found = champion_of(model, trees=constant(len(model.columns), says))
    [told] = with_worth(found, [inputs()], {"HB_HOUSTON": live(market)})
    assert set(told.worth_wakes.values()) == {worth}


def test_other_columns_than_this_version_makes_are_refused(model, market):
    found = champion_of(model, columns=("wind", *model.columns[1:]))
    with pytest.raises(ModelError, match="wants to see wind, which this version does not make"):
        with_worth(found, [inputs()], {"HB_HOUSTON": live(market)})


def test_a_record_tells_settled_from_running_intervals_and_holds_short_gaps():
    settled = packed([10.0, 20.0, 30.0], AT - 12 * QUARTER)
    lmps = packed([1.0, 2.0, 3.0, 4.0, 5.0, 9.0], AT - 2 * QUARTER, timedelta(minutes=5))
    record = record_of(
        settled, lmps, packed([70.0, 80.0], AT - 4 * QUARTER, 4 * QUARTER), AT + timedelta(minutes=5), 33.0
    )
    assert record.known[record.row - 12 : record.row + 2].tolist()[:3] == [10.0, 20.0, 30.0]
    assert record.known[record.row - 9 : record.row - 2].tolist() == [30.0] * 7  # held for less than two hours
    assert record.known[record.row - 2 : record.row + 1].tolist() == [
        2.0,
        6.0,
        33.0,
    ]  # means of LMPs, the decision price
    assert np.isnan(record.known[record.row + 1 :]).all()
    assert np.isnan(record.known[: record.row - 12]).all()
    assert record.day_ahead[record.row - 4 : record.row + 5].tolist()[:8] == [70.0] * 4 + [80.0] * 4
    assert record.known_h == 13 / 4


def test_a_long_gap_stays_one():
    settled = packed([10.0], AT - 20 * QUARTER)
    record = record_of(settled, packed([], AT), packed([], AT), AT, 33.0)
    assert np.isfinite(record.known).sum() == 1 + 8 + 1
    assert np.isnan(record.day_ahead).all()
