"""The guard's accounts, re-solve bounds, and each reason for which a policy is not taken."""

from datetime import timedelta

import numpy as np
import pytest
from pydantic import ValidationError

from hcp_pipelines.domain.modes import STATE_COUNT, ReasonCode
from hcp_pipelines.policy.admission import AdmissionContext, Admitted, NeedsApproval, Refused, admit
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.guard import GuardState
from hcp_pipelines.policy.schema import (
    Adder,
    Affine,
    Anchor,
    Block,
    Couplings,
    LadderStep,
    Policy,
    PolicyGroup,
    ResolveBounds,
)
from tests.support.policies import ECO, FULL, NOW, OFF, asked, load_mw

WAKE_COST = 10.0
EARNS = 100.0  # $/MWh at the anchor
ON, OFF_STRIKE = 60.0, 140.0


def block(group="a", *, on=ON, off=OFF_STRIKE, order=0, devices=10, state=FULL, below=OFF):
    return Block(
        group_id=group, from_state=below, to_state=state, devices=devices, mw=devices * 0.001, order=order,
        index="hashprice", on=Affine(offset=on), off=Affine(offset=off), wake_cost_usd_per_mw=WAKE_COST,
    )  # fmt: skip


def group(name="a", feeder="f1", ladder=((OFF, 0.0), (FULL, 1.0))):
    steps = tuple(
        LadderStep(
            state=s, power_kw=kw, index="hashprice", revenue_usd_per_device_hour=Affine(slope=EARNS * kw / 1000 / 50)
        )
        for s, kw in ladder
    )
    return PolicyGroup(group_id=name, feeder_id=feeder, devices=10, ladder=steps)


def policy(*blocks, groups=None, **changes):
    fields = {
        "facility_id": "f", "settlement_point": "P", "basis_tick_id": 7, "solved_at": NOW, "refresh_due_at": NOW,
        "expires_at": NOW + timedelta(hours=6), "input_age_s": {"power.rt_lmp": 30.0}, "inventory_generation": 2,
        "groups": groups or (group(),), "blocks": blocks or (block(),),
        "couplings": Couplings(cap_mw=1.0, floor_mw=0.0, feeder_caps_mw={"f1": 1.0}),
        "resolve": ResolveBounds(relative={"hashprice": 0.1}),
        "anchor": Anchor(
            decision_price_usd_per_mwh=50.0, indices={"hashprice": 50.0}, devices_by_state={}, target_by_state={}
        ),
    }  # fmt: skip
    return Policy(**fields | changes)


def counts(on, off=0, groups=1):
    out = np.zeros((groups, STATE_COUNT), dtype=np.int64)
    out[:, FULL], out[:, OFF] = on, off
    return out


# -- guard ------------------------------------------------------------------------------------------------------------


def hours_until_it_moves(price, present, limit=50):
    compiled = compile_policy(policy())
    guard = GuardState.empty(compiled)
    for hour in range(1, limit):
        got = asked(compiled, present, price, guard=guard, elapsed_h=1.0)
        if not np.array_equal(got.targets, present):
            assert got.reasons == (ReasonCode.GUARD,)
            return hour, got
        assert got.reasons == (ReasonCode.ECONOMICS,)
        guard = got.guard
    return None, None


def test_asleep_it_wakes_when_the_margins_forgone_add_up_to_a_wake():
    hour, got = hours_until_it_moves(EARNS - 3.0, counts(on=0, off=10))
    assert hour == 4  # 3 $/MWh: 12 $/MW after four hours, the account is 10
    assert got.targets[0, FULL] == 10


def test_awake_it_sleeps_when_the_losses_add_up_to_a_wake():
    hour, got = hours_until_it_moves(EARNS + 2.5, counts(on=10))
    assert hour == 4
    assert got.targets[0, OFF] == 10


def test_without_a_margin_it_never_moves():
    assert hours_until_it_moves(EARNS, counts(on=5, off=5))[0] is None


def test_a_spell_that_ends_is_forgotten_and_half_a_group_books_half():
    compiled = compile_policy(policy())
    guard = GuardState.empty(compiled)
    for price in (98.0, 98.0, 101.0, 98.0):
        guard = asked(compiled, counts(on=0, off=10), price, guard=guard, elapsed_h=1.0).guard
    assert guard["forgone_usd_per_mw"].tolist() == pytest.approx([2.0])
    half = asked(compiled, counts(on=5, off=5), 98.0, guard=GuardState.empty(compiled), elapsed_h=1.0).guard
    assert half["forgone_usd_per_mw"].tolist() == pytest.approx([1.0])


