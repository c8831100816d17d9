"""What a preview says is what an owner then does, and nothing leaves for it."""

import dataclasses
from datetime import timedelta

import numpy as np
import pytest

from hcp_pipelines.allocator.decide import InForce
from hcp_pipelines.allocator.obligation_table import Rows
from hcp_pipelines.allocator.preview import Situation, preview, with_lock, with_order, with_policy
from hcp_pipelines.allocator.standing import NOTHING_STANDS, Lockout, Timed
from hcp_pipelines.domain.modes import ControlMode
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.directives import Directive, Kind
from hcp_pipelines.policy.obligations import Obligation, Status
from hcp_pipelines.wire.slots import encode_slots
from tests.support import fleet
from tests.support.fleet import NOON


def situation(price=30.0, solved_at_price=None, **changes):
    inventory, site = fleet.inventory(**changes), fleet.site(**changes)
    book = fleet.book(price)
    policy = fleet.policy(inventory, fleet.book(solved_at_price or price))
    states = np.zeros(site.shape.slots, dtype=np.uint8)
    for g, ladder in enumerate(site.shape.ladders):
        states[site.shape.group_of_slot == g] = ladder[-1]
    return Situation(
        site=site, commanded=states.tobytes(), observed=states.tobytes(), book=book,
        in_force=InForce(1, policy, compile_policy(policy)), standing=NOTHING_STANDS, obligations=Rows(), bookings=[],
        switches=[], memory={}, now=NOON,
    )  # fmt: skip


def ordered(base, kind, until=None, **facts):
    return with_order(base, Timed(Directive("x/0", kind, "preview", "why", **facts), base.now, until))


def test_where_nothing_changes_nothing_is_said_to():
    found = preview(situation())
    assert (found.devices, found.waves, found.reached, found.is_complete) == (0, 0, (), True)
    assert found.mw_now == found.mw_then
    assert found.usd_per_hour_now == found.usd_per_hour_then


def test_a_curtailment_says_devices_mw_dollars_and_by_when():
    base = situation(ramps=(fleet.ramp("facility", 0.05),))
    now = preview(base).mw_now
    found = preview(ordered(base, Kind.CURTAIL, cap_mw=now / 2))
    assert found.mw_then <= now / 2 < found.mw_then + base.site.shape.power_mw.max()
    gone = [g.now[s] - g.then.get(s, 0) for g in found.groups for s in g.now]
    assert found.devices == sum(n for n in gone if n > 0)
    assert found.usd_per_hour_then < found.usd_per_hour_now
    assert (found.waves, found.reasons, found.is_complete) == (1, ("operator_curtailment",), True), "no ramp delays it"
    assert found.reached[-1].mw == pytest.approx(found.mw_then)
    slowest = max(base.site.settle_s[g, s] for g, ladder in enumerate(base.site.shape.ladders) for s in ladder)
    assert 0 < found.reached[0].after_s <= found.reached[-1].after_s <= slowest


def test_an_override_is_paced_by_the_ramps_and_the_preview_says_how_long():
    base = situation(ramps=(fleet.ramp("facility", 0.4),))
    base = ordered(base, Kind.OVERRIDE, base.now + timedelta(minutes=1), group_id=base.site.shape.group_ids[0])
    found = preview(base)
    assert found.waves > 1
    assert found.reached[-1].after_s > 300 * (found.waves - 1) - 1, "its own end in a minute is not what is looked at"
    used = preview(dataclasses.replace(base, bookings=[(NOON.timestamp() - 200, "feeder-1", -0.4)]))
    assert used.reached[0].after_s >= found.reached[0].after_s + 99, (
        "what the window holds already has to leave it first"
    )


def test_what_takes_longer_than_an_hour_is_said_to():
    base = situation(ramps=(fleet.ramp("facility", 0.02),))
    group = base.site.shape.group_ids[0]
    found = preview(ordered(base, Kind.OVERRIDE, group_id=group))
    assert not found.is_complete


def test_a_lock_counts_in_mw_and_nothing_else_moves_for_it():
    base = situation()
    found = preview(
        with_lock(base, Lockout(0, "p", "why", "device", slots=encode_slots(np.arange(10, dtype=np.uint32))))
    )
    assert (found.devices, found.reasons) == (10, ("lockout",))
    assert found.mw_then < found.mw_now


def test_a_stop_says_what_can_not_go():
    base = situation()
    found = preview(ordered(base, Kind.STOP, cap_mw=0.0))
    assert found.mw_then > 0
    assert any("can't go" in text for text in found.unmet)


@pytest.mark.parametrize("mode", [ControlMode.AUTO, ControlMode.OBSERVE])
def test_a_policy_is_tried_in_every_control_mode(mode):
    base = situation(control_mode=mode)
    greedy = fleet.policy(fleet.inventory(), fleet.book(30.0), basis=7)
    never = {"slope": 0.0, "offset": -1000.0}
    blocks = tuple(
        b.model_copy(update={"on": b.on.model_copy(update=never), "off": b.off.model_copy(update=never)})
        for b in greedy.blocks
    )
    greedy = greedy.model_copy(update={"blocks": blocks})
    found = preview(with_policy(base, InForce(2, greedy, compile_policy(greedy))))
    assert found.mw_then < found.mw_now
    assert "economics" in found.reasons
    assert preview(base).devices == 0


def test_a_preview_leaves_the_situation_as_it_was():
    base = situation()
    curtailed = ordered(base, Kind.CURTAIL, cap_mw=0.0)
    assert preview(curtailed) == preview(curtailed)
    assert preview(base).devices == 0


def test_what_armed_obligations_it_would_break_is_said_with_the_penalty():
    armed = Obligation(
        7, "hou-1", "ECRS", Status.ARMED, 0.1, NOON.timestamp(), NOON.timestamp() + 7200.0, 600.0, 3600.0, 600.0,
        penalty_usd_per_mwh=9000.0,
    )  # fmt: skip
    base = dataclasses.replace(situation(), obligations=Rows((armed,)))
    assert preview(base).broken == ()
    stopped, locked = ordered(base, Kind.STOP, cap_mw=0.0), with_lock(base, Lockout(0, "p", "why", "site"))
    for broken in (stopped, locked):
        (text,) = preview(broken).broken
        assert text.startswith("obligation/7 (ECRS, 0.1 MW) is armed, at 9000 $/MWh if missed: 0.000 of 0.100 MW"), text
