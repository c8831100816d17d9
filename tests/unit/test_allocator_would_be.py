"""In `observe` nothing is switched, and what would have been is recorded once a tick, in devices and dollars."""

import pytest

from hcp_pipelines.allocator import metrics
from hcp_pipelines.domain.modes import ControlMode
from tests.unit.test_allocator_owner import Rig


def counted(rig):
    return metrics.WOULD_BE.labels(rig.site.facility_id)._value.get()


@pytest.mark.parametrize("mode", [ControlMode.OBSERVE, ControlMode.APPROVE])
def test_what_would_have_been_is_recorded_once_a_tick(mode):
    rig = Rig(control_mode=mode)
    rig.plan()
    rig.owner.take_would_be()
    before = counted(rig)
    assert rig.tick(400.0) is None
    rig.owner.ask()
    assert rig.plan() is None
    rows = rig.owner.take_would_be()
    asleep = [r for r in rows if r.recommended_workload == "curtailed"]
    assert sum(r.devices for r in asleep) == 500
    assert {(r.actual_workload, r.tick_id, r.policy_id) for r in asleep} == {("bitcoin_mining", 101, 1)}
    price = rig.book.decision_price(rig.site.settlement_point)
    asleep_mw = sum(r.devices for r in asleep) * 0.025e-3 * rig.inventory.pue
    assert sum(r.expected_profit for r in asleep) == pytest.approx(-price * asleep_mw, rel=1e-6)
    assert counted(rig) - before == 500
    assert rig.owner.take_would_be() == []


def test_in_auto_it_is_done_instead():
    rig = Rig()
    assert rig.tick(400.0) is not None
    assert rig.owner.take_would_be() == []


def test_where_nothing_would_change_nothing_is_recorded():
    rig = Rig(control_mode=ControlMode.OBSERVE)
    assert rig.tick(30.0) is None
    assert rig.owner.take_would_be() == []