def test_a_new_merit_order_does_not_swap_the_accounts():
    two = (group("a"), group("b"))
    before = compile_policy(policy(block("a", order=0), block("b", order=1), groups=two))
    after = compile_policy(policy(block("a", order=1), block("b", order=0), groups=two))
    present = counts(on=0, off=10, groups=2)
    present[1] = counts(on=10)[0]  # b is on: only a forgoes
    guard = asked(before, present, 97.0, guard=GuardState.empty(before), elapsed_h=2.0).guard
    assert guard["forgone_usd_per_mw"].tolist() == pytest.approx([6.0, 0.0])
    assert not guard.fits(after)
    carried = asked(after, present, 97.0, guard=guard, elapsed_h=0.0).guard
    assert carried["forgone_usd_per_mw"].tolist() == pytest.approx([0.0, 6.0])


def test_a_poor_step_under_a_rich_one_is_not_put_to_sleep():
    """Eco alone earns 60 $/MWh and full on top of it 140: together 100."""
    steps = tuple(
        LadderStep(state=s, power_kw=kw, revenue_usd_per_device_hour=Affine(offset=usd))
        for s, kw, usd in ((OFF, 0.0, 0.0), (ECO, 0.5, 0.030), (FULL, 1.0, 0.100))
    )
    pooled = policy(
        block(state=ECO).model_copy(update={"mw": 0.005}),
        block(state=FULL, below=ECO, order=1).model_copy(update={"mw": 0.005}),
        groups=(PolicyGroup(group_id="a", feeder_id="f1", devices=10, ladder=steps),),
    )
    compiled = compile_policy(pooled)
    guard, present = GuardState.empty(compiled), counts(on=10)
    for _ in range(10):
        got = asked(compiled, present, 90.0, guard=guard, elapsed_h=1.0)
        assert np.array_equal(got.targets, present)
        guard = got.guard
    for _ in range(10):
        guard = asked(compiled, present, 103.0, guard=guard, elapsed_h=1.0).guard
    assert asked(compiled, present, 103.0, guard=guard).targets[0, OFF] == 10


def test_a_guard_that_wakes_does_not_break_a_cap():
    compiled = compile_policy(policy(couplings=Couplings(cap_mw=0.004)))
    guard = GuardState.empty(compiled)
    for _ in range(6):
        got = asked(compiled, counts(on=0, off=10), 97.0, guard=guard, elapsed_h=1.0)
        guard = got.guard
    assert got.targets[0, FULL] == 4
    assert got.binding == ("cap",)


# -- evaluation, by hand ----------------------------------------------------------------------------------------------


def test_a_move_beyond_the_bound_asks_for_a_new_policy():
    compiled = compile_policy(policy())
    present = counts(on=10)
    assert asked(compiled, present, 50.0, index=54.9).needs_resolve == ()
    assert asked(compiled, present, 50.0, index=55.1).needs_resolve == ("hashprice",)
    assert asked(compiled, present, 50.0, index=44.9).needs_resolve == ("hashprice",)


def test_an_index_that_was_zero_has_moved_when_it_is_not():
    anchor = Anchor(
        decision_price_usd_per_mwh=50.0, indices={"hashprice": 0.0}, devices_by_state={}, target_by_state={}
    )
    compiled = compile_policy(policy(anchor=anchor))
    assert asked(compiled, counts(on=10), 50.0, index=1.0).needs_resolve == ("hashprice",)


def test_adders_count_in_their_interval_only():
    adder = Adder(start=NOW, end=NOW + timedelta(minutes=15), usd_per_mwh=100.0)
    later = Adder(start=NOW + timedelta(minutes=15), end=NOW + timedelta(hours=1), usd_per_mwh=500.0)
    compiled = compile_policy(policy(adders=(adder, later)))
    assert asked(compiled, counts(on=10), 50.0).targets[0, OFF] == 10
    assert asked(compiled, counts(on=10), -70.0).targets[0, FULL] == 10


def test_an_obligation_is_kept_before_dearer_load_that_does_not_count_for_it():
    """The GPUs earn more, but only the miners are sold as interruptible load."""
    two = (group("gpu"), group("asic"))
    caps = Couplings(cap_mw=0.012, floor_mw=0.008, sheddable=("asic",), feeder_caps_mw={"f1": 1.0})
    blocks = (block("gpu", on=500.0, off=600.0), block("asic", on=20.0, off=30.0, order=1))
    compiled = compile_policy(policy(*blocks, groups=two, couplings=caps))
    got = asked(compiled, counts(on=0, off=10, groups=2), 100.0)
    assert got.targets[:, FULL].tolist() == [4, 8]
    assert set(got.binding) == {"cap", "floor"}


def test_the_floor_does_not_overload_a_feeder():
    caps = Couplings(cap_mw=1.0, floor_mw=0.009, feeder_caps_mw={"f1": 0.005})
    got = asked(compile_policy(policy(couplings=caps)), counts(on=0, off=10), 500.0)
    assert got.targets[0, FULL] == 5
    assert set(got.binding) == {"feeder f1", "floor"}


