"""Why a facility does what it does: true at the price, and at the prices that are said to change it."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcp_pipelines.allocator.explain import explained
from hcp_pipelines.allocator.preview import with_lock, with_policy
from hcp_pipelines.allocator.standing import Lockout
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.modes import ControlMode
from hcp_pipelines.optimizer.explain_page import curve, page
from hcp_pipelines.optimizer.explain_words import lines_of
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.directives import Kind
from hcp_pipelines.policy.explaining import STEP_USD_PER_MWH, at_anchor
from tests.unit.test_allocator_preview import ordered, situation

prices = st.floats(-200, 2000)


@settings(max_examples=40, deadline=None)
@given(prices)
def test_what_is_said_to_change_the_answer_does_and_nothing_before_it(price):
    base = situation(30.0)
    found = explained(base, price).explanation
    for change, sign in ((found.rises_at, -1), (found.falls_at, 1)):
        if change is None:
            continue
        there = change.price_usd_per_mwh + 2 * sign * STEP_USD_PER_MWH
        assert explained(base, there).explanation.mw_then == pytest.approx(found.mw_then + change.mw, abs=1e-9)
        between = price + 0.5 * (change.price_usd_per_mwh - price)
        assert explained(base, between).explanation.mw_then == pytest.approx(found.mw_then, abs=1e-9)
        assert change.mw * sign <= 0 or change.mw == 0


def test_blocks_are_in_merit_order_with_their_devices_and_words():
    found = explained(situation(30.0)).explanation
    worth = [b.worth_usd_per_mwh for b in found.blocks]
    assert worth == sorted(worth, reverse=True)
    assert found.mw_now == found.mw_then
    assert found.binding == ()
    assert found.shadow_usd_per_mwh == 0.0
    assert {b.word for b in found.blocks} <= {"on: the price is below its on-strike", "stays as it is: inside its band"}
    dear = explained(situation(30.0), 4000.0).explanation
    assert {b.word for b in dear.blocks} == {"off: the price is above its off-strike"}
    assert dear.falls_at is None
    assert dear.rises_at.mw > 0
    assert dear.usd_per_hour_then > dear.usd_per_hour_now


def test_a_limit_that_binds_has_the_worth_of_the_next_megawatt():
    base = situation(30.0)
    couplings = base.in_force.policy.couplings.model_copy(update={"cap_mw": 0.6 * explained(base).explanation.mw_now})
    policy = base.in_force.policy.model_copy(update={"couplings": couplings})
    bound = with_policy(base, dataclasses.replace(base.in_force, policy=policy, compiled=compile_policy(policy)))
    found = explained(bound).explanation
    assert found.binding == ("cap",)
    kept_out = [b for b in found.blocks if "wanted and not on: cap" in b.word]
    assert found.shadow_usd_per_mwh == pytest.approx(max(b.margin_usd_per_mwh for b in kept_out))
    assert any("cap binds: another megawatt would earn" in line for line in lines_of(found))


def test_what_goes_before_the_price_is_said():
    base = ordered(situation(), Kind.CURTAIL, cap_mw=1.0)
    base = with_lock(base, Lockout(3, "ann", "hands inside", "site"))
    base = dataclasses.replace(base, site=dataclasses.replace(base.site, control_mode=ControlMode.OBSERVE))
    words = " | ".join(explained(base).over_it)
    assert "x/0 (curtail) by preview: why" in words
    assert "lockout/3 (site) by ann: hands inside" in words
    assert "observe: the policy is not carried out" in words


def test_without_a_policy_or_a_price_it_says_what_to_do():
    base = situation()
    with pytest.raises(ConfigError, match=r"no admitted policy.*hcp policy show"):
        explained(dataclasses.replace(base, in_force=None))
    with pytest.raises(ConfigError, match=r"no price of .* yet.*--price"):
        explained(dataclasses.replace(base, book=type(base.book)()))
    assert explained(dataclasses.replace(base, book=type(base.book)()), 40.0).explanation.price_usd_per_mwh == 40.0


def test_the_page_has_every_block_and_the_price_and_needs_no_network():
    found = explained(situation(30.0))
    one = found.explanation
    text = page(one, found.over_it)
    assert "price 30.00" in text
    assert text.count("<tr>") == len(one.blocks) + 1
    assert 'src="http' not in text
    figure = curve(one)
    assert sum(len(bar.x) for bar in figure.data if bar.type == "bar") == len(one.blocks)
    assert max(figure.data[-1].x) == pytest.approx(sum(b.mw for b in one.blocks))
    lowest, highest = figure.layout.yaxis.range  # GPUs at $1,600 a MWh leave room for miners' strikes around $100
    miners = [b for b in one.blocks if b.group_id != "h100"]
    assert (
        lowest
        <= 30.0
        < max(b.off_usd_per_mwh for b in miners)
        < highest
        < 300
        < max(b.worth_usd_per_mwh for b in one.blocks)
    )
    assert "above what is shown: h100 at 1,598" in figure.layout.title.text
    scarce = explained(situation(30.0), 1000.0).explanation
    assert curve(scarce).layout.yaxis.range is None, "where the price is that high, all of it is shown"


def test_a_policy_explains_itself_as_it_was_solved():
    compiled = situation(30.0).in_force.compiled
    found = at_anchor(compiled)
    target = compiled.policy.anchor.target_by_state
    asked = sum(
        n for states in target.values() for label, n in states.items() if label in {b.to_state for b in found.blocks}
    )
    assert sum(b.on_then for b in found.blocks) >= asked
    assert found.price_usd_per_mwh == compiled.policy.anchor.decision_price_usd_per_mwh
    assert np.isfinite(found.usd_per_hour_then)
