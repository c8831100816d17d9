"""A replay: the market as it was known, what was done from the journal, policies followed, and a ledger that adds up."""

import tracemalloc
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.fleet.solve_sites import site_inputs
from hcp_pipelines.forecasting.hours import microseconds
from hcp_pipelines.optimizer.backtest.replay.fleet import KINDS, case_of, fleet_of, schedule_of, settle
from hcp_pipelines.optimizer.backtest.replay.history import history_of
from hcp_pipelines.optimizer.backtest.replay.realised import realised, reasons_of
from hcp_pipelines.optimizer.backtest.replay.run import OWN_BAND, InForce, followed, replay
from hcp_pipelines.optimizer.backtest.series import SeriesError
from hcp_pipelines.optimizer.backtest.simulate import simulate
from hcp_pipelines.optimizer.inputs import FacilityInputs
from hcp_pipelines.optimizer.solve import solve_facility
from tests.support.fleet import POINT, inventory
from tests.support.recorded import random_prices
from tests.support.replayed import START, STEP, TICKS, journal, switch, ticks

INVENTORY = inventory(60)
SITE = site_inputs(INVENTORY)
FLEET = fleet_of(SITE)
FIRST_SLOTS = dict(
    zip([g.group_id for g in SITE.groups], np.cumsum([0, *(g.devices for g in SITE.groups)]).tolist(), strict=False)
)


def history(lmps):
    return history_of(ticks(lmps), POINT, SITE.indices, START, START + len(lmps) * STEP)


def lmps_of_days(days, seed=0):
    return np.repeat(random_prices(96 * days, seed), 3)


def policy_of(at=START, price=40.0):
    found = history([price])
    indices = {name: float(values[0]) for name, values in found.indices.items()}
    return solve_facility(FacilityInputs(SITE, 1, at, price, indices))


def test_a_step_knows_the_decision_price_and_settles_at_its_interval():
    found = history([20.0, 50.0, 80.0, 30.0, 30.0, 30.0])
    assert found.known_usd_per_mwh.tolist() == [20.0, 40.0, 50.0, 30.0, 30.0, 30.0]
    assert found.settled_usd_per_mwh.tolist() == [50.0] * 3 + [30.0] * 3
    assert set(found.indices) == set(SITE.indices)


def test_settlement_prices_go_before_their_lmps_and_revisions_are_not_known_beforehand():
    rows = [
        ("power.rt_spp", POINT, START, 0, 44.0),
        ("power.rt_spp", POINT, START, 1, 45.0),
        ("power.rt_lmp", POINT, START, 1, 900.0),
    ]
    recorded = pl.concat([ticks([20.0] * 3), pl.DataFrame(rows, schema=TICKS, orient="row")])
    found = history_of(recorded, POINT, SITE.indices, START, START + 3 * STEP)
    assert found.known_usd_per_mwh.tolist() == [20.0] * 3
    assert found.settled_usd_per_mwh.tolist() == [45.0] * 3


def test_what_was_not_recorded_is_left_out():
    whole = ticks([20.0] * 6)
    gap = whole.filter((pl.col("timestamp") != START + 2 * STEP) | (pl.col("stream") != "power.rt_lmp"))
    found = history_of(gap, POINT, SITE.indices, START, START + 6 * STEP)
    assert len(found) == 5
    with pytest.raises(SeriesError, match="choose a window in which the platform ran"):
        history_of(whole, POINT, SITE.indices, START + timedelta(days=9), START + timedelta(days=10))


def test_the_journal_by_hand():
    group, first = SITE.groups[0], FIRST_SLOTS[SITE.groups[0].group_id]
    low, top = int(group.ladder[0].state), int(group.ladder[-1].state)
    slots = list(range(first, first + 10))
    rows = journal(
        switch("before", -30, slots[:2], (top, low)),
        switch("a", 5, slots[2:8], (top, low), acked=5),
        switch("b", 12.5, slots[2:4], (low, top), failed=1),
    )
    done = realised(rows, FLEET, FIRST_SLOTS, history([30.0] * 6))
    assert (int(done.start[0, low]), int(done.start[0].sum())) == (2, group.devices)
    assert done.schedule.counts[:, 0, low].tolist() == [2.0, 7.0, 6.0, 5.5, 6.0, 6.0]
    assert done.schedule.counts[:, 0].sum(axis=1).tolist() == [float(group.devices)] * 6
    assert done.schedule.wakes[:, 0].tolist() == [0.0, 0.0, 2.0, 0.0, 0.0, 0.0]
    assert done.unnamed == int(FLEET.devices.sum()) - 8
    assert reasons_of(rows, START) == ["journal: 8 devices told to switch for economics, -0.02 MW"]


def test_the_ledger_by_hand():
    found = history([30.0] * 3)
    ledger = settle(FLEET, found, schedule_of(FLEET, FLEET.highest(), np.repeat(FLEET.highest()[None], 3, axis=0)))
    assert ledger.parts()["energy"] == pytest.approx(-FLEET.full_mw * 0.25 * (30.0 + SITE.adders_usd_per_mwh))
    assert ledger.parts()["switching"] == 0
    assert (ledger.curtailed_mwh, ledger.switches_per_device_day) == (pytest.approx(0), 0)
    revenue = sum(
        FLEET.usd_per_hour_per_index[g, group.ladder[-1].state]
        * group.devices
        * float(found.indices[group.index][0])
        * 0.25
        for g, group in enumerate(SITE.groups)
    )
    assert sum(ledger.parts()[kind] for kind in KINDS[:3]) == pytest.approx(revenue)