def test_a_step_that_no_block_speaks_of_goes_down_with_the_one_below():
    ladder = ((OFF, 0.0), (ECO, 0.5), (FULL, 1.0))
    compiled = compile_policy(policy(block(state=ECO), groups=(group(ladder=ladder),)))
    stays = asked(compiled, counts(on=10), 100.0)
    assert stays.targets[0, FULL] == 10
    falls = asked(compiled, counts(on=10), 500.0)
    assert falls.targets[0].tolist() == counts(on=0, off=10)[0].tolist()


def test_at_the_cap_what_runs_keeps_its_place_against_what_is_worth_little_more():
    two = (group("a"), group("b"))
    caps = Couplings(cap_mw=0.010, feeder_caps_mw={"f1": 1.0})
    blocks = (block("a", on=90.0, off=110.0), block("b", on=88.0, off=108.0, order=1))
    compiled = compile_policy(policy(*blocks, groups=two, couplings=caps))
    b_runs = counts(on=0, off=10, groups=2)
    b_runs[1] = counts(on=10)[0]
    assert np.array_equal(asked(compiled, b_runs, 50.0).targets, b_runs)
    nobody = asked(compiled, counts(on=0, off=10, groups=2), 50.0).targets
    assert nobody[:, FULL].tolist() == [10, 0]
    assert load_mw(compiled, nobody) == pytest.approx(0.010)


# -- admission --------------------------------------------------------------------------------------------------------


def context(**changes):
    fields = {
        "now": NOW, "facility_id": "f", "inventory_generation": 2, "obligations_version": 0,
        "basis_tick_id_in_force": 6, "site_cap_mw": 1.0, "feeder_caps_mw": {"f1": 1.0},
        "max_input_age_s": {"power.rt_lmp": 60.0},
    }  # fmt: skip
    return AdmissionContext(**fields | changes)


def test_a_sound_policy_is_admitted():
    found = policy()
    assert admit(found, context(digest=found.digest())) == Admitted()


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("facility", {"facility_id": "other"}),
        ("generation", {"inventory_generation": 3}),
        ("obligations", {"obligations_version": 1}),
        ("digest", {"digest": "0" * 64}),
        ("basis", {"basis_tick_id_in_force": 7}),
        ("expired", {"now": NOW + timedelta(hours=6)}),
        ("stale", {"max_input_age_s": {"power.rt_lmp": 29.0}}),
        ("stale", {"max_input_age_s": {"btc.usd": 600.0}}),
        ("cap", {"site_cap_mw": 0.9}),
        ("floor", {"armed_floor_mw": 0.1}),
        ("feeder", {"feeder_caps_mw": {"f1": 0.9}}),
    ],
)
def test_each_reason_to_refuse_has_its_code(code, changes):
    found = admit(policy(), context(**changes))
    assert isinstance(found, Refused)
    assert found.code == code
    assert found.reason


def test_inputs_grow_old_while_a_policy_waits():
    for waited_s, verdict in ((30.0, Admitted), (31.0, Refused)):  # they were 30 s old at the solve, the limit is 60 s
        assert isinstance(admit(policy(), context(now=NOW + timedelta(seconds=waited_s))), verdict)
    late = context(now=NOW + timedelta(hours=2), fresh_at=NOW)
    assert admit(policy(), late) == Admitted(), "judged when it came"


def test_a_policy_without_a_limit_for_a_feeder_it_uses_is_refused():
    found = admit(policy(couplings=Couplings(cap_mw=1.0)), context())
    assert isinstance(found, Refused)
    assert found.code == "feeder"


def test_a_feeder_the_policy_has_nothing_on_is_no_matter():
    assert admit(policy(), context(feeder_caps_mw={"f1": 1.0, "f9": 0.5})) == Admitted()


def test_blocks_out_of_merit_order_are_refused():
    found = admit(policy(block(on=50.0, order=0, devices=5), block(on=60.0, order=1, devices=5)), context())
    assert isinstance(found, Refused)
    assert found.code == "order"


def test_a_jump_beyond_the_limit_waits_for_a_person():
    assert admit(policy(), context(jump_mw=3.0, max_policy_jump_mw=2.0)) == NeedsApproval(3.0, 2.0)


def test_a_ladder_that_falls_is_no_policy():
    with pytest.raises(ValueError, match="rising power"):
        group(ladder=((OFF, 0.0), (ECO, 1.0), (FULL, 0.5)))


@pytest.mark.parametrize("changes", [{"basis_tick_id": 10**30}, {"input_age_s": {"power.rt_lmp": 1e300}}])
def test_numbers_beyond_all_reason_are_no_policy(changes):
    with pytest.raises(ValidationError, match="beyond 1e"):
        policy(**changes)
    with pytest.raises(ValidationError, match="beyond 1e"):
        Couplings(cap_mw=1.0, floor_mw=1e308)


def test_a_margin_that_was_none_does_not_stay_on_account():
    compiled = compile_policy(policy())
    state = GuardState(np.full_like(GuardState.empty(compiled).accounts, np.nan), compiled.block_keys)
    got = asked(compiled, counts(on=10), 50.0, guard=state, elapsed_h=1.0)
    assert np.isfinite(got.guard.accounts).all()
