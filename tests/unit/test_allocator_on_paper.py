"""What a policy would have earned where it may not act: it goes on from tick to tick, pays its wakes, and moves nothing."""

import numpy as np
import pytest

from hcp_pipelines.allocator.on_paper import refitted
from hcp_pipelines.domain.modes import ControlMode, DeviceState
from tests.unit.test_allocator_owner import Rig

OFF, FULL = int(DeviceState.CURTAILED), int(DeviceState.MINING_FULL)


def followed(prices, mode=ControlMode.OBSERVE):
    rig = Rig(control_mode=mode)
    rig.plan()
    rig.owner.take_paper()
    rows = []
    for price in prices:
        assert rig.tick(price, minutes=15.0) is None
        rows += rig.owner.take_paper()
    return rig, rows


@pytest.mark.parametrize("mode", [ControlMode.OBSERVE, ControlMode.APPROVE])
def test_a_spike_that_nobody_obeys_costs_what_the_paper_saves(mode):
    _, rows = followed([30.0, 400.0, 400.0, 30.0, 30.0], mode)
    spiked = [row for row in rows if row.hours > 0 and row.usd_actual < 0]
    assert spiked, "at 400 $/MWh the devices lose money"
    assert all(row.usd_paper > row.usd_actual for row in spiked)
    (woken,) = [row for row in rows if row.wake_usd > 0]
    assert woken.usd_paper == pytest.approx(rows[2].usd_paper - woken.wake_usd, rel=0.05), (
        "asleep as the tick before, and then woken"
    )
    assert {row.mw_actual for row in rows} == {rows[0].mw_actual}, "nothing was switched"
    assert rows[1].mw_paper < 0.1 * rows[1].mw_actual
    assert rows[-1].mw_paper == pytest.approx(rows[-1].mw_actual)
    assert sum(row.devices for row in rows) == 2 * 500
    assert {(row.control_mode, row.policy_id) for row in rows} == {(mode.value, 1)}
    assert rows[1].hours == pytest.approx(0.25)


def test_dollars_are_rates_of_the_tick_before_times_hours_and_each_wake_is_paid_once():
    rig, rows = followed([30.0, 30.0, 400.0, 30.0])
    compiled = rig.owner.in_force.compiled
    value = compiled.revenue_usd_per_hour(rig.book.indices) - 30.0 * compiled.power_mw
    rate = float((rig.owner.present() * value).sum())
    assert rows[1].usd_actual == pytest.approx(rate * rows[1].hours, rel=1e-9)
    assert rows[1].usd_paper == pytest.approx(rows[1].usd_actual)
    each = compiled.block_mw_per_device * compiled.wake_cost_usd_per_mw
    miners = [n for n, key in enumerate(compiled.block_keys) if "mining" in key]
    devices = {
        key: block.devices
        for key, block in zip(compiled.block_keys, sorted(compiled.policy.blocks, key=lambda b: b.order), strict=True)
    }
    expected = sum(each[n] * devices[compiled.block_keys[n]] for n in miners)
    assert sum(row.wake_usd for row in rows) == pytest.approx(expected)
    assert sum(row.wake_usd > 0 for row in rows) == 1


def test_in_auto_there_is_no_paper():
    rig = Rig()
    rig.tick(400.0)
    assert rig.owner.take_paper() == []


def test_a_long_silence_counts_for_an_hour():
    rig, _ = followed([30.0])
    rig.tick(31.0, minutes=300.0)
    assert [row.hours for row in rig.owner.take_paper()] in ([], [1.0])


def test_who_comes_is_asleep_and_who_goes_was_asleep_first():
    compiled = Rig().owner.in_force.compiled
    counts = np.zeros(compiled.power_mw.shape, dtype=np.int64)
    ladder = compiled.ladders[0]
    counts[0, ladder[0]], counts[0, ladder[-1]] = 3, 5
    present = counts.copy()
    present[0, ladder[-1]] += 4
    assert refitted(counts, present, compiled)[0, [ladder[0], ladder[-1]]].tolist() == [7, 5]
    present[0] = 0
    present[0, ladder[-1]] = 4
    assert refitted(counts, present, compiled)[0, [ladder[0], ladder[-1]]].tolist() == [0, 4]