def test_a_published_policy_is_followed_as_its_own_band_says():
    """On a ladder of two states its strikes are the band that it was made with; both have the guard."""
    group = SITE.groups[0]
    ladder = group.ladder[0], group.ladder[-1]
    site = replace(SITE, groups=(replace(group, ladder=ladder),), adders_usd_per_mwh=0.0)
    fleet, found = fleet_of(site), history(lmps_of_days(5))
    indices = {name: float(values[0]) for name, values in found.indices.items()}
    policy = solve_facility(FacilityInputs(site, 1, START, 40.0, indices)).model_dump_json()
    mix = followed(fleet, found, fleet.highest(), [InForce(microseconds(START), policy)])
    case = case_of(fleet, found, 0)
    expected = simulate(case, OWN_BAND.strikes(case), is_guarded=True)
    assert (mix[:, 0, ladder[-1].state] > 0).tolist() == expected.is_on.tolist()
    assert 0 < expected.is_on.mean() < 1


def test_before_its_first_policy_nothing_moves_and_a_newer_one_takes_over():
    found = history([20.0] * 6)
    asleep = FLEET.all_in({g: int(group.ladder[0].state) for g, group in enumerate(SITE.groups)})
    policies = [InForce(microseconds(START + 2 * STEP), policy_of().model_dump_json())]
    mix = followed(FLEET, found, asleep, policies)
    assert (mix[:2] == asleep).all()
    assert (mix[2:] != asleep).any(axis=(1, 2)).all()


def replayed(days=3, strategies=(), rows=()):
    lmps = lmps_of_days(days)
    found = history(lmps)
    done = realised(journal(*rows), FLEET, FIRST_SLOTS, found)
    window = START, START + len(lmps) * STEP
    policies = [InForce(microseconds(START), policy_of().model_dump_json())]
    return replay(FLEET, found, window, done, policies, strategies)


def test_who_did_nothing_earned_what_always_on_does_and_nobody_beats_foresight():
    found = replayed()
    net = {name: float(ledger.net_usd.sum()) for name, ledger in found.ledgers.items()}
    assert list(net) == ["realised", "always_on", "break_even", "hysteresis", "published", "oracle"]
    assert net["realised"] == pytest.approx(net["always_on"])
    assert max(net.values()) == net["oracle"]
    assert net["published"] > net["always_on"]
    assert (found.gaps["break_even"].share, found.gaps["oracle"].share) == (0, 1)
    assert any("60 of 60 devices are never named" in note for note in found.notes)
    assert any("ramps" in note for note in found.notes)


def test_steps_that_the_window_lacks_are_counted_and_none_of_what_lies_before_it():
    """A platform's history begins long after the 180 days that are looked for to learn from."""
    assert not any("left out" in note for note in replayed().notes)
    found = history(lmps_of_days(3))
    window = START + timedelta(days=2), START + timedelta(days=3, hours=1)
    done = realised(journal(), FLEET, FIRST_SLOTS, found.since(found.row_at(microseconds(window[0]))))
    notes = replay(FLEET, found, window, done, [], ("always_on",)).notes
    assert "12 steps have no recorded price or index, and are left out for everybody" in notes


def test_what_can_not_be_run_is_said():
    with pytest.raises(ConfigError, match="no strategy field"):
        replayed(strategies=("field",))
    with pytest.raises(ConfigError, match="nothing to learn from"):
        replayed(strategies=("mpc",))


def test_nobody_beats_foresight_from_a_mixed_start_either():
    first, top = FIRST_SLOTS[SITE.groups[0].group_id], int(SITE.groups[0].ladder[-1].state)
    asleep = switch("before", -30, range(first, first + 9), (top, int(SITE.groups[0].ladder[0].state)))
    found = replayed(rows=[asleep])
    net = {name: float(ledger.net_usd.sum()) for name, ledger in found.ledgers.items()}
    assert max(net.values()) == net["oracle"]
    assert net["realised"] < net["always_on"]
    assert found.ledgers["always_on"].parts()["switching"] < 0


def test_a_group_that_sells_nothing_sleeps_in_the_oracle():
    fleet = fleet_of(replace(SITE, gpu_utilization=0.0))
    assert not fleet.earns[-1].any(), "the GPUs"
    lmps = lmps_of_days(1)
    found = history(lmps)
    done = realised(journal(), fleet, FIRST_SLOTS, found)
    told = replay(fleet, found, (START, START + len(lmps) * STEP), done, (), ("oracle",))
    net = {name: float(ledger.net_usd.sum()) for name, ledger in told.ledgers.items()}
    assert net["oracle"] > net["realised"]


def test_a_long_journal_of_many_devices_costs_no_more_memory_than_its_bitmaps():
    site = site_inputs(inventory(200_000))
    fleet, group = fleet_of(site), max(site.groups, key=lambda group: group.devices)
    first = dict(
        zip([g.group_id for g in site.groups], np.cumsum([0, *(g.devices for g in site.groups)]).tolist(), strict=False)
    )
    slots = range(first[group.group_id], first[group.group_id] + group.devices)
    low, top = int(group.ladder[0].state), int(group.ladder[-1].state)
    once = journal(switch("a", 5, slots, (top, low)))
    rows = pl.concat(once.with_columns(command_id=pl.lit(str(n))) for n in range(200))
    found = history([30.0] * 6)
    tracemalloc.start()
    try:
        done = realised(rows, fleet, first, found)
        peak_mb = tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()
    assert done.schedule.counts[-1, site.groups.index(group), low] == group.devices
    assert peak_mb < 0.5 * 200 * group.devices * 4 / 1e6  # as numbers of four bytes
